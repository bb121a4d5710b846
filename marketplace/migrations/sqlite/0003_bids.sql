-- Bids on open jobs, and applications for them.

CREATE TABLE bids (
    market        INTEGER NOT NULL,
    id            BLOB    NOT NULL CHECK (length(id) = 16),
    version       INTEGER NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        INTEGER,
    claimed_until INTEGER,
    claims        INTEGER NOT NULL,
    job           BLOB,
    worker        BLOB,
    body          TEXT    NOT NULL,
    CONSTRAINT bids_key PRIMARY KEY (market, id)
) STRICT;
CREATE INDEX bids_due    ON bids (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX bids_job    ON bids (market, job, status, id);
CREATE INDEX bids_worker ON bids (market, worker, id);

-- What records are listed under: open jobs by capability and category, for as long as they are open.
CREATE TABLE tags (
    market INTEGER NOT NULL,
    kind   TEXT    NOT NULL,
    tag    TEXT    NOT NULL,
    id     BLOB    NOT NULL CHECK (length(id) = 16),
    CONSTRAINT tags_key PRIMARY KEY (market, kind, tag, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_subject ON tags (market, kind, id);

-- How many jobs an agent works on is counted however many it has done.
CREATE INDEX jobs_working ON jobs (market, worker, status) WHERE worker IS NOT NULL;
