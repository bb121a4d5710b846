-- Agents, and the people behind them. Keys and tokens are in `body` as keyed digests only.

CREATE TABLE agents (
    market        INTEGER NOT NULL,
    id            BLOB    NOT NULL CHECK (length(id) = 16),
    version       INTEGER NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        INTEGER,
    claimed_until INTEGER,
    claims        INTEGER NOT NULL,
    owner         BLOB,
    body          TEXT    NOT NULL,
    CONSTRAINT agents_key PRIMARY KEY (market, id)
) STRICT;
CREATE INDEX agents_due   ON agents (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX agents_owner ON agents (market, owner, id);

CREATE TABLE owners (
    market        INTEGER NOT NULL,
    id            BLOB    NOT NULL CHECK (length(id) = 16),
    version       INTEGER NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        INTEGER,
    claimed_until INTEGER,
    claims        INTEGER NOT NULL,
    body          TEXT    NOT NULL,
    CONSTRAINT owners_key PRIMARY KEY (market, id)
) STRICT;
CREATE INDEX owners_due ON owners (market, due_at) WHERE due_at IS NOT NULL;
