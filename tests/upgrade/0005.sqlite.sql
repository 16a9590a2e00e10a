BEGIN TRANSACTION;
CREATE TABLE apps (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	state TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	stopped_at DOUBLE, 
	version INTEGER NOT NULL, 
	environment TEXT DEFAULT 'main' NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "apps" VALUES('ap-De92ZFgHsI2HzL1enxwmCY','hello','stopped',1.5,2.5,1,'main');
INSERT INTO "apps" VALUES('ap-ZaNWxdZ8ixdc7ioOA4JdRo','hello','deployed',11.0,NULL,4,'main');
INSERT INTO "apps" VALUES('ap-QHNHTsHI2iFZxqlSKpLrA4','another','deployed',20.0,NULL,1,'main');
INSERT INTO "apps" VALUES('ap-QEoxk7sQk8ri8L3rMWt8WE','hello','deployed',60.0,NULL,1,'en-1');
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
INSERT INTO "calls" VALUES('fc-one','ap-ZaNWxdZ8ixdc7ioOA4JdRo','hello','plain','fu-1','3.11.2',30.0,1,1,NULL,NULL,0);
INSERT INTO "calls" VALUES('fc-many','s-gone','dev','plain','fu-2','3.9.1',30.0,3,1,40.0,604840.0,0);
CREATE TABLE environments (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	web_suffix TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name), 
	UNIQUE (web_suffix)
);
INSERT INTO "environments" VALUES('main','main','',0.5);
INSERT INTO "environments" VALUES('en-1','staging','stage',5.5);
CREATE TABLE facts (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "facts" VALUES('key_fingerprint','d2dee7b8a40efa278bc7977ca164b1d0');
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
INSERT INTO "revisions" VALUES('ap-De92ZFgHsI2HzL1enxwmCY',1,'d0',1.5,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-ZaNWxdZ8ixdc7ioOA4JdRo',1,'d1',11.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-ZaNWxdZ8ixdc7ioOA4JdRo',2,'d2',12.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}',NULL,NULL);
INSERT INTO "revisions" VALUES('ap-ZaNWxdZ8ixdc7ioOA4JdRo',3,'d3',13.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==3"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0303030303030303030303030303030303030303030303030303030303030303",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1","port":0,"startup_timeout":5.0},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false}],"files":[{"remote_path":"/root/hello.py","sha256":"03030303030303030303030303030303030303030303030303030303030303aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrDJEwR6iGBpjeTt1Vyi-7o9z6Pdd_inD8tsxRy8_go76yrPVYbyGIXuLGZJouo1LHHrdHjpf18E3IuoJW-ehejQHuYi-2nFEXrgt2Lrvp-4Fb9_f-NISVQ6LwuPP3ULq8AYalqjLeDFfZnzD6FUgwoU3H1sEth-KpMn3-vVjq1wmFP7CXlI8amH06L1OI32lqJJwo');
INSERT INTO "revisions" VALUES('ap-ZaNWxdZ8ixdc7ioOA4JdRo',4,'d4',14.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==4"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0404040404040404040404040404040404040404040404040404040404040404",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1","port":0,"startup_timeout":5.0},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false}],"files":[{"remote_path":"/root/hello.py","sha256":"04040404040404040404040404040404040404040404040404040404040404aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrDJExTVXirNbp4pVf1rFhn3BSvXNN9s4w8odOW-_5VCuiS2TqKdfc-u6SMHv0v1yx4aJ4Z5sv14GN9_wLwFGl3hNmlaej9S8spUR4_tBDzOK7bnj2QYWi5CTPgM6ybm0UBiDEJomxpCy6OoxZY9ZBoCOI6y2DohDCjPBEBDurz_6HEqXFKQw4ty4nIB7hrtmoXUvo');
INSERT INTO "revisions" VALUES('ap-QHNHTsHI2iFZxqlSKpLrA4',1,'d5',20.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"another","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==5"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0505050505050505050505050505050505050505050505050505050505050505",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1","port":0,"startup_timeout":5.0},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false}],"files":[{"remote_path":"/root/hello.py","sha256":"05050505050505050505050505050505050505050505050505050505050505aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrDJExFvoLzDjitLRCwlh3oF2x0ZuX0SM3caG5e44l7Cr5slwU_kPoSDwWdxa9R2OLoA7g0wxIM2J_oA_uWojCQFLERRho53K1cROdafFxrAkhpweDWzlQUjx8vgZjz1hkDr16-XJmbm4me8c23IvoMbkNjiTc-fvAZT6cEqnOJDp8vMT3F1kuFed3_3iqgZXNxc3p');
INSERT INTO "revisions" VALUES('ap-QEoxk7sQk8ri8L3rMWt8WE',1,'d6',60.0,'{"client_version":"0.1.0","deployed_by":"ada","commit":"0123abc","dirty":true,"tag":"spring","rollback_of":null}','{"name":"hello","module":"hello","app_variable":"app","functions":[{"name":"square","module":"hello","qualname":"square","image":{"python_version":"3.12","base":"debian_slim","steps":[{"kind":"pip_install","args":{"packages":["fastapi==6"],"find_links":null,"pre":false}},{"kind":"add_local","args":{"copy":true,"files":[["/opt/model.bin","0606060606060606060606060606060606060606060606060606060606060606",420],["/opt/run","eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",493]]}},{"kind":"env","args":{"vars":{"MODE":"fast"}}}]},"web":{"kind":"fastapi_endpoint","method":"POST","path":"/x","docs":true,"label":"label","requires_proxy_auth":true,"custom_domains":["a.example.com"],"sample":"?x=1","port":0,"startup_timeout":5.0},"env":{},"policy":{"min_containers":1,"max_containers":10,"buffer_containers":2,"scaledown_window":30.0,"max_inputs":4,"target_inputs":2,"single_use":false},"resources":{"cpu_request":0.5,"cpu_limit":1.0,"memory_request":128,"memory_limit":256,"gpu":null},"timeout":10.0,"startup_timeout":20.0,"block_network":true,"is_async":true,"line":7,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false},{"name":"plain","module":"hello","qualname":"plain","image":{"python_version":"3.11","base":"debian_slim","steps":[]},"web":null,"env":{},"policy":{"min_containers":0,"max_containers":null,"buffer_containers":0,"scaledown_window":60.0,"max_inputs":1,"target_inputs":1,"single_use":false},"resources":{"cpu_request":null,"cpu_limit":null,"memory_request":null,"memory_limit":null,"gpu":null},"timeout":300.0,"startup_timeout":null,"block_network":false,"is_async":false,"line":0,"is_generator":false,"retries":null,"owner":"","is_class":false,"parameters":[],"needs_values":false,"lasting_exit":false,"batch":null,"variant":null,"own_network":false}],"files":[{"remote_path":"/root/hello.py","sha256":"06060606060606060606060606060606060606060606060606060606060606aa","size":120,"mode":420},{"remote_path":"/root/odd\u0000","sha256":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1,"mode":384}],"third_party":["fastapi","numpy"],"warnings":["a warning with '' and \""]}','gAAAAABrDJExmzJon0nyzNvFhwZgv-A3LVla8cAcACnNZ8knu3cSb6HeWlG1HYaCRn-Gn3gTS0gpBiiY6wF0de5z7ZmsmV7x8csUNYAJtK1f-4eR4ekaqd5yW0Hixz6NbensNxbhmLuJyN-K3hfqsXVnNNZRyczkzpMhvtlI4BdWfyhfLu1nU1yKH2zAdKER-ii2NQ1D1PzM');
CREATE TABLE secrets (
	environment TEXT NOT NULL, 
	name TEXT NOT NULL, 
	keys TEXT NOT NULL, 
	sealed_values TEXT NOT NULL, 
	stamp TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	updated_at DOUBLE NOT NULL, 
	PRIMARY KEY (environment, name), 
	FOREIGN KEY(environment) REFERENCES environments (id)
);
INSERT INTO "secrets" VALUES('en-1','database','["PASSWORD", "USER"]','gAAAAABrDJExFE7ERGHxut6OD4jmJY_D18jwaLbROveCBuEk7sungcOGgq4BWWfGWu0-Z_BvA2Enfd6fruAFk0S34mtf4Liy_sIF223ISm3al9l6m74L6kinEZIUCnH52sp-PmrnSFBPqTP7wA9EpSf92znQ5ONS7g==','s1',6.5,7.5);
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
INSERT INTO "zygo_version" VALUES('0005');
CREATE UNIQUE INDEX apps_deployed_name ON apps (environment, name) WHERE state = 'deployed';
CREATE INDEX audit_at ON audit (at);
CREATE INDEX calls_expiry ON calls (expires_at);
CREATE INDEX calls_open ON calls (owner) WHERE open > 0;
CREATE UNIQUE INDEX inputs_of_call ON inputs (call_id, number);
CREATE INDEX inputs_due ON inputs (function_id, due_at, position) WHERE state = 'pending';
COMMIT;
