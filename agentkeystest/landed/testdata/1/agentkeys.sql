-- What .dump leaves out:
PRAGMA application_id = 1097288497;
PRAGMA user_version = 0;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE goose_db_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);
INSERT INTO goose_db_version VALUES(1,0,1,'2026-11-26 21:51:52');
INSERT INTO goose_db_version VALUES(2,1,1,'2026-11-26 21:51:52');
CREATE TABLE accounts (
    omni_account    TEXT    NOT NULL PRIMARY KEY,
    identity_type   TEXT    NOT NULL,
    identity_value  TEXT    NOT NULL,
    wallet          TEXT,
    created_at      INTEGER NOT NULL,
    last_sign_in_at INTEGER NOT NULL,
    UNIQUE (identity_type, identity_value)
) STRICT;
INSERT INTO accounts VALUES('f7724e1247f44a485dadc80cba157fe14a228bd169c9a583c74da486849d9bb5','evm','0x5bf4c9bb313bf46064294afef0bf87943f03179a','0x5bf4c9bb313bf46064294afef0bf87943f03179a',1795729912593,1795729912593);
INSERT INTO accounts VALUES('000ee74ef33ca0c2523e42be8313b1fe1406693b4bfed07d6b6201200f5b16f6','evm','0x678a918e7c8fb7eb1cc9e752b9bc662b594d1ba3','0x678a918e7c8fb7eb1cc9e752b9bc662b594d1ba3',1795729912596,1795729912596);
INSERT INTO accounts VALUES('eb4e98a09922668f252878c7d246925ad2608b53fd6f2ff6b427b11de13e7d71','evm','0xe47cfe24216b12292fba9a2c387d052108c4cc00','0xe47cfe24216b12292fba9a2c387d052108c4cc00',1795729912598,1795729912598);
CREATE TABLE wallet_challenges (
    request_id TEXT    NOT NULL PRIMARY KEY,
    nonce      TEXT    NOT NULL UNIQUE,
    message    TEXT    NOT NULL,
    address    TEXT    NOT NULL,
    chain_id   INTEGER NOT NULL,
    issued_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT;
INSERT INTO wallet_challenges VALUES('siwe-LAVIOCLFBOFIT5AYQWO7ZOQFJJ','SCUZCFH3TIMI6D36GIP7MMMPU6',replace('127.0.0.1:8091 wants you to sign in with your Ethereum account:\n0x5bf4c9bB313bF46064294AFEf0Bf87943f03179a\n\nSign in to AgentKeys.\n\nURI: http://127.0.0.1:8091\nVersion: 1\nChain ID: 1\nNonce: SCUZCFH3TIMI6D36GIP7MMMPU6\nIssued At: 2026-11-26T21:51:52.589Z\nExpiration Time: 2026-11-26T22:36:52.589Z\nRequest ID: siwe-LAVIOCLFBOFIT5AYQWO7ZOQFJJ','\n',char(10)),'0x5bf4c9bb313bf46064294afef0bf87943f03179a',1,1795729912589,1795732612589,1795729912593);
INSERT INTO wallet_challenges VALUES('siwe-WPGIZUVM7U34D6RUE6B3YYUDE6','D44GGT7LGCDWKWJEPH2D5IZWLV',replace('127.0.0.1:8091 wants you to sign in with your Ethereum account:\n0x678a918e7c8fb7eb1cC9e752B9bC662B594D1bA3\n\nSign in to AgentKeys.\n\nURI: http://127.0.0.1:8091\nVersion: 1\nChain ID: 1\nNonce: D44GGT7LGCDWKWJEPH2D5IZWLV\nIssued At: 2026-11-26T21:51:52.595Z\nExpiration Time: 2026-11-26T22:36:52.595Z\nRequest ID: siwe-WPGIZUVM7U34D6RUE6B3YYUDE6','\n',char(10)),'0x678a918e7c8fb7eb1cc9e752b9bc662b594d1ba3',1,1795729912595,1795732612595,1795729912596);
INSERT INTO wallet_challenges VALUES('siwe-MATBY3YH63STKCDZMZ4ABYSXBN','TEIOFVGN6EN73KM26LOIZVU5Z7',replace('127.0.0.1:8091 wants you to sign in with your Ethereum account:\n0xE47Cfe24216b12292FBA9A2C387d052108c4cc00\n\nSign in to AgentKeys.\n\nURI: http://127.0.0.1:8091\nVersion: 1\nChain ID: 1\nNonce: TEIOFVGN6EN73KM26LOIZVU5Z7\nIssued At: 2026-11-26T21:51:52.598Z\nExpiration Time: 2026-11-26T22:36:52.598Z\nRequest ID: siwe-MATBY3YH63STKCDZMZ4ABYSXBN','\n',char(10)),'0xe47cfe24216b12292fba9a2c387d052108c4cc00',1,1795729912598,1795732612598,1795729912598);
INSERT INTO wallet_challenges VALUES('siwe-6Q6IQ7AQRCDBJK7RABBFHNCQJE','HOP5RT7DYX2GFLV3S5MQJAFLUV',replace('127.0.0.1:8091 wants you to sign in with your Ethereum account:\n0x678a918e7c8fb7eb1cC9e752B9bC662B594D1bA3\n\nSign in to AgentKeys.\n\nURI: http://127.0.0.1:8091\nVersion: 1\nChain ID: 1\nNonce: HOP5RT7DYX2GFLV3S5MQJAFLUV\nIssued At: 2026-11-26T21:51:52.601Z\nExpiration Time: 2026-11-26T22:36:52.601Z\nRequest ID: siwe-6Q6IQ7AQRCDBJK7RABBFHNCQJE','\n',char(10)),'0x678a918e7c8fb7eb1cc9e752b9bc662b594d1ba3',1,1795729912601,1795732612601,NULL);
CREATE TABLE audit_records (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT    NOT NULL UNIQUE,
    time           INTEGER NOT NULL,
    action         TEXT    NOT NULL,
    outcome        TEXT    NOT NULL,
    reason         TEXT    NOT NULL,
    identity_type  TEXT    NOT NULL,
    identity_value TEXT    NOT NULL,
    omni_account   TEXT    NOT NULL,
    wallet         TEXT    NOT NULL,
    key_id         TEXT    NOT NULL,
    token_id       TEXT    NOT NULL,
    source         TEXT    NOT NULL,
    request_id     TEXT    NOT NULL
) STRICT;
INSERT INTO audit_records VALUES(1,'01M8CXFWRHWDR3R07A6W7FMM5V',1795729912593,'auth.wallet.verify','signed_in','','evm','0x5bf4c9bb313bf46064294afef0bf87943f03179a','f7724e1247f44a485dadc80cba157fe14a228bd169c9a583c74da486849d9bb5','0x5bf4c9bb313bf46064294afef0bf87943f03179a','','','127.0.0.1','ETUMPSLUWGR3METGKLMUV236ZK');
INSERT INTO audit_records VALUES(2,'01M8CXFWRJ6QQ42RBTN5TDWMVH',1795729912594,'mint.oidc_jwt','issued','','evm','0x5bf4c9bb313bf46064294afef0bf87943f03179a','f7724e1247f44a485dadc80cba157fe14a228bd169c9a583c74da486849d9bb5','0x5bf4c9bb313bf46064294afef0bf87943f03179a','ak-oidc-HyC_8IJC5Y8GTD8N8AiLBB4-ua-TV2ODoSt7qQGuz74','77EE5XGALLLA223BU5RSOX2AAN','127.0.0.1','YGM6IRIRBGIOPSQRK2NPXXFHHB');
INSERT INTO audit_records VALUES(3,'01M8CXFWRMRMR15TDAC3BM8WY0',1795729912596,'auth.wallet.verify','signed_in','','evm','0x678a918e7c8fb7eb1cc9e752b9bc662b594d1ba3','000ee74ef33ca0c2523e42be8313b1fe1406693b4bfed07d6b6201200f5b16f6','0x678a918e7c8fb7eb1cc9e752b9bc662b594d1ba3','','','127.0.0.1','T63JI7R3FCFCJP5CGBJGDRDRPY');
INSERT INTO audit_records VALUES(4,'01M8CXFWRNRD0TZQKEKY6V4C2Q',1795729912597,'mint.oidc_jwt','issued','','evm','0x678a918e7c8fb7eb1cc9e752b9bc662b594d1ba3','000ee74ef33ca0c2523e42be8313b1fe1406693b4bfed07d6b6201200f5b16f6','0x678a918e7c8fb7eb1cc9e752b9bc662b594d1ba3','ak-oidc-HyC_8IJC5Y8GTD8N8AiLBB4-ua-TV2ODoSt7qQGuz74','K72WQFN7LWGNLZV4K22J4OGYD5','127.0.0.1','Z3LIN2NS4IRLKF4Y3BEI5QQALP');
INSERT INTO audit_records VALUES(5,'01M8CXFWRPHFX8F2B08PBGTDDA',1795729912598,'auth.wallet.verify','signed_in','','evm','0xe47cfe24216b12292fba9a2c387d052108c4cc00','eb4e98a09922668f252878c7d246925ad2608b53fd6f2ff6b427b11de13e7d71','0xe47cfe24216b12292fba9a2c387d052108c4cc00','','','127.0.0.1','3BT3HE7G54YCZIPBT42ID4KIDX');
INSERT INTO audit_records VALUES(6,'01M8CXFWRRPW7SWH8602A1M98S',1795729912600,'mint.oidc_jwt','issued','','evm','0xe47cfe24216b12292fba9a2c387d052108c4cc00','eb4e98a09922668f252878c7d246925ad2608b53fd6f2ff6b427b11de13e7d71','0xe47cfe24216b12292fba9a2c387d052108c4cc00','ak-oidc-HyC_8IJC5Y8GTD8N8AiLBB4-ua-TV2ODoSt7qQGuz74','WDPF57VHJWW4TWFR5TMJO5CQFX','127.0.0.1','LMOCII2PQOC6IJBJHHQ5HFENZP');
INSERT INTO audit_records VALUES(7,'01M8CXFWRRPW7SWH8603PE92PA',1795729912600,'mint.oidc_jwt','refused','malformed_token','','','','','','','127.0.0.1','HYHDL524AUPBZPSZG4YBVOLA6S');
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('goose_db_version',2);
INSERT INTO sqlite_sequence VALUES('audit_records',7);
CREATE INDEX wallet_challenges_expires_at ON wallet_challenges (expires_at);
CREATE INDEX audit_records_omni_account ON audit_records (omni_account, seq);
CREATE INDEX audit_records_time ON audit_records (time);
CREATE TRIGGER audit_records_no_update BEFORE UPDATE ON audit_records
BEGIN
    SELECT RAISE(ABORT, 'audit_records is append-only: UPDATE refused');
END;
CREATE TRIGGER audit_records_no_delete BEFORE DELETE ON audit_records
BEGIN
    SELECT RAISE(ABORT, 'audit_records is append-only: DELETE refused');
END;
COMMIT;
