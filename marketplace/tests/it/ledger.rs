//! Double entry: what cannot be out of balance, what is refused, what undoes what.

use proptest::prelude::*;
use tradepost::{
    ids::{HoldId, RailId},
    ledger::{Account, Change, LedgerError, Limit, Movement, RevenueKind, TransferKind, TrialBalance},
    money::{Currency, Money},
};
use uuid::Uuid;

use crate::support::{Books, agent, buyer, worker};

fn euros(minor: i64) -> Money {
    Money::new(minor, Currency::EUR)
}

/// One account of every kind and a few more.
fn accounts() -> Vec<Account> {
    let rail = RailId::new("rail-1_x");
    let kinds = ["fees", "cancellations", "activations", "disputes", "withdrawals", "grants"];
    let mut all = vec![
        Account::Rail(rail),
        Account::Treasury(rail),
        Account::Clearing(rail),
        Account::Cost(rail),
        Account::Available(buyer()),
        Account::Pending(buyer()),
        Account::Available(worker()),
        Account::Debt(worker()),
        Account::Escrow(HoldId(Uuid::from_u128(7))),
    ];
    all.extend(kinds.map(|kind| format!("revenue/{kind}").parse::<Account>().unwrap()));
    all
}

fn account() -> impl Strategy<Value = Account> {
    prop::sample::select(accounts())
}

/// Movements as the engine could make them, in two currencies.
fn movement() -> impl Strategy<Value = Movement> {
    let kind = prop::sample::select(TransferKind::ALL.to_vec());
    let transfer = (account(), account(), 1i64..=i64::MAX / 128, kind, any::<bool>());
    prop::collection::vec(transfer, 0..=Movement::LIMIT).prop_map(|transfers| {
        let mut movement = Movement::new();
        for (debit, credit, minor, kind, euro) in transfers {
            let amount = Money::new(minor, if euro { Currency::EUR } else { Currency::CREDIT });
            if debit != credit {
                movement.transfer(debit, credit, amount, kind).unwrap();
            }
        }
        movement
    })
}

fn sum(changes: &[Change], currency: Currency) -> i128 {
    changes.iter().filter(|c| c.delta.currency() == currency).map(|c| i128::from(c.delta.minor())).sum()
}

proptest! {
    #[test]
    fn every_movement_sums_to_nothing_in_each_currency(movement in movement()) {
        let changes = movement.changes().unwrap();
        prop_assert_eq!(sum(&changes, Currency::EUR), 0);
        prop_assert_eq!(sum(&changes, Currency::CREDIT), 0);
        // Each account is named once for each currency, with what its transfers add up to.
        for (i, change) in changes.iter().enumerate() {
            let again = |other: &Change| other.account == change.account && other.delta.currency() == change.delta.currency();
            prop_assert!(!changes[i + 1..].iter().any(again));
            let of_it = movement.transfers().iter().filter(|t| t.amount().currency() == change.delta.currency());
            let exact: i128 = of_it
                .map(|t| {
                    let amount = i128::from(t.amount().minor());
                    i128::from(t.credit() == change.account) * amount - i128::from(t.debit() == change.account) * amount
                })
                .sum();
            prop_assert_eq!(i128::from(change.delta.minor()), exact);
        }
    }

    #[test]
    fn a_reversal_undoes_exactly(movement in movement()) {
        let back = movement.reversal();
        prop_assert_eq!(back.transfers().len(), movement.transfers().len());
        for (there, again) in movement.transfers().iter().zip(back.transfers().iter().rev()) {
            prop_assert_eq!((there.debit(), there.credit(), there.amount()), (again.credit(), again.debit(), again.amount()));
            prop_assert_eq!(again.kind(), TransferKind::Reversal);
        }
        let undone = |change: &Change| Change { account: change.account, delta: Money::new(-change.delta.minor(), change.delta.currency()) };
        let mut expected: Vec<_> = movement.changes().unwrap().iter().map(undone).collect();
        let mut found = back.changes().unwrap();
        let order = |c: &Change| (c.account, c.delta.currency());
        expected.sort_by_key(order);
        found.sort_by_key(order);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn an_accounts_name_is_read_back(id in any::<u128>(), rail in "[a-z0-9_-]{1,24}") {
        let rail: RailId = rail.parse().unwrap();
        let named = [
            Account::Rail(rail),
            Account::Treasury(rail),
            Account::Clearing(rail),
            Account::Cost(rail),
            Account::Available(agent(id)),
            Account::Pending(agent(id)),
            Account::Debt(agent(id)),
            Account::Escrow(HoldId(Uuid::from_u128(id))),
        ];
        for account in named {
            prop_assert_eq!(account.to_string().parse::<Account>(), Ok(account));
        }
    }

    #[test]
    fn no_text_makes_an_accounts_name_panic(text in "(rail|treasury|wallet|escrow|revenue|debt|\\PC{0,9})/\\PC{0,60}") {
        if let Ok(account) = text.parse::<Account>() {
            prop_assert_eq!(account.to_string().parse::<Account>(), Ok(account));
        }
    }
}

#[test]
fn every_kind_of_account_and_transfer_has_a_name_of_its_own() {
    let accounts = accounts();
    for (i, account) in accounts.iter().enumerate() {
        let name = account.to_string();
        assert_eq!(name.parse::<Account>(), Ok(*account));
        assert_eq!(serde_json::from_str::<Account>(&serde_json::to_string(account).unwrap()).unwrap(), *account);
        assert!(!accounts[i + 1..].iter().any(|other| other.to_string() == name), "{name} names two accounts");
    }
    for kind in TransferKind::ALL {
        assert_eq!(TransferKind::from_name(kind.as_str()), Some(kind));
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.as_str()));
    }
    assert_eq!(TransferKind::from_name("gift"), None);
}

#[test]
fn texts_that_name_no_account_are_refused() {
    let id = buyer();
    for text in [
        "".to_owned(),
        "wallet".into(),
        "wallet/".into(),
        format!("wallet/{id}"),
        format!("wallet/{id}/frozen"),
        format!("wallet/{id}/available/"),
        "wallet/nobody/available".into(),
        "escrow/7".into(),
        "rail/".into(),
        "rail/UPPER".into(),
        "rail/a/b".into(),
        format!("rail/{}", "a".repeat(25)),
        "revenue/gifts".into(),
        "savings/x".into(),
        "rail/\u{202e}x".into(),
    ] {
        let refused = text.parse::<Account>().unwrap_err();
        let cut: String = text.chars().take(96).collect();
        assert_eq!(refused.to_string(), format!("{cut:?} names no account"));
    }
}

#[test]
fn transfers_that_are_none_are_refused() {
    let (from, to) = (Account::Available(buyer()), Account::Escrow(HoldId(Uuid::from_u128(7))));
    let mut movement = Movement::new();
    for amount in [euros(-1), euros(i64::MIN)] {
        let refused = movement.transfer(from, to, amount, TransferKind::EscrowLock);
        assert_eq!(refused, Err(LedgerError::NotPositive { debit: from, credit: to, amount }));
    }
    let itself = movement.transfer(from, from, euros(5), TransferKind::EscrowLock);
    assert_eq!(itself, Err(LedgerError::SameAccount { account: from, amount: euros(5) }));
    movement.transfer(from, to, euros(0), TransferKind::Fee).unwrap();
    assert!(movement.is_empty(), "nothing leaves no trace");
    for _ in 0..Movement::LIMIT {
        movement.transfer(from, to, euros(1), TransferKind::EscrowLock).unwrap();
    }
    let full = movement.transfer(from, to, euros(1), TransferKind::EscrowLock);
    assert_eq!(full, Err(LedgerError::TooManyTransfers { limit: Movement::LIMIT }));
    assert_eq!(movement.transfers().len(), Movement::LIMIT);
}

#[test]
fn changes_past_64_bits_are_refused() {
    let (from, to) = (Account::Available(buyer()), Account::Available(worker()));
    let mut movement = Movement::new();
    movement.transfer(from, to, euros(i64::MAX), TransferKind::Earned).unwrap();
    assert_eq!(movement.changes().unwrap()[0].delta, euros(-i64::MAX));
    movement.transfer(from, to, euros(2), TransferKind::Earned).unwrap();
    assert_eq!(movement.changes(), Err(LedgerError::Overflow { account: from }));
}

/// Which accounts carry a limit is what overdrafts depend on.
#[test]
fn accounts_that_hold_others_money_carry_a_limit() {
    for account in accounts() {
        let expected = match account.to_string().split('/').next().unwrap() {
            "wallet" | "escrow" => Limit::NotNegative,
            "debt" => Limit::NotPositive,
            _ => Limit::None,
        };
        assert_eq!(account.limit(), expected, "{account}");
    }
}

#[test]
fn a_trial_balance_sums_wider_than_one_account() {
    let (a, b, c) = (Account::Available(buyer()), Account::Available(worker()), Account::Revenue(RevenueKind::Fees));
    let accounts = vec![(a, euros(i64::MAX)), (b, euros(i64::MAX)), (c, euros(-5))];
    let trial = TrialBalance { currency: Currency::EUR, accounts };
    assert_eq!(trial.sum(), 2 * i128::from(i64::MAX) - 5);
    assert_eq!(trial.of(c), euros(-5));
    assert_eq!(trial.of(Account::Pending(buyer())), euros(0));
}

/// The model that other tests lean on refuses what the ledger would.
#[test]
fn the_second_set_of_books_refuses_an_overdraft_whole() {
    let mut books = Books::default();
    let (from, to) = (Account::Available(buyer()), Account::Available(worker()));
    let mut movement = Movement::new();
    movement.transfer(from, to, euros(5), TransferKind::Earned).unwrap();
    let overdraft = LedgerError::Overdraft { account: from, needed: euros(5), available: euros(0) };
    assert_eq!(books.apply(&movement), Err(overdraft));
    assert_eq!(books, Books::default());
}
