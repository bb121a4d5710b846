-- What guards agents' money: addresses and payouts on their way (wallets), spending limits (budgets). The
-- balances themselves are in `accounts`.

CREATE TABLE wallets (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    body          TEXT    NOT NULL,
    CONSTRAINT wallets_key PRIMARY KEY (market, id)
);
CREATE INDEX wallets_due ON wallets (market, due_at) WHERE due_at IS NOT NULL;

CREATE TABLE budgets (
    market        BIGINT  NOT NULL,
    id            UUID    NOT NULL,
    version       BIGINT  NOT NULL CHECK (version > 0),
    status        TEXT    NOT NULL,
    due_at        BIGINT,
    claimed_until BIGINT,
    claims        BIGINT  NOT NULL,
    body          TEXT    NOT NULL,
    CONSTRAINT budgets_key PRIMARY KEY (market, id)
);
CREATE INDEX budgets_due ON budgets (market, due_at) WHERE due_at IS NOT NULL;
