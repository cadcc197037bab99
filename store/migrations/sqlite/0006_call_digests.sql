-- +goose Up

-- The same calls, found by digests: each is the first 16 bytes of SHA-256 over the
-- caller, a space and the request_id, or the Idempotency-Key. These come in no order, so
-- a mint writes a page of both indexes, and what that costs goes by how long the entries
-- are: the two texts of one took five times the room.
CREATE TABLE mints_new (
    seq         INTEGER PRIMARY KEY,
    call_digest BLOB    NOT NULL UNIQUE CHECK (length(call_digest) = 16),
    key_digest  BLOB    UNIQUE CHECK (length(key_digest) = 16),
    caller      TEXT    NOT NULL,
    request_id  TEXT    NOT NULL,
    body_hash   BLOB    NOT NULL,
    record_id   TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state = 'pending' OR state = 'refused' OR state = 'confirmed'
                        OR state = 'failed' OR state = 'quarantined'),
    settle_by   INTEGER NOT NULL,
    forget_at   INTEGER NOT NULL,
    answer      BLOB
) STRICT;

INSERT INTO mints_new (call_digest, key_digest, caller, request_id, body_hash, record_id, state, settle_by, forget_at, answer)
    SELECT substr(sha256(caller || ' ' || request_id), 1, 16), substr(sha256(caller || ' ' || idempotency_key), 1, 16),
        caller, request_id, body_hash, record_id, state, settle_by, forget_at, answer FROM mints ORDER BY forget_at;
DROP TABLE mints;
ALTER TABLE mints_new RENAME TO mints;

CREATE INDEX mints_pending ON mints (settle_by) WHERE state = 'pending';
CREATE INDEX mints_forget_at ON mints (forget_at);
