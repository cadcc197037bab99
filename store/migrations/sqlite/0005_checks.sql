-- +goose Up

-- The same tables with cheaper checks: for IN with three or more alternatives SQLite
-- builds a table of them for every row that is written.

CREATE TABLE grants_new (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    grant_id       TEXT    NOT NULL UNIQUE,
    owner          TEXT    NOT NULL,
    tenant         TEXT    NOT NULL,
    daemon         TEXT    NOT NULL,
    service        TEXT    NOT NULL,
    path           TEXT    NOT NULL,
    actions        TEXT    NOT NULL,
    created_at     INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    max_uses       INTEGER NOT NULL CHECK (max_uses >= 1),
    used_count     INTEGER NOT NULL CHECK (used_count >= 0 AND used_count <= max_uses),
    revoked_at     INTEGER,
    last_used_at   INTEGER,
    last_record_id TEXT    NOT NULL,
    standing       INTEGER NOT NULL CHECK (standing BETWEEN 0 AND 2
                           AND (standing = 0) = (revoked_at IS NOT NULL OR used_count = max_uses))
) STRICT;

INSERT INTO grants_new SELECT * FROM grants;
DROP TABLE grants;
ALTER TABLE grants_new RENAME TO grants;

CREATE INDEX grants_owner ON grants (owner, seq);
CREATE INDEX grants_daemon ON grants (daemon, seq);
CREATE INDEX grants_owners ON grants (daemon, service, owner);
CREATE INDEX grants_path ON grants (daemon, service, path, seq);
CREATE UNIQUE INDEX grants_leader ON grants (daemon, service, path, owner) WHERE standing = 2;
CREATE INDEX grants_leaders ON grants (daemon, service, path, expires_at DESC, seq) WHERE standing = 2;
CREATE INDEX grants_open ON grants (daemon, service, path, owner, expires_at DESC, seq) WHERE standing > 0;

CREATE TABLE mints_new (
    caller          TEXT    NOT NULL,
    request_id      TEXT    NOT NULL,
    idempotency_key TEXT,
    body_hash       BLOB    NOT NULL,
    record_id       TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state = 'pending' OR state = 'refused' OR state = 'confirmed'
                            OR state = 'failed' OR state = 'quarantined'),
    settle_by       INTEGER NOT NULL,
    forget_at       INTEGER NOT NULL,
    answer          BLOB,
    UNIQUE (caller, request_id)
) STRICT;

INSERT INTO mints_new SELECT * FROM mints;
DROP TABLE mints;
ALTER TABLE mints_new RENAME TO mints;

CREATE UNIQUE INDEX mints_key ON mints (caller, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX mints_pending ON mints (settle_by) WHERE state = 'pending';
CREATE INDEX mints_forget_at ON mints (forget_at);
