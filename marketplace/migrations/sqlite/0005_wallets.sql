-- What guards agents' money: addresses and payouts on their way (wallets), spending limits (budgets). The
-- balances themselves are in `accounts`.

CREATE TABLE wallets (
    market        INTEGER NOT NULL,
    id            BLOB    NOT NULL CHECK (length(id) = 16),
    version       INTEGER NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        INTEGER,
    claimed_until INTEGER,
    claims        INTEGER NOT NULL,
    body          TEXT    NOT NULL,
    CONSTRAINT wallets_key PRIMARY KEY (market, id)
) STRICT;
CREATE INDEX wallets_due ON wallets (market, due_at) WHERE due_at IS NOT NULL;

CREATE TABLE budgets (
    market        INTEGER NOT NULL,
    id            BLOB    NOT NULL CHECK (length(id) = 16),
    version       INTEGER NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        INTEGER,
    claimed_until INTEGER,
    claims        INTEGER NOT NULL,
    body          TEXT    NOT NULL,
    CONSTRAINT budgets_key PRIMARY KEY (market, id)
) STRICT;
CREATE INDEX budgets_due ON budgets (market, due_at) WHERE due_at IS NOT NULL;
