-- Times are Unix milliseconds. Tables are STRICT, so a value of the wrong type
-- is refused instead of stored as it is.

-- +goose Up

-- "AgK1" in the file header: how store.Open tells an AgentKeys database from
-- any other SQLite file before it touches it.
PRAGMA application_id = 1097288497;

CREATE TABLE accounts (
    omni_account    TEXT    NOT NULL PRIMARY KEY,
    identity_type   TEXT    NOT NULL,
    identity_value  TEXT    NOT NULL,
    wallet          TEXT,
    created_at      INTEGER NOT NULL,
    last_sign_in_at INTEGER NOT NULL,
    UNIQUE (identity_type, identity_value)
) STRICT;

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

CREATE INDEX wallet_challenges_expires_at ON wallet_challenges (expires_at);

-- Absent members are '', so that filters need no NULL rules. AUTOINCREMENT
-- keeps a seq from ever being given out twice.
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

CREATE INDEX audit_records_omni_account ON audit_records (omni_account, seq);
CREATE INDEX audit_records_time ON audit_records (time);

-- +goose StatementBegin
CREATE TRIGGER audit_records_no_update BEFORE UPDATE ON audit_records
BEGIN
    SELECT RAISE(ABORT, 'audit_records is append-only: UPDATE refused');
END;
-- +goose StatementEnd

-- REPLACE deletes through this trigger too, but only with recursive_triggers
-- on; store reads that setting back on every connection.
-- +goose StatementBegin
CREATE TRIGGER audit_records_no_delete BEFORE DELETE ON audit_records
BEGIN
    SELECT RAISE(ABORT, 'audit_records is append-only: DELETE refused');
END;
-- +goose StatementEnd
