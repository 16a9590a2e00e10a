BEGIN TRANSACTION;
CREATE TABLE apps (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	state TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	stopped_at DOUBLE, 
	version INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "apps" VALUES('ap-SKW6TZ4fxkfJo1IJsGVVQF','hello','stopped',1.5,2.5,1);
INSERT INTO "apps" VALUES('ap-xrqqghg0riFO2pTmk3CRlo','hello','deployed',11.0,NULL,4);
INSERT INTO "apps" VALUES('ap-3XnOlioqQAFZvhu3iTFE0d','another','deployed',20.0,NULL,1);
CREATE TABLE audit (
	id TEXT NOT NULL, 
	at DOUBLE NOT NULL, 
	who TEXT NOT NULL, 
	token_id TEXT NOT NULL, 
	address TEXT NOT NULL, 
	action TEXT NOT NULL, 
	target TEXT NOT NULL, 
	outcome TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "audit" VALUES('au-1',4.5,'ci','0a1b','10.0.0.1','deploy','hello','published','{"version": 2}');
CREATE TABLE facts (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "facts" VALUES('key_fingerprint','09afe2cd847b648c0f0e85e5c02e63bf');
CREATE TABLE revisions (
	app_id TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	deployed_at DOUBLE NOT NULL, 
	provenance TEXT NOT NULL, 
	spec TEXT, 
	sealed_env TEXT, 
	PRIMARY KEY (app_id, version), 
	FOREIGN KEY(app_id) REFERENCES apps (id)
);
INSERT INTO "revisions" VALUES('ap-SKW6TZ4fxkfJo1IJsGVVQF',1,'d0',1.5,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-xrqqghg0riFO2pTmk3CRlo',1,'d1',11.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-xrqqghg0riFO2pTmk3CRlo',2,'d2',12.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-xrqqghg0riFO2pTmk3CRlo',3,'d3',13.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==3"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0303030303030303030303030303030303030303030303030303030303030303",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null}],"files":[{"remote_path":"/root/hello.py","sha256":"03030303030303030303030303030303030303030303030303030303030303aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrBjrujIT9TnVm0ASldrSAjvfDDl9fY1VJggfjOAmalSO3CdpXN_U3PFui67w1SvmouQw_rwXg15ykF7cujcVzQk_AjuFl3sNEdvfmy37McjAWS3l2NmzlmR5QqQycRfWTy97bVlD8ZH6qbUI7K3KFqi8f3CssTzQ_qj4VymZOiIDe7tzhSHDdGQvK4Y59xQcnzi8u');
INSERT INTO "revisions" VALUES('ap-xrqqghg0riFO2pTmk3CRlo',4,'d4',14.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==4"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0404040404040404040404040404040404040404040404040404040404040404",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null}],"files":[{"remote_path":"/root/hello.py","sha256":"04040404040404040404040404040404040404040404040404040404040404aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrBjruESuWk0wgv1FYBfCeRyoElZ307xw047WSzfTJuR-JP4DiIo3uruq9Vz-Ht9f7TLGwuCOaf7W9z1mFkBCzGzzaNBDTmX-1F5Am5D7dJ6Qo4BTW1sX5iSAsBI93xBJ7a0ib0iUX_HgY1Bm5zy9Z7rdcoxwFMrCda6-FiZZOCzj0Z6LBYr-d_Bxw7xIyZ00E-mu6');
INSERT INTO "revisions" VALUES('ap-3XnOlioqQAFZvhu3iTFE0d',1,'d5',20.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"another","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==5"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0505050505050505050505050505050505050505050505050505050505050505",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null}],"files":[{"remote_path":"/root/hello.py","sha256":"05050505050505050505050505050505050505050505050505050505050505aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrBjruio3bzZ26R2smpUd8RVxgpdj9waNzxt9rB9mEan2rOdRqh7wBq3HyDfYdJzIEbkiZdHihguZSYir6J6fs0F5kI-P-knKvYoFJNtqrwGC-XaSt1GgsDm21Ws3cw-nZI7H5kWOyVZ4lC08BwUg7Y4xfJv_jFc5tcm0RQ3ktTO9I8SIDi8ceCVRAoLjgbOi1Z0tU');
CREATE TABLE tokens (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	scopes TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	created_by TEXT NOT NULL, 
	expires_at DOUBLE, 
	last_used_at DOUBLE, 
	old_hash TEXT, 
	old_until DOUBLE, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "tokens" VALUES('0a1b','ci','read call','abababababababababababababababababababababababababababababababab',1.5,'local:ada',9000000000.0,2.5,'cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',3.5);
CREATE TABLE zygo_version (
	version_num VARCHAR(32) NOT NULL, 
	PRIMARY KEY (version_num)
);
INSERT INTO "zygo_version" VALUES('0004');
CREATE UNIQUE INDEX apps_deployed_name ON apps (name) WHERE state = 'deployed';
CREATE INDEX audit_at ON audit (at);
COMMIT;
