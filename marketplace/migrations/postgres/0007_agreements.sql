-- Usage agreements. The document and the proofs of calls are in `documents`.

CREATE TABLE agreements (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    buyer         UUID,
    seller        UUID,
    body          TEXT    NOT NULL,
    CONSTRAINT agreements_key PRIMARY KEY (market, id)
);
CREATE INDEX agreements_due    ON agreements (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX agreements_buyer  ON agreements (market, buyer, id);
CREATE INDEX agreements_seller ON agreements (market, seller, id);
