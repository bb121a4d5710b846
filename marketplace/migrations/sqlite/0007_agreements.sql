-- Usage agreements. The document and the proofs of calls are in `documents`.

CREATE TABLE agreements (
    market        INTEGER NOT NULL,
    id            BLOB    NOT NULL CHECK (length(id) = 16),
    version       INTEGER NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        INTEGER,
    claimed_until INTEGER,
    claims        INTEGER NOT NULL,
    buyer         BLOB,
    seller        BLOB,
    body          TEXT    NOT NULL,
    CONSTRAINT agreements_key PRIMARY KEY (market, id)
) STRICT;
CREATE INDEX agreements_due    ON agreements (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX agreements_buyer  ON agreements (market, buyer, id);
CREATE INDEX agreements_seller ON agreements (market, seller, id);
