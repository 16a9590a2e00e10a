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
INSERT INTO "apps" VALUES('ap-m5PW69roMgqFtoKSMnZr4O','hello','stopped',1.5,2.5,1);
INSERT INTO "apps" VALUES('ap-zadiCkhBHvfdj0nAWxz9PM','hello','deployed',11.0,NULL,4);
INSERT INTO "apps" VALUES('ap-2VrDa7H0NkzbQ8VTd002zp','another','deployed',20.0,NULL,1);
CREATE TABLE calls (
	id TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	app TEXT NOT NULL, 
	function TEXT NOT NULL, 
	function_id TEXT NOT NULL, 
	python TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	inputs INTEGER NOT NULL, 
	open INTEGER NOT NULL, 
	finished_at DOUBLE, 
	expires_at DOUBLE, 
	expired BOOLEAN NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "calls" VALUES('fc-one','ap-zadiCkhBHvfdj0nAWxz9PM','hello','plain','fu-1','3.11.2',30.0,1,1,NULL,NULL,0);
INSERT INTO "calls" VALUES('fc-many','s-gone','dev','plain','fu-2','3.9.1',30.0,3,1,40.0,604840.0,0);
CREATE TABLE facts (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "facts" VALUES('key_fingerprint','ba14a2c4f0a4a8c032ba04613c92df47');
CREATE TABLE inputs (
	position INTEGER NOT NULL, 
	call_id TEXT NOT NULL, 
	number INTEGER NOT NULL, 
	function_id TEXT NOT NULL, 
	state TEXT NOT NULL, 
	due_at DOUBLE NOT NULL, 
	failures INTEGER NOT NULL, 
	losses INTEGER NOT NULL, 
	kind TEXT, 
	payload BLOB, 
	payload_file TEXT, 
	PRIMARY KEY (position), 
	FOREIGN KEY(call_id) REFERENCES calls (id)
);
INSERT INTO "inputs" VALUES(1,'fc-one',0,'fu-1','pending',30.0,0,0,'i',X'006F6E65',NULL);
INSERT INTO "inputs" VALUES(2,'fc-many',0,'fu-2','succeeded',30.0,0,0,'v',X'FF726573756C74',NULL);
INSERT INTO "inputs" VALUES(3,'fc-many',1,'fu-2','failed',30.0,0,0,'e',NULL,'abababababababababababababababababababababababababababababababab');
INSERT INTO "inputs" VALUES(4,'fc-many',2,'fu-2','pending',50.0,1,2,'i',X'32',NULL);
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
INSERT INTO "revisions" VALUES('ap-m5PW69roMgqFtoKSMnZr4O',1,'d0',1.5,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-zadiCkhBHvfdj0nAWxz9PM',1,'d1',11.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-zadiCkhBHvfdj0nAWxz9PM',2,'d2',12.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-zadiCkhBHvfdj0nAWxz9PM',3,'d3',13.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==3"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0303030303030303030303030303030303030303030303030303030303030303",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null}],"files":[{"remote_path":"/root/hello.py","sha256":"03030303030303030303030303030303030303030303030303030303030303aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrBjY4WtQ0Jec5PNLg3AvW0I3rqzJ7BPio20rjKSwkKd5ox155CnrKpkgQ7wa-CNnLBlRyA42hDzGW26AoU2UOzl3gx_k-cTgwVrdPrXuI4nHgr23ur-v25q33qj0M7e59uxGOAapkR5A-Ysc8auonceedUHE-OvCPbD6NUhHOHkEO2uG8jbuZxF3OUPWOLbPH9Ghs');
INSERT INTO "revisions" VALUES('ap-zadiCkhBHvfdj0nAWxz9PM',4,'d4',14.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==4"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0404040404040404040404040404040404040404040404040404040404040404",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null}],"files":[{"remote_path":"/root/hello.py","sha256":"04040404040404040404040404040404040404040404040404040404040404aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrBjY4eMSFGFHWGMz8ouWP8Q4BPmIHW3SBFtc2QsJYrjtU51ScWphUQOA5mngowcqbxZFdEL6awbgxnveaDTEWXDgL2_DN7a09oPqnCemjKSAEDohJrfRtsvQBbrS2f_DYR_7rqy8yf8jPY0QdgWFzzcCEh5_iKR3xtojwMFWiLTlcyVMxE2IE4zPncw_F00Rlq1ee');
INSERT INTO "revisions" VALUES('ap-2VrDa7H0NkzbQ8VTd002zp',1,'d5',20.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"another","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==5"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0505050505050505050505050505050505050505050505050505050505050505",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1"},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null}],"files":[{"remote_path":"/root/hello.py","sha256":"05050505050505050505050505050505050505050505050505050505050505aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrBjY481lqFqU_pclSkjU0OkIJ4OgR43ss506pFU5KnHZxfnICI-UNScXT_7vTvyM-WOik3IhiGPi0SXrrjFQ18wnm4R_O6kHslJ9xJriftQPKoN3h7bng1UIxQLB4Y_jaPrn7O5TroTj6ChpJu99wEqouw_PG3rLp6WY2u3emhN2ut5pQWsn8oTM16aN1I8CzqQQl');
CREATE TABLE zygo_version (
	version_num VARCHAR(32) NOT NULL, 
	PRIMARY KEY (version_num)
);
INSERT INTO "zygo_version" VALUES('0002');
CREATE UNIQUE INDEX apps_deployed_name ON apps (name) WHERE state = 'deployed';
CREATE INDEX calls_expiry ON calls (expires_at);
CREATE INDEX calls_open ON calls (owner) WHERE open > 0;
CREATE UNIQUE INDEX inputs_of_call ON inputs (call_id, number);
CREATE INDEX inputs_due ON inputs (function_id, due_at, position) WHERE state = 'pending';
COMMIT;
