-- +goose Up

-- What the start before this one had: its keys by id, with their purpose, its
-- variables by name, with a short digest of the value, and under configuration the
-- digest of all of them. The next start records what differs. The log says the same,
-- and is believed; this is where it is found when its records were pruned.
CREATE TABLE boot (
    kind  TEXT NOT NULL CHECK (kind IN ('key', 'variable', 'configuration')),
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;
