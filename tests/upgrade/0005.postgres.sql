SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.apps (
    id text NOT NULL,
    name text NOT NULL,
    state text NOT NULL,
    created_at double precision NOT NULL,
    stopped_at double precision,
    version integer NOT NULL,
    environment text DEFAULT 'main'::text NOT NULL
);
CREATE TABLE public.audit (
    id text NOT NULL,
    at double precision NOT NULL,
    who text NOT NULL,
    token_id text NOT NULL,
    address text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    outcome text NOT NULL,
    detail text NOT NULL
);
CREATE TABLE public.calls (
    id text NOT NULL,
    owner text NOT NULL,
    app text NOT NULL,
    function text NOT NULL,
    function_id text NOT NULL,
    python text NOT NULL,
    created_at double precision NOT NULL,
    inputs integer NOT NULL,
    open integer NOT NULL,
    finished_at double precision,
    expires_at double precision,
    expired boolean NOT NULL
);
CREATE TABLE public.environments (
    id text NOT NULL,
    name text NOT NULL,
    web_suffix text NOT NULL,
    created_at double precision NOT NULL
);
CREATE TABLE public.facts (
    name text NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.inputs (
    "position" bigint NOT NULL,
    call_id text NOT NULL,
    number integer NOT NULL,
    function_id text NOT NULL,
    state text NOT NULL,
    due_at double precision NOT NULL,
    failures integer NOT NULL,
    losses integer NOT NULL,
    kind text,
    payload bytea,
    payload_file text
);
CREATE TABLE public.proxy_tokens (
    id text NOT NULL,
    digest text NOT NULL,
    created_at double precision NOT NULL
);
CREATE TABLE public.revisions (
    app_id text NOT NULL,
    version integer NOT NULL,
    digest text NOT NULL,
    deployed_at double precision NOT NULL,
    provenance text NOT NULL,
    spec text,
    sealed_env text
);
CREATE TABLE public.secrets (
    environment text NOT NULL,
    name text NOT NULL,
    keys text NOT NULL,
    sealed_values text NOT NULL,
    stamp text NOT NULL,
    created_at double precision NOT NULL,
    updated_at double precision NOT NULL
);
CREATE TABLE public.tokens (
    id text NOT NULL,
    name text NOT NULL,
    scopes text NOT NULL,
    hash text NOT NULL,
    created_at double precision NOT NULL,
    created_by text NOT NULL,
    expires_at double precision,
    last_used_at double precision,
    old_hash text,
    old_until double precision
);
CREATE TABLE public.zygo_version (
    version_num character varying(32) NOT NULL
);
INSERT INTO public.apps VALUES ('ap-mR19sQLe6SeAeJLntCS4GT', 'hello', 'stopped', 1.5, 2.5, 1, 'main');
INSERT INTO public.apps VALUES ('ap-avPj2X1Y4UFhKEDhqMV2dD', 'hello', 'deployed', 11, NULL, 4, 'main');
INSERT INTO public.apps VALUES ('ap-MAawrw46FqBCgdRo4VFlDN', 'another', 'deployed', 20, NULL, 1, 'main');
INSERT INTO public.apps VALUES ('ap-9i7Zepe6Fo81VTPHB0rfnZ', 'hello', 'deployed', 60, NULL, 1, 'en-1');
INSERT INTO public.audit VALUES ('au-1', 4.5, 'ci', '0a1b', '10.0.0.1', 'deploy', 'hello', 'published', '{"version": 2}');
INSERT INTO public.calls VALUES ('fc-one', 'ap-avPj2X1Y4UFhKEDhqMV2dD', 'hello', 'plain', 'fu-1', '3.11.2', 30, 1, 1, NULL, NULL, false);
INSERT INTO public.calls VALUES ('fc-many', 's-gone', 'dev', 'plain', 'fu-2', '3.9.1', 30, 3, 1, 40, 604840, false);
INSERT INTO public.environments VALUES ('main', 'main', '', 0.5);
INSERT INTO public.environments VALUES ('en-1', 'staging', 'stage', 5.5);
INSERT INTO public.facts VALUES ('key_fingerprint', 'd2dee7b8a40efa278bc7977ca164b1d0');
INSERT INTO public.inputs VALUES (1, 'fc-one', 0, 'fu-1', 'pending', 30, 0, 0, 'i', '\x006f6e65', NULL);
INSERT INTO public.inputs VALUES (4, 'fc-many', 2, 'fu-2', 'pending', 50, 1, 2, 'i', '\x32', NULL);
INSERT INTO public.inputs VALUES (2, 'fc-many', 0, 'fu-2', 'succeeded', 30, 0, 0, 'v', '\xff726573756c74', NULL);
INSERT INTO public.inputs VALUES (3, 'fc-many', 1, 'fu-2', 'failed', 30, 0, 0, 'e', NULL, 'abababababababababababababababababababababababababababababababab');
INSERT INTO public.revisions VALUES ('ap-mR19sQLe6SeAeJLntCS4GT', 1, 'd0', 1.5, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', NULL, NULL);
INSERT INTO public.revisions VALUES ('ap-avPj2X1Y4UFhKEDhqMV2dD', 3, 'd3', 13, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', '{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==3"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0303030303030303030303030303030303030303030303030303030303030303",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1","port":0,"startup_timeout":5.0},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false}],"files":[{"remote_path":"/root/hello.py","sha256":"03030303030303030303030303030303030303030303030303030303030303aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}', 'gAAAAABrDJEyGm9WWwbWg4CRNXhDfEYzj7NePXAG77-YdQ6CsmpZ8w8daTrKmuzgd7K58iJ4las_PqVGX4x6eQxA9BT5NcwZA36E8CS99ror2r6m5xvmmmlMgo6XlH6FVH_PUUeFsRa6SbAbE-LQmZq880WffXEeDn6fuOV4Pf1o4NuHoHJW3169Op4E143qcNz1CW_wtIre');
INSERT INTO public.revisions VALUES ('ap-avPj2X1Y4UFhKEDhqMV2dD', 4, 'd4', 14, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', '{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==4"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0404040404040404040404040404040404040404040404040404040404040404",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1","port":0,"startup_timeout":5.0},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false}],"files":[{"remote_path":"/root/hello.py","sha256":"04040404040404040404040404040404040404040404040404040404040404aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}', 'gAAAAABrDJEy7uSdD98wo3e63Zy4zuIVcgQxbWtS_8xpJa8MubUwEkI-jglWXQ2tCzsX3Bw_TvI6KlVC4bv9dRpbiYj8N0Lez7A7JsSuG3nD5t42bOu5u7LMrsoIObCnYdqLmGfmQRCdMjjrc_w2_HggXmhzQrJRhpj2WGy04e4lHcfPEgdYSczm3vXdxVtbybP8q_Ae_lZ1');
INSERT INTO public.revisions VALUES ('ap-avPj2X1Y4UFhKEDhqMV2dD', 1, 'd1', 11, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', NULL, NULL);
INSERT INTO public.revisions VALUES ('ap-avPj2X1Y4UFhKEDhqMV2dD', 2, 'd2', 12, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', NULL, NULL);
INSERT INTO public.revisions VALUES ('ap-MAawrw46FqBCgdRo4VFlDN', 1, 'd5', 20, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', '{"name":"another","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==5"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0505050505050505050505050505050505050505050505050505050505050505",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1","port":0,"startup_timeout":5.0},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false}],"files":[{"remote_path":"/root/hello.py","sha256":"05050505050505050505050505050505050505050505050505050505050505aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}', 'gAAAAABrDJEyfydQLUKPsnZG5gUsuH0uPXJzlFBov8w5lR7FWR_czLx1XcW0AqJCCTcr4Owavsg5cJJGwfVGZt9Im8B3sSvaSdJI4lpUAOX7NCqWGwhmC1viT3gkV7gMzI-aYh9VPpIYwKVMozEx96fhcIl7Kr6Qu99n4xCqUZMwYeK7_H8lxga9XZ6-rEQSlk_V4ZTHenIc');
INSERT INTO public.revisions VALUES ('ap-9i7Zepe6Fo81VTPHB0rfnZ', 1, 'd6', 60, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', '{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==6"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0606060606060606060606060606060606060606060606060606060606060606",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1","port":0,"startup_timeout":5.0},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false}],"files":[{"remote_path":"/root/hello.py","sha256":"06060606060606060606060606060606060606060606060606060606060606aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}', 'gAAAAABrDJEzeQXwSRsoHtOkPrgE7V-6G-wCVs5S89X1LOYbz4Q30DxguetMWp_Nl2V1A5NlxGcut2YoyBnaAcQ3MoLtgbm1LORt6k-ttu9sGyK8__PtEKbSJByDKCJ2TJm-URpQ3MLnIsyikUTHh9QxROkGRVb64uRkxF6s0utcdEb0mN8iUxITaKdSSBbKrtH_vxtyK7r8');
INSERT INTO public.secrets VALUES ('en-1', 'database', '["PASSWORD", "USER"]', 'gAAAAABrDJEzxzGBDl48ClTTFZDBhNq-BHwsiNl6pPeajwSSYmpUQtp7tabxD-_RLI5lZZDaeBE7w8szg5KdLpMRuUQYEzcW2R-MYCNT7de_3BXl14pUiknLxN9BLx-oCDYt-LraGknrVYPdknlTPtok7hJbCdzqOA==', 's1', 6.5, 7.5);
INSERT INTO public.tokens VALUES ('0a1b', 'ci', 'read call', 'abababababababababababababababababababababababababababababababab', 1.5, 'local:ada', 9000000000, 2.5, 'cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd', 3.5);
INSERT INTO public.zygo_version VALUES ('0005');
ALTER TABLE ONLY public.apps
    ADD CONSTRAINT apps_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.calls
    ADD CONSTRAINT calls_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.environments
    ADD CONSTRAINT environments_name_key UNIQUE (name);
ALTER TABLE ONLY public.environments
    ADD CONSTRAINT environments_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.environments
    ADD CONSTRAINT environments_web_suffix_key UNIQUE (web_suffix);
ALTER TABLE ONLY public.facts
    ADD CONSTRAINT facts_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.inputs
    ADD CONSTRAINT inputs_pkey PRIMARY KEY ("position");
ALTER TABLE ONLY public.proxy_tokens
    ADD CONSTRAINT proxy_tokens_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.revisions
    ADD CONSTRAINT revisions_pkey PRIMARY KEY (app_id, version);
ALTER TABLE ONLY public.secrets
    ADD CONSTRAINT secrets_pkey PRIMARY KEY (environment, name);
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_name_key UNIQUE (name);
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.zygo_version
    ADD CONSTRAINT zygo_version_pkey PRIMARY KEY (version_num);
CREATE UNIQUE INDEX apps_deployed_name ON public.apps USING btree (environment, name) WHERE (state = 'deployed'::text);
CREATE INDEX audit_at ON public.audit USING btree (at);
CREATE INDEX calls_expiry ON public.calls USING btree (expires_at);
CREATE INDEX calls_open ON public.calls USING btree (owner) WHERE (open > 0);
CREATE INDEX inputs_due ON public.inputs USING btree (function_id, due_at, "position") WHERE (state = 'pending'::text);
CREATE UNIQUE INDEX inputs_of_call ON public.inputs USING btree (call_id, number);
ALTER TABLE ONLY public.inputs
    ADD CONSTRAINT inputs_call_id_fkey FOREIGN KEY (call_id) REFERENCES public.calls(id);
ALTER TABLE ONLY public.revisions
    ADD CONSTRAINT revisions_app_id_fkey FOREIGN KEY (app_id) REFERENCES public.apps(id);
ALTER TABLE ONLY public.secrets
    ADD CONSTRAINT secrets_environment_fkey FOREIGN KEY (environment) REFERENCES public.environments(id);
