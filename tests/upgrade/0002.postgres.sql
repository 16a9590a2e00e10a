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
    version integer NOT NULL
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
CREATE TABLE public.revisions (
    app_id text NOT NULL,
    version integer NOT NULL,
    digest text NOT NULL,
    deployed_at double precision NOT NULL,
    provenance text NOT NULL,
    spec text,
    sealed_env text
);
CREATE TABLE public.zygo_version (
    version_num character varying(32) NOT NULL
);
INSERT INTO public.apps VALUES ('ap-YnlvlSUSL85bOThODNw7Fl', 'hello', 'stopped', 1.5, 2.5, 1);
INSERT INTO public.apps VALUES ('ap-yrBVi4qpiAnfsRzAW88bZu', 'hello', 'deployed', 11, NULL, 4);
INSERT INTO public.apps VALUES ('ap-rcnDmyAU7YtSJwP9xMPmqv', 'another', 'deployed', 20, NULL, 1);
INSERT INTO public.calls VALUES ('fc-one', 'ap-yrBVi4qpiAnfsRzAW88bZu', 'hello', 'plain', 'fu-1', '3.11.2', 30, 1, 1, NULL, NULL, false);
INSERT INTO public.calls VALUES ('fc-many', 's-gone', 'dev', 'plain', 'fu-2', '3.9.1', 30, 3, 1, 40, 604840, false);
INSERT INTO public.facts VALUES ('key_fingerprint', 'ba14a2c4f0a4a8c032ba04613c92df47');
INSERT INTO public.inputs VALUES (1, 'fc-one', 0, 'fu-1', 'pending', 30, 0, 0, 'i', '\x006f6e65', NULL);
INSERT INTO public.inputs VALUES (4, 'fc-many', 2, 'fu-2', 'pending', 50, 1, 2, 'i', '\x32', NULL);
INSERT INTO public.inputs VALUES (2, 'fc-many', 0, 'fu-2', 'succeeded', 30, 0, 0, 'v', '\xff726573756c74', NULL);
INSERT INTO public.inputs VALUES (3, 'fc-many', 1, 'fu-2', 'failed', 30, 0, 0, 'e', NULL, 'abababababababababababababababababababababababababababababababab');
INSERT INTO public.revisions VALUES ('ap-YnlvlSUSL85bOThODNw7Fl', 1, 'd0', 1.5, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', NULL, NULL);
INSERT INTO public.revisions VALUES ('ap-yrBVi4qpiAnfsRzAW88bZu', 3, 'd3', 13, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', '{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==3"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0303030303030303030303030303030303030303030303030303030303030303",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null}],"files":[{"remote_path":"/root/hello.py","sha256":"03030303030303030303030303030303030303030303030303030303030303aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}', 'gAAAAABrBjY4gAVn-CeJjibEmB9JwPumMvXTfmYzRE1pyww7MVU-VvI5-hoQWteyzsPvWlIigPqK06MgTC9srF9SsRJekD__ir2i1YbF69-jl211kFpoXOSCut5U_NSHQ_NDF86YqhFtaIurelTxy7bhGk_zx95D0GxxPiJvjVTFrPHJia5HZNB2zDMkACYRvt4d59iBKtU_');
INSERT INTO public.revisions VALUES ('ap-yrBVi4qpiAnfsRzAW88bZu', 4, 'd4', 14, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', '{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==4"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0404040404040404040404040404040404040404040404040404040404040404",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null}],"files":[{"remote_path":"/root/hello.py","sha256":"04040404040404040404040404040404040404040404040404040404040404aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}', 'gAAAAABrBjY4d3x2WMq4UVPIPiORnNZsDPlt2Zgfktop3QroR0W1f_6_YKQmFB0LsMwJ7vTBIvaJ3kp-cUFr4CP9S9ujkp5kE1rTUeaHqYWI23uqJxfkXMoCZLi-l7c3seUIrtpaOEtqx6uRMGMBw-JUEBjundC6-lJR5gZLDbPp5pQwtJ-Xw8xlMOnjPXwhtxPoCoTCoHb3');
INSERT INTO public.revisions VALUES ('ap-yrBVi4qpiAnfsRzAW88bZu', 1, 'd1', 11, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', NULL, NULL);
INSERT INTO public.revisions VALUES ('ap-yrBVi4qpiAnfsRzAW88bZu', 2, 'd2', 12, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', NULL, NULL);
INSERT INTO public.revisions VALUES ('ap-rcnDmyAU7YtSJwP9xMPmqv', 1, 'd5', 20, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', '{"name":"another","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==5"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0505050505050505050505050505050505050505050505050505050505050505",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null}],"files":[{"remote_path":"/root/hello.py","sha256":"05050505050505050505050505050505050505050505050505050505050505aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}', 'gAAAAABrBjY4qKfBuWewY8oKr3WKZ0NL_MuvHAzdlGOVelIXTmgY_OnjVN44VczJ2jycKxQ_AnAaYOsi_dL1lVLtod1H-eR27dNiMIGs9H5HbA4KnksZfuPo7SS9T6Fs-wusf1MFa0BaavbF6dnEH7HVnx81885iEsIRX04meTk7IKAbwR4hc0wkczaHk8IjBfeGb3tXbiD8');
INSERT INTO public.zygo_version VALUES ('0002');
ALTER TABLE ONLY public.apps
    ADD CONSTRAINT apps_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.calls
    ADD CONSTRAINT calls_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.facts
    ADD CONSTRAINT facts_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.inputs
    ADD CONSTRAINT inputs_pkey PRIMARY KEY ("position");
ALTER TABLE ONLY public.revisions
    ADD CONSTRAINT revisions_pkey PRIMARY KEY (app_id, version);
ALTER TABLE ONLY public.zygo_version
    ADD CONSTRAINT zygo_version_pkey PRIMARY KEY (version_num);
CREATE UNIQUE INDEX apps_deployed_name ON public.apps USING btree (name) WHERE (state = 'deployed'::text);
CREATE INDEX calls_expiry ON public.calls USING btree (expires_at);
CREATE INDEX calls_open ON public.calls USING btree (owner) WHERE (open > 0);
CREATE INDEX inputs_due ON public.inputs USING btree (function_id, due_at, "position") WHERE (state = 'pending'::text);
CREATE UNIQUE INDEX inputs_of_call ON public.inputs USING btree (call_id, number);
ALTER TABLE ONLY public.inputs
    ADD CONSTRAINT inputs_call_id_fkey FOREIGN KEY (call_id) REFERENCES public.calls(id);
ALTER TABLE ONLY public.revisions
    ADD CONSTRAINT revisions_app_id_fkey FOREIGN KEY (app_id) REFERENCES public.apps(id);
