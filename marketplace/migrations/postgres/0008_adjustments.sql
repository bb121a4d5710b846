-- What operators moved by hand, and why. The money itself is in `transfers`, under the adjustment's id.

CREATE TABLE adjustments (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    body          TEXT    NOT NULL,
    CONSTRAINT adjustments_key PRIMARY KEY (market, id)
);
