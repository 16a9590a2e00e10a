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
INSERT INTO "apps" VALUES('ap-BFWatyjeBJjdfzMXbrWqIi','hello','stopped',1.5,2.5,1);
INSERT INTO "apps" VALUES('ap-FqnBF1T0XQSJKY4RauWu49','hello','deployed',11.0,NULL,4);
INSERT INTO "apps" VALUES('ap-q1MRaR9SdgzQA1LcRwtcB4','another','deployed',20.0,NULL,1);
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
INSERT INTO "calls" VALUES('fc-one','ap-FqnBF1T0XQSJKY4RauWu49','hello','plain','fu-1','3.11.2',30.0,1,1,NULL,NULL,0);
INSERT INTO "calls" VALUES('fc-many','s-gone','dev','plain','fu-2','3.9.1',30.0,3,1,40.0,604840.0,0);
CREATE TABLE facts (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "facts" VALUES('key_fingerprint','d119dd5bf2097efd235a2e6634dd3948');
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
CREATE TABLE proxy_tokens (
	id TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	PRIMARY KEY (id)
);
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
INSERT INTO "revisions" VALUES('ap-BFWatyjeBJjdfzMXbrWqIi',1,'d0',1.5,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-FqnBF1T0XQSJKY4RauWu49',1,'d1',11.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-FqnBF1T0XQSJKY4RauWu49',2,'d2',12.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-FqnBF1T0XQSJKY4RauWu49',3,'d3',13.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==3"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0303030303030303030303030303030303030303030303030303030303030303",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1","port":0,"startup_timeout":5.0},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"lasting_exit":false,"batch":null,"variant":null,"own_network":false},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"lasting_exit":false,"batch":null,"variant":null,"own_network":false}],"files":[{"remote_path":"/root/hello.py","sha256":"03030303030303030303030303030303030303030303030303030303030303aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrBjwtz5e6O3rhucBCY1f9ZX_LAwVsQSrBD2vMPG-9imKa4LN3uFIlg6i1H-0WPXXSw0E9awSkyCghvH7EsB6NjiK4w57e1bj3HTl5j-fRnJ2pcd9Ko_7a9tBX1xITOrKqdMUZ_ySCGiyYokZm9NhUp1nnkQtpH7MOOj6oImcBEc41EigER-LQrxIABVcqIOTNlAUk');
INSERT INTO "revisions" VALUES('ap-FqnBF1T0XQSJKY4RauWu49',4,'d4',14.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==4"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0404040404040404040404040404040404040404040404040404040404040404",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1","port":0,"startup_timeout":5.0},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"lasting_exit":false,"batch":null,"variant":null,"own_network":false},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"lasting_exit":false,"batch":null,"variant":null,"own_network":false}],"files":[{"remote_path":"/root/hello.py","sha256":"04040404040404040404040404040404040404040404040404040404040404aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrBjwtrzEvl1HEeSU-3TmM8s8uAmm3VJAZ452mSqIqPioyxPERLT6QONLWPn7BfVsuR4dhJQesdxP91Wqf6rgOgLGBjxLbKbja9Zm0seA-Sszl4izwVBxHXh0JJbvaPQ_BV8bivwGY1GULqYhpI4Jf7n1avii4oS6Fo7xIg9GUqYzNcTgim52eGvvtqVrdXoCUbw0A');
INSERT INTO "revisions" VALUES('ap-q1MRaR9SdgzQA1LcRwtcB4',1,'d5',20.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"another","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==5"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0505050505050505050505050505050505050505050505050505050505050505",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1","port":0,"startup_timeout":5.0},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"lasting_exit":false,"batch":null,"variant":null,"own_network":false},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"lasting_exit":false,"batch":null,"variant":null,"own_network":false}],"files":[{"remote_path":"/root/hello.py","sha256":"05050505050505050505050505050505050505050505050505050505050505aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrBjwt4oENOmnNFYWKbBMmHlI-Z1Qe5rihEBbuG-w5URnMVCjOtOFeDL-yNBwneZQXWhwsyfcZ9g-va3lvTPFE5cJHG2gZjQ--8YiFZQU-Li4VsVsON971quJ-8O60Qx3uwW64xz134dcd2c6_w8TsDmBrt-h3MpSZ9p576TfsSyPOQAitNsBVOkaP3HXfAQRLQOia');
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
CREATE INDEX calls_open ON calls (owner) WHERE open > 0;
CREATE INDEX calls_expiry ON calls (expires_at);
CREATE INDEX inputs_due ON inputs (function_id, due_at, position) WHERE state = 'pending';
CREATE UNIQUE INDEX inputs_of_call ON inputs (call_id, number);
COMMIT;
