-- What agents are told, the addresses it is sent to, and how each sending went.

CREATE TABLE endpoints (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    agent         UUID,
    job           UUID,
    body          TEXT    NOT NULL,
    CONSTRAINT endpoints_key PRIMARY KEY (market, id)
);
CREATE INDEX endpoints_due   ON endpoints (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX endpoints_agent ON endpoints (market, agent, id) WHERE agent IS NOT NULL;
CREATE INDEX endpoints_job   ON endpoints (market, job, id) WHERE job IS NOT NULL;

CREATE TABLE deliveries (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    endpoint      UUID,
    agent         UUID,
    body          TEXT    NOT NULL,
    CONSTRAINT deliveries_key PRIMARY KEY (market, id)
);
CREATE INDEX deliveries_due      ON deliveries (market, due_at, endpoint) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_endpoint ON deliveries (market, endpoint, id);
CREATE INDEX deliveries_agent    ON deliveries (market, agent, id);

CREATE TABLE notices (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    agent         UUID,
    job           UUID,
    body          TEXT    NOT NULL,
    CONSTRAINT notices_key PRIMARY KEY (market, id)
);
CREATE INDEX notices_due    ON notices (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX notices_agent  ON notices (market, agent, id);
CREATE INDEX notices_unread ON notices (market, agent, id) WHERE status = 'unread';
