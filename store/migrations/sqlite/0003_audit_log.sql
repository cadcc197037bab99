-- +goose Up

-- What binds a record to its leaf in the tree: hash is that of the leaf, salt goes
-- into the digest of its personal members. person is empty until the record is
-- erased; from then on it holds that digest in their place.
ALTER TABLE audit_records ADD COLUMN detail TEXT NOT NULL DEFAULT '';
ALTER TABLE audit_records ADD COLUMN salt BLOB NOT NULL DEFAULT x'';
ALTER TABLE audit_records ADD COLUMN hash BLOB NOT NULL DEFAULT x'';
ALTER TABLE audit_records ADD COLUMN person BLOB NOT NULL DEFAULT x'';

-- The head of the log: how many records have their place in the tree, and the signed
-- checkpoint that says so. The first unhashed records were written before there was a
-- tree, and have no hash. Of the first pruned records the leaves alone
-- are kept.
CREATE TABLE audit_head (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    size     INTEGER NOT NULL CHECK (size >= 0),
    note     TEXT    NOT NULL,
    unhashed INTEGER NOT NULL,
    pruned   INTEGER NOT NULL CHECK (pruned >= 0 AND pruned <= size)
) STRICT;

INSERT INTO audit_head (id, size, note, unhashed, pruned)
    VALUES (1, 0, '', (SELECT coalesce(max(seq), 0) FROM audit_records), 0);

-- The tree in tiles of 256 hashes: tile n of a level has the hashes of the subtrees of
-- 256^level records that begin at record n * 256^(level + 1) (C2SP tlog-tiles). The
-- last tile of a level grows until it is full.
CREATE TABLE audit_tiles (
    level  INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    hashes BLOB    NOT NULL,
    PRIMARY KEY (level, n)
) STRICT;

-- How far each anchor has the records: all up to the one at upto.
CREATE TABLE audit_anchors (
    name TEXT    NOT NULL PRIMARY KEY,
    upto INTEGER NOT NULL CHECK (upto >= 0)
) STRICT;

-- A record's time is also in its id.
DROP INDEX audit_records_time;
CREATE INDEX audit_records_tenant ON audit_records (tenant, seq) WHERE tenant <> '';
CREATE INDEX audit_records_grant ON audit_records (grant_id, seq) WHERE grant_id <> '';

-- A record can be erased: its personal members go, and their digest takes their place.
-- Nothing else of it changes, and it cannot be undone.
DROP TRIGGER audit_records_no_update;
UPDATE audit_records SET salt = randomblob(16);
-- +goose StatementBegin
CREATE TRIGGER audit_records_no_update BEFORE UPDATE ON audit_records
WHEN NOT (OLD.person = x'' AND length(NEW.person) = 32 AND NEW.salt = x''
    AND NEW.identity_type = '' AND NEW.identity_value = '' AND NEW.omni_account = '' AND NEW.wallet = ''
    AND NEW.source = '' AND NEW.tenant = '' AND NEW.agent = '' AND NEW.scope_path = ''
    AND NEW.seq = OLD.seq AND NEW.id = OLD.id AND NEW.time = OLD.time AND NEW.action = OLD.action
    AND NEW.outcome = OLD.outcome AND NEW.reason = OLD.reason AND NEW.key_id = OLD.key_id
    AND NEW.token_id = OLD.token_id AND NEW.request_id = OLD.request_id AND NEW.service = OLD.service
    AND NEW.grant_id = OLD.grant_id AND NEW.credential_id = OLD.credential_id AND NEW.settles = OLD.settles
    AND NEW.detail = OLD.detail AND NEW.hash = OLD.hash)
BEGIN
    SELECT RAISE(ABORT, 'audit_records is append-only: UPDATE refused');
END;
-- +goose StatementEnd

-- Records go only behind the mark that says that they were pruned.
DROP TRIGGER audit_records_no_delete;
-- +goose StatementBegin
CREATE TRIGGER audit_records_no_delete BEFORE DELETE ON audit_records
WHEN OLD.seq > (SELECT pruned FROM audit_head)
BEGIN
    SELECT RAISE(ABORT, 'audit_records is append-only: DELETE refused');
END;
-- +goose StatementEnd

-- For people with sqlite3: one row a record, in words. status says what became by
-- now of what the record is about; anchors names the places beside this database that have the record.
CREATE VIEW audit AS SELECT
    r.id,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.time / 1000.0, 'unixepoch') AS time,
    r.action,
    r.omni_account, r.wallet, r.tenant, r.agent, r.service, r.scope_path, r.grant_id,
    CASE coalesce(b.outcome, s.outcome, r.outcome)
        WHEN 'pending' THEN 'pending'
        WHEN 'quarantined' THEN 'quarantined'
        WHEN 'failed' THEN 'failed'
        WHEN 'refused' THEN 'failed'
        ELSE 'confirmed'
    END AS status,
    r.outcome, r.reason, r.detail,
    r.identity_type, r.identity_value, r.key_id, r.token_id, r.credential_id, r.source, r.request_id, r.settles,
    r.seq AS place,
    lower(hex(r.hash)) AS hash,
    (SELECT coalesce(group_concat(name, ','), '') FROM (SELECT name FROM audit_anchors WHERE upto >= r.seq ORDER BY name)) AS anchors
FROM audit_records r
    LEFT JOIN audit_records s ON s.settles = r.id AND s.settles <> ''
    LEFT JOIN audit_records b ON b.settles = s.id AND b.settles <> ''; -- an outcome that was taken back
