-- Moments are microseconds since 1970 in UTC, amounts are whole minor units of a currency written as
-- code/decimals (EUR/2). Every row carries its market.

CREATE TABLE markets (
    market BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name   TEXT NOT NULL CONSTRAINT markets_name UNIQUE
);

CREATE TABLE policies (
    market  BIGINT  NOT NULL REFERENCES markets,
    version BIGINT  NOT NULL CHECK (version > 0),
    body    TEXT    NOT NULL,
    CONSTRAINT policies_key PRIMARY KEY (market, version)
);

-- Records: one table for each kind, the record itself as JSON in `body`, and beside it what it is
-- found by. `version` guards every write; `claims` counts the claims since the last one.

CREATE TABLE jobs (
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
    CONSTRAINT jobs_key PRIMARY KEY (market, id)
);
CREATE INDEX jobs_due    ON jobs (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_buyer  ON jobs (market, buyer, id);
CREATE INDEX jobs_worker ON jobs (market, worker, id) WHERE worker IS NOT NULL;

CREATE TABLE instructions (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    contract      UUID,
    body          TEXT    NOT NULL,
    CONSTRAINT instructions_key PRIMARY KEY (market, id)
);
CREATE INDEX instructions_due      ON instructions (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX instructions_contract ON instructions (market, contract, id);
CREATE INDEX instructions_status   ON instructions (market, status, id);

CREATE TABLE observations (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    body          TEXT    NOT NULL,
    CONSTRAINT observations_key PRIMARY KEY (market, id)
);
CREATE INDEX observations_due    ON observations (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX observations_status ON observations (market, status, id);

-- The event log. Transactions become visible in another order than they number their events, so readers
-- go by `epoch` first and stay below every transaction that is still under way. `epoch` is the writing
-- transaction's id, raised to that of the record's event before, so that one record's events keep their
-- order even when a transaction that began earlier writes later.
CREATE TABLE events (
    number  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    epoch   BIGINT  NOT NULL,
    market  BIGINT  NOT NULL,
    kind    TEXT    NOT NULL,
    subject UUID    NOT NULL,
    version BIGINT  NOT NULL,
    at      BIGINT  NOT NULL,
    actor   TEXT    NOT NULL,
    body    TEXT    NOT NULL
);
CREATE INDEX events_epoch   ON events (epoch);
CREATE INDEX events_market  ON events (market, epoch, number);
CREATE INDEX events_subject ON events (market, subject, epoch, number);

-- What is added to a transaction's id to make an epoch: raised when the database is found on a server
-- that counts its transactions from a lower number, as after restoring a dump.
CREATE TABLE feed (
    base BIGINT NOT NULL
);
INSERT INTO feed (base) VALUES (0);

-- The ledger. A transfer is one row with one amount, so it cannot be out of balance. The transfers of
-- one movement share contract and version; each says which of how many parts it is.
CREATE TABLE transfers (
    number   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    market   BIGINT  NOT NULL,
    contract UUID    NOT NULL,
    version  BIGINT  NOT NULL,
    part     BIGINT  NOT NULL,
    parts    BIGINT  NOT NULL,
    debit    TEXT    COLLATE "C" NOT NULL,
    credit   TEXT    COLLATE "C" NOT NULL,
    amount   BIGINT  NOT NULL,
    currency TEXT    COLLATE "C" NOT NULL,
    kind     TEXT    NOT NULL,
    at       BIGINT  NOT NULL,
    CONSTRAINT transfers_movement UNIQUE (market, contract, version, part),
    CONSTRAINT transfers_part     CHECK (part BETWEEN 1 AND parts AND parts <= 64),
    CONSTRAINT transfers_amount   CHECK (amount > 0),
    CONSTRAINT transfers_accounts CHECK (debit <> credit)
);
CREATE INDEX transfers_debit  ON transfers (market, debit, number);
CREATE INDEX transfers_credit ON transfers (market, credit, number);

-- The balances of accounts that have a limit; the others are summed from their transfers.
CREATE TABLE accounts (
    market   BIGINT  NOT NULL,
    account  TEXT    COLLATE "C" NOT NULL,
    currency TEXT    COLLATE "C" NOT NULL,
    balance  BIGINT  NOT NULL,
    version  BIGINT  NOT NULL CHECK (version > 0),
    CONSTRAINT accounts_key   PRIMARY KEY (market, account, currency),
    CONSTRAINT accounts_kind  CHECK (account LIKE 'wallet/%' OR account LIKE 'escrow/%' OR account LIKE 'debt/%'),
    CONSTRAINT accounts_limit CHECK (CASE WHEN account LIKE 'debt/%' THEN balance <= 0 ELSE balance >= 0 END)
);

-- Idempotency keys: what was commanded (a SHA-256 digest) and what was answered.
CREATE TABLE keys (
    market      BIGINT  NOT NULL,
    key         TEXT    COLLATE "C" NOT NULL,
    fingerprint BYTEA   NOT NULL CHECK (octet_length(fingerprint) = 32),
    kind        TEXT    NOT NULL,
    answer      TEXT    NOT NULL,
    CONSTRAINT keys_key PRIMARY KEY (market, key)
);

CREATE TABLE documents (
    market  BIGINT  NOT NULL,
    subject UUID    NOT NULL,
    name    TEXT    NOT NULL,
    body    TEXT    NOT NULL,
    CONSTRAINT documents_key PRIMARY KEY (market, subject, name)
);

-- Where readers of the event log stand.
CREATE TABLE cursors (
    market BIGINT  NOT NULL,
    reader TEXT    NOT NULL,
    place  TEXT    NOT NULL,
    CONSTRAINT cursors_key PRIMARY KEY (market, reader)
);

CREATE FUNCTION only_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% are only added', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER transfers_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers FOR EACH STATEMENT EXECUTE FUNCTION only_added();
CREATE TRIGGER events_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION only_added();
CREATE TRIGGER keys_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON keys FOR EACH STATEMENT EXECUTE FUNCTION only_added();
CREATE TRIGGER documents_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON documents FOR EACH STATEMENT EXECUTE FUNCTION only_added();
