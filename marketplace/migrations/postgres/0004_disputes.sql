-- Disagreements about jobs, what parties say of each other, and how far agents are trusted. What is said
-- in words is in `documents`.

CREATE TABLE disputes (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    buyer         UUID,
    worker        UUID,
    body          TEXT    NOT NULL,
    CONSTRAINT disputes_key PRIMARY KEY (market, id)
);
CREATE INDEX disputes_due ON disputes (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX disputes_buyer ON disputes (market, buyer, id);
CREATE INDEX disputes_worker ON disputes (market, worker, id);
CREATE INDEX disputes_status ON disputes (market, status, id);

CREATE TABLE reviews (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    about         UUID,
    author        UUID,
    body          TEXT    NOT NULL,
    CONSTRAINT reviews_key PRIMARY KEY (market, id)
);
CREATE INDEX reviews_due ON reviews (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX reviews_about ON reviews (market, about, id);
CREATE INDEX reviews_author ON reviews (market, author, id);

CREATE TABLE reports (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    target        UUID,
    reporter      UUID,
    body          TEXT    NOT NULL,
    CONSTRAINT reports_key PRIMARY KEY (market, id)
);
CREATE INDEX reports_due ON reports (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX reports_target ON reports (market, target, id);
CREATE INDEX reports_reporter ON reports (market, reporter, id);

CREATE TABLE reputations (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    body          TEXT    NOT NULL,
    CONSTRAINT reputations_key PRIMARY KEY (market, id)
);
CREATE INDEX reputations_due ON reputations (market, due_at) WHERE due_at IS NOT NULL;
