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
CREATE TABLE public.facts (
    name text NOT NULL,
    value text NOT NULL
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
INSERT INTO public.apps VALUES ('ap-c1YKylwEfPCwf74BE78JUi', 'hello', 'stopped', 1.5, 2.5, 1);
INSERT INTO public.apps VALUES ('ap-6qx50f0vY9rYRIsfgcFqy5', 'hello', 'deployed', 11, NULL, 4);
INSERT INTO public.apps VALUES ('ap-tFpqCdHXdhXgnPyzWYzkg9', 'another', 'deployed', 20, NULL, 1);
INSERT INTO public.audit VALUES ('au-1', 4.5, 'ci', '0a1b', '10.0.0.1', 'deploy', 'hello', 'published', '{"version": 2}');
INSERT INTO public.facts VALUES ('key_fingerprint', '09afe2cd847b648c0f0e85e5c02e63bf');
INSERT INTO public.revisions VALUES ('ap-c1YKylwEfPCwf74BE78JUi', 1, 'd0', 1.5, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', NULL, NULL);
INSERT INTO public.revisions VALUES ('ap-6qx50f0vY9rYRIsfgcFqy5', 3, 'd3', 13, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', '{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==3"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0303030303030303030303030303030303030303030303030303030303030303",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null}],"files":[{"remote_path":"/root/hello.py","sha256":"03030303030303030303030303030303030303030303030303030303030303aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}', 'gAAAAABrBjrvU0vjSM9mP_TuTBVpCEYhnBxQvPeNtJn6nfICH1KvuXoBnj78csXEfbdSg7fZpNqt_KKF3xgl1OZhparFlpIpGOo5Q43iOeNSDrfVvrE-ae8Ys2NG3o_QaKa_1WND2xEHPQ268hlw8eD4HaEzKGjJe7yMblz-sHxD-m6qoKqnOJH1eZ67zWyLCv0YsAwqD0Hm');
INSERT INTO public.revisions VALUES ('ap-6qx50f0vY9rYRIsfgcFqy5', 4, 'd4', 14, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', '{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==4"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0404040404040404040404040404040404040404040404040404040404040404",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null}],"files":[{"remote_path":"/root/hello.py","sha256":"04040404040404040404040404040404040404040404040404040404040404aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}', 'gAAAAABrBjrvaurhAz8tYx8Gffd0xOR3EspfVpBvjVWzSGV70DYMtLq90j2WKF4vyV9v8iVwuyCh6xttDXH8ZJfN0o-8WhE4eeN-CalB_4ozF2oRIxTcKiiLqsPgudABq4yJIUgvmMxLN6N0NVZGb2VGt7dPf4X5HwA8t88WZVrJCr_z4UvpKh15J5EmsiBlXmJOhgmwJHja');
INSERT INTO public.revisions VALUES ('ap-6qx50f0vY9rYRIsfgcFqy5', 1, 'd1', 11, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', NULL, NULL);
INSERT INTO public.revisions VALUES ('ap-6qx50f0vY9rYRIsfgcFqy5', 2, 'd2', 12, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', NULL, NULL);
INSERT INTO public.revisions VALUES ('ap-tFpqCdHXdhXgnPyzWYzkg9', 1, 'd5', 20, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', '{"name":"another","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==5"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0505050505050505050505050505050505050505050505050505050505050505",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null}],"files":[{"remote_path":"/root/hello.py","sha256":"05050505050505050505050505050505050505050505050505050505050505aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}', 'gAAAAABrBjrvS7hWS2cHXh3YEk3QbbNzmehOcMQhMuNbzhkeaalIZj5HImxQhiI-9etqxNg6YRgxOeyWgvmU0KmEDmHekyPdICJnWFsUG8VyolNbMmG3wdDK6ceo6sRfRQfB8j-G0TkzYHFR_u9IwiwMc5BEH7pDYIiP2NDN6gEt3ehxT8oP1fgUas4xv14gM7DcdpjxUV5s');
INSERT INTO public.tokens VALUES ('0a1b', 'ci', 'read call', 'abababababababababababababababababababababababababababababababab', 1.5, 'local:ada', 9000000000, 2.5, 'cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd', 3.5);
INSERT INTO public.zygo_version VALUES ('0004');
ALTER TABLE ONLY public.apps
    ADD CONSTRAINT apps_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.facts
    ADD CONSTRAINT facts_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.revisions
    ADD CONSTRAINT revisions_pkey PRIMARY KEY (app_id, version);
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_name_key UNIQUE (name);
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.zygo_version
    ADD CONSTRAINT zygo_version_pkey PRIMARY KEY (version_num);
CREATE UNIQUE INDEX apps_deployed_name ON public.apps USING btree (name) WHERE (state = 'deployed'::text);
CREATE INDEX audit_at ON public.audit USING btree (at);
ALTER TABLE ONLY public.revisions
    ADD CONSTRAINT revisions_app_id_fkey FOREIGN KEY (app_id) REFERENCES public.apps(id);
