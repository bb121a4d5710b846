-- Ids are the 16 bytes of a UUID, moments are microseconds since 1970 in UTC, amounts are whole minor
-- units of a currency written as code/decimals (EUR/2). Every row carries its market.

CREATE TABLE markets (
    market INTEGER PRIMARY KEY,
    name   TEXT NOT NULL CONSTRAINT markets_name UNIQUE
) STRICT;

CREATE TABLE policies (
    market  INTEGER NOT NULL REFERENCES markets,
    version INTEGER NOT NULL CHECK (version > 0),
    body    TEXT    NOT NULL,
    CONSTRAINT policies_key PRIMARY KEY (market, version)
) STRICT;

-- Records: one table for each kind, the record itself as JSON in `body`, and beside it what it is
-- found by. `version` guards every write; `claims` counts the claims since the last one.

CREATE TABLE jobs (
    market        INTEGER NOT NULL,
    id            BLOB    NOT NULL CHECK (length(id) = 16),
    version       INTEGER NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        INTEGER,
    claimed_until INTEGER,
    claims        INTEGER NOT NULL,
    buyer         BLOB,
    worker        BLOB,
    body          TEXT    NOT NULL,
    CONSTRAINT jobs_key PRIMARY KEY (market, id)
) STRICT;
CREATE INDEX jobs_due    ON jobs (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_buyer  ON jobs (market, buyer, id);
CREATE INDEX jobs_worker ON jobs (market, worker, id) WHERE worker IS NOT NULL;

CREATE TABLE instructions (
    market        INTEGER NOT NULL,
    id            BLOB    NOT NULL CHECK (length(id) = 16),
    version       INTEGER NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        INTEGER,
    claimed_until INTEGER,
    claims        INTEGER NOT NULL,
    contract      BLOB,
    body          TEXT    NOT NULL,
    CONSTRAINT instructions_key PRIMARY KEY (market, id)
) STRICT;
CREATE INDEX instructions_due      ON instructions (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX instructions_contract ON instructions (market, contract, id);
CREATE INDEX instructions_status   ON instructions (market, status, id);

CREATE TABLE observations (
    market        INTEGER NOT NULL,
    id            BLOB    NOT NULL CHECK (length(id) = 16),
    version       INTEGER NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        INTEGER,
    claimed_until INTEGER,
    claims        INTEGER NOT NULL,
    body          TEXT    NOT NULL,
    CONSTRAINT observations_key PRIMARY KEY (market, id)
) STRICT;
CREATE INDEX observations_due    ON observations (market, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX observations_status ON observations (market, status, id);

-- The event log. There is one writer at a time, so `number` is the order of the commits.
CREATE TABLE events (
    number  INTEGER PRIMARY KEY,
    market  INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    subject BLOB    NOT NULL CHECK (length(subject) = 16),
    version INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    actor   TEXT    NOT NULL,
    body    TEXT    NOT NULL
) STRICT;
CREATE INDEX events_market  ON events (market, number);
CREATE INDEX events_subject ON events (subject, number);

-- The ledger. A transfer is one row with one amount, so it cannot be out of balance. The transfers of
-- one movement share contract and version; each says which of how many parts it is.
CREATE TABLE transfers (
    number   INTEGER PRIMARY KEY,
    market   INTEGER NOT NULL,
    contract BLOB    NOT NULL CHECK (length(contract) = 16),
    version  INTEGER NOT NULL,
    part     INTEGER NOT NULL,
    parts    INTEGER NOT NULL,
    debit    TEXT    NOT NULL,
    credit   TEXT    NOT NULL,
    amount   INTEGER NOT NULL,
    currency TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    CONSTRAINT transfers_movement UNIQUE (market, contract, version, part),
    CONSTRAINT transfers_part     CHECK (part BETWEEN 1 AND parts AND parts <= 64),
    CONSTRAINT transfers_amount   CHECK (amount > 0),
    CONSTRAINT transfers_accounts CHECK (debit <> credit)
) STRICT;
CREATE INDEX transfers_debit  ON transfers (market, debit, number);
CREATE INDEX transfers_credit ON transfers (market, credit, number);

-- The balances of accounts that have a limit; the others are summed from their transfers.
CREATE TABLE accounts (
    market   INTEGER NOT NULL,
    account  TEXT    NOT NULL,
    currency TEXT    NOT NULL,
    balance  INTEGER NOT NULL,
    version  INTEGER NOT NULL CHECK (version > 0),
    CONSTRAINT accounts_key   PRIMARY KEY (market, account, currency),
    CONSTRAINT accounts_kind  CHECK (account LIKE 'wallet/%' OR account LIKE 'escrow/%' OR account LIKE 'debt/%'),
    CONSTRAINT accounts_limit CHECK (CASE WHEN account LIKE 'debt/%' THEN balance <= 0 ELSE balance >= 0 END)
) STRICT, WITHOUT ROWID;

-- Idempotency keys: what was commanded (a SHA-256 digest) and what was answered.
CREATE TABLE keys (
    market      INTEGER NOT NULL,
    key         TEXT    NOT NULL,
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    kind        TEXT    NOT NULL,
    answer      TEXT    NOT NULL,
    CONSTRAINT keys_key PRIMARY KEY (market, key)
) STRICT;

CREATE TABLE documents (
    market  INTEGER NOT NULL,
    subject BLOB    NOT NULL CHECK (length(subject) = 16),
    name    TEXT    NOT NULL,
    body    TEXT    NOT NULL,
    CONSTRAINT documents_key PRIMARY KEY (market, subject, name)
) STRICT;

-- Where readers of the event log stand.
CREATE TABLE cursors (
    market INTEGER NOT NULL,
    reader TEXT    NOT NULL,
    place  TEXT    NOT NULL,
    CONSTRAINT cursors_key PRIMARY KEY (market, reader)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER transfers_keep_row BEFORE UPDATE ON transfers BEGIN SELECT RAISE(ABORT, 'transfers are only added'); END;
CREATE TRIGGER transfers_keep     BEFORE DELETE ON transfers BEGIN SELECT RAISE(ABORT, 'transfers are only added'); END;
CREATE TRIGGER events_keep_row    BEFORE UPDATE ON events    BEGIN SELECT RAISE(ABORT, 'events are only added'); END;
CREATE TRIGGER events_keep        BEFORE DELETE ON events    BEGIN SELECT RAISE(ABORT, 'events are only added'); END;
CREATE TRIGGER keys_keep_row      BEFORE UPDATE ON keys      BEGIN SELECT RAISE(ABORT, 'keys are only added'); END;
CREATE TRIGGER keys_keep          BEFORE DELETE ON keys      BEGIN SELECT RAISE(ABORT, 'keys are only added'); END;
CREATE TRIGGER documents_keep_row BEFORE UPDATE ON documents BEGIN SELECT RAISE(ABORT, 'documents are only added'); END;
CREATE TRIGGER documents_keep     BEFORE DELETE ON documents BEGIN SELECT RAISE(ABORT, 'documents are only added'); END;
