-- +goose Up

-- What an agent may ask for. seq keeps the order in which grants were made.
--
-- standing is 0 once a grant is revoked or used up, and 1 before; 2 marks what a
-- mint that names no grant may find: of the grants of one owner to one daemon on one
-- path that are not at 0, the one that ends last. If that one has expired they all
-- have, so a mint looks at one row for each path above its own, however many grants
-- there are and have been. A use that is not the last changes nothing that is
-- indexed.
CREATE TABLE grants (
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
    standing       INTEGER NOT NULL CHECK (standing IN (0, 1, 2)
                           AND (standing = 0) = (revoked_at IS NOT NULL OR used_count = max_uses))
) STRICT;

CREATE INDEX grants_owner ON grants (owner, seq);
CREATE INDEX grants_daemon ON grants (daemon, seq);
CREATE INDEX grants_owners ON grants (daemon, service, owner);
CREATE INDEX grants_path ON grants (daemon, service, path, seq);
CREATE UNIQUE INDEX grants_leader ON grants (daemon, service, path, owner) WHERE standing = 2;
CREATE INDEX grants_leaders ON grants (daemon, service, path, expires_at DESC, seq) WHERE standing = 2;
CREATE INDEX grants_open ON grants (daemon, service, path, owner, expires_at DESC, seq) WHERE standing > 0;

-- The calls for AWS credentials of the last minutes: each request_id is decided
-- once, and what was decided is kept, sealed, for a retry with the same
-- Idempotency-Key. A row is pending while STS is asked. It is deleted at forget_at,
-- when its window ends and its signature is no longer fresh.
CREATE TABLE mints (
    caller          TEXT    NOT NULL,
    request_id      TEXT    NOT NULL,
    idempotency_key TEXT,
    body_hash       BLOB    NOT NULL,
    record_id       TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'refused', 'confirmed', 'failed', 'quarantined')),
    settle_by       INTEGER NOT NULL,
    forget_at       INTEGER NOT NULL,
    answer          BLOB,
    UNIQUE (caller, request_id)
) STRICT;

CREATE UNIQUE INDEX mints_key ON mints (caller, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX mints_pending ON mints (settle_by) WHERE state = 'pending';
CREATE INDEX mints_forget_at ON mints (forget_at);

-- What readiness writes after a failure, to see whether more than a short record
-- finds room: a mint takes some ten pages.
CREATE TABLE probe (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    data BLOB    NOT NULL
) STRICT;

INSERT INTO probe (id, data) VALUES (1, x'');

-- What a mint of AWS credentials is about. settles is the ID of the record of
-- intent whose outcome a record is.
ALTER TABLE audit_records ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
ALTER TABLE audit_records ADD COLUMN agent TEXT NOT NULL DEFAULT '';
ALTER TABLE audit_records ADD COLUMN service TEXT NOT NULL DEFAULT '';
ALTER TABLE audit_records ADD COLUMN scope_path TEXT NOT NULL DEFAULT '';
ALTER TABLE audit_records ADD COLUMN grant_id TEXT NOT NULL DEFAULT '';
ALTER TABLE audit_records ADD COLUMN credential_id TEXT NOT NULL DEFAULT '';
ALTER TABLE audit_records ADD COLUMN settles TEXT NOT NULL DEFAULT '';

CREATE UNIQUE INDEX audit_records_settles ON audit_records (settles) WHERE settles <> '';
