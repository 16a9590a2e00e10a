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
INSERT INTO "apps" VALUES('ap-WbQfciv0NKsJmcdu4t7FZz','hello','stopped',1.5,2.5,1);
INSERT INTO "apps" VALUES('ap-mimSwEXjMfA3eshy5dQxww','hello','deployed',11.0,NULL,4);
INSERT INTO "apps" VALUES('ap-VLnbHcdCuVF2A3NoTy8J2N','another','deployed',20.0,NULL,1);
CREATE TABLE facts (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "facts" VALUES('key_fingerprint','9fbe2961dbad074fa121407373faacde');
CREATE TABLE proxy_tokens (
	id TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "proxy_tokens" VALUES('wk-dumped','abababababababababababababababababababababababababababababababab',30.5);
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
INSERT INTO "revisions" VALUES('ap-WbQfciv0NKsJmcdu4t7FZz',1,'d0',1.5,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-mimSwEXjMfA3eshy5dQxww',1,'d1',11.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-mimSwEXjMfA3eshy5dQxww',2,'d2',12.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-mimSwEXjMfA3eshy5dQxww',3,'d3',13.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==3"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0303030303030303030303030303030303030303030303030303030303030303",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1","port":0,"startup_timeout":5.0},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"lasting_exit":false,"batch":null,"variant":null,"own_network":false},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"lasting_exit":false,"batch":null,"variant":null,"own_network":false}],"files":[{"remote_path":"/root/hello.py","sha256":"03030303030303030303030303030303030303030303030303030303030303aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrBjnspi-vk0EE9wHFZYBgoGcjzrFIILuT_cSQF3rTEJBxX4iyml0sbqiF6HSpdqRbc9CKqlrfXzyU73wvXFpSoqhCexUyQeZo1qf6241LzuBfcE3EOJZXKoE2aQtDM24l4k3UdgFrNR8js9gD4w1ZTAOnanEDL-mxGvYWDdHzMdmrM_c8RQ5NILOWnlxVl3UjKxz3');
INSERT INTO "revisions" VALUES('ap-mimSwEXjMfA3eshy5dQxww',4,'d4',14.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==4"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0404040404040404040404040404040404040404040404040404040404040404",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1","port":0,"startup_timeout":5.0},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"lasting_exit":false,"batch":null,"variant":null,"own_network":false},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"lasting_exit":false,"batch":null,"variant":null,"own_network":false}],"files":[{"remote_path":"/root/hello.py","sha256":"04040404040404040404040404040404040404040404040404040404040404aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrBjnsfsgsOlxNa4jaQZrWnVDJnDqMq3z9xfoyFpSQBQURml8wjnArPJWwbKy7to-ODIGZ8bEbDuZOq5GPCdYbifcjWT9FqPUXyuxz26MWb3F94tQLNH4m-a_uVeco_rp_VCTliF0mQ-k3nlzvsZP9b33wSHsJmryYxFtks44iLHVHh2kk7mrhhNkQBboNMAcrXvdH');
INSERT INTO "revisions" VALUES('ap-VLnbHcdCuVF2A3NoTy8J2N',1,'d5',20.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"another","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==5"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0505050505050505050505050505050505050505050505050505050505050505",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1","port":0,"startup_timeout":5.0},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"lasting_exit":false,"batch":null,"variant":null,"own_network":false},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"lasting_exit":false,"batch":null,"variant":null,"own_network":false}],"files":[{"remote_path":"/root/hello.py","sha256":"05050505050505050505050505050505050505050505050505050505050505aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrBjnsLJTzc-LZ2-0XRuNkx4oCWGuaKfDJBK-Bf9N_W9ocwhM9X1uwySFLSedf1QhGRUrfUoPXim4SqZ2cgmMeBq1OombaMl3Ph9I7xXc4bYqypG8w0h0xxoE7BtFWy-eaTd-ty073GFQgKuPGubJlQ_k397uy1J3y3d1nwZeOEUeaTX2enY3fVqAyYnAEpBmcLfoR');
CREATE TABLE zygo_version (
	version_num VARCHAR(32) NOT NULL, 
	PRIMARY KEY (version_num)
);
INSERT INTO "zygo_version" VALUES('0003');
CREATE UNIQUE INDEX apps_deployed_name ON apps (name) WHERE state = 'deployed';
COMMIT;
