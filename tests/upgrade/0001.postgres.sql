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
CREATE TABLE public.zygo_version (
    version_num character varying(32) NOT NULL
);
INSERT INTO public.apps VALUES ('ap-tkZYHQs0Xiy7O3KRKHyzb1', 'hello', 'stopped', 1.5, 2.5, 1);
INSERT INTO public.apps VALUES ('ap-GhcHimGXipXnXaXEl2xcEy', 'hello', 'deployed', 11, NULL, 4);
INSERT INTO public.apps VALUES ('ap-XJV1Se0TmXSqZICEw5c9Ml', 'another', 'deployed', 20, NULL, 1);
INSERT INTO public.facts VALUES ('key_fingerprint', '3a1accae472cfeabda9564768e978942');
INSERT INTO public.revisions VALUES ('ap-tkZYHQs0Xiy7O3KRKHyzb1', 1, 'd0', 1.5, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', NULL, NULL);
INSERT INTO public.revisions VALUES ('ap-GhcHimGXipXnXaXEl2xcEy', 3, 'd3', 13, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', '{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==3"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0303030303030303030303030303030303030303030303030303030303030303",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0}],"files":[{"remote_path":"/root/hello.py","sha256":"03030303030303030303030303030303030303030303030303030303030303aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}', 'gAAAAABrBiqmtguN6eM5iAUo-1GMU-AykZntcm0W06Q_f162uo9Y1sVhpKPpjzDl8YPcgIcjdmJn8jjYrEx0LNL8jHNSxMIXKY1KT2_mNDlXRJdN83eCKcfXByII0fJSxaHCCvSNnMa5KnrtOGgpHvVDAO3mdjFT5WR6oUnuYoGjhPsoo7PQx29rrEi0HSa10IpzRXgOMM2-');
INSERT INTO public.revisions VALUES ('ap-GhcHimGXipXnXaXEl2xcEy', 4, 'd4', 14, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', '{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==4"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0404040404040404040404040404040404040404040404040404040404040404",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0}],"files":[{"remote_path":"/root/hello.py","sha256":"04040404040404040404040404040404040404040404040404040404040404aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}', 'gAAAAABrBiqmpw92j_6MsOVFRTt1Ei0U1Kngzx3LUiq-tQxvm57y9nrRy9AOmR4kNd0Oq_8em3lhsZcLPc98_3UxoI0Z4cszF5KY7_wKq3H9oKVt6lNzy_xs4dy3sACK1N7keAcDcqh-r0YyJdk9tcAb2PoPmpZAnlMdq41rbbLkVbGs3CfGBs5k3UriEqItZNlr7I5GMFaU');
INSERT INTO public.revisions VALUES ('ap-GhcHimGXipXnXaXEl2xcEy', 1, 'd1', 11, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', NULL, NULL);
INSERT INTO public.revisions VALUES ('ap-GhcHimGXipXnXaXEl2xcEy', 2, 'd2', 12, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', NULL, NULL);
INSERT INTO public.revisions VALUES ('ap-XJV1Se0TmXSqZICEw5c9Ml', 1, 'd5', 20, '{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}', '{"name":"another","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==5"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0505050505050505050505050505050505050505050505050505050505050505",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0}],"files":[{"remote_path":"/root/hello.py","sha256":"05050505050505050505050505050505050505050505050505050505050505aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}', 'gAAAAABrBiqm_TjGj0JpzaZWiSyGQ-0JrnVrk1FHqFbGbcKmJUJHKILNtftJkIGxeZxBl8_9UNRbE1ZMRWy9W0WURXeOTcFVwamvTMRGeTFfcP3u-HGgqYZLe4BEwIX7v7iR6Hqq24JSzIHFAchp9IK2m9J7dKWjzAfzfB_1KPRBiV4Krflr6MmzaTdqSQHmn_nr0Bxm65Bl');
INSERT INTO public.zygo_version VALUES ('0001');
ALTER TABLE ONLY public.apps
    ADD CONSTRAINT apps_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.facts
    ADD CONSTRAINT facts_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.revisions
    ADD CONSTRAINT revisions_pkey PRIMARY KEY (app_id, version);
ALTER TABLE ONLY public.zygo_version
    ADD CONSTRAINT zygo_version_pkey PRIMARY KEY (version_num);
CREATE UNIQUE INDEX apps_deployed_name ON public.apps USING btree (name) WHERE (state = 'deployed'::text);
ALTER TABLE ONLY public.revisions
    ADD CONSTRAINT revisions_app_id_fkey FOREIGN KEY (app_id) REFERENCES public.apps(id);
