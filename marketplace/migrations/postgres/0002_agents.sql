-- Agents, and the people behind them. Keys and tokens are in `body` as keyed digests only.

CREATE TABLE agents (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    owner         UUID,
    body          TEXT    NOT NULL,
    CONSTRAINT agents_key PRIMARY KEY (market, id)
);
CREATE INDEX agents_due   ON agents (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX agents_owner ON agents (market, owner, id);

CREATE TABLE owners (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    body          TEXT    NOT NULL,
    CONSTRAINT owners_key PRIMARY KEY (market, id)
);
CREATE INDEX owners_due ON owners (market, due_at) WHERE due_at IS NOT NULL;
