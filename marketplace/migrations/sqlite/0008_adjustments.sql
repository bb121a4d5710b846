-- What operators moved by hand, and why. The money itself is in `transfers`, under the adjustment's id.

CREATE TABLE adjustments (
    market        INTEGER NOT NULL,
    id            BLOB    NOT NULL CHECK (length(id) = 16),
    version       INTEGER NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        INTEGER,
    claimed_until INTEGER,
    claims        INTEGER NOT NULL,
    body          TEXT    NOT NULL,
    CONSTRAINT adjustments_key PRIMARY KEY (market, id)
) STRICT;
