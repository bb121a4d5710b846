//! What happens after a share has reached a worker's account: payouts to its bank, by command, and their history.

use tradepost::{
    money::{Currency, Money},
    rail::{Party, SettlementRail},
};
use tradepost_stripe::StripeErrorKind;

use crate::{
    double::Trouble,
    life::{BUYER, WORKER, eur},
    steps::Bench,
};

/// A worker whose account got 90 euros by a job.
async fn with_a_balance() -> Bench {
    let bench = Bench::new().await;
    bench.people.worker(&bench.double, WORKER.0);
    let funding = bench.funded().await;
    let legs = [(Party::Worker(WORKER), 9_000), (Party::Platform, 1_000)];
    bench.rail.execute(&bench.settle(&funding, &legs)).await.unwrap();
    bench
}

/// VP-36: what a worker's account has is sent on by command, in parts, and the history tells of each.
#[tokio::test]
async fn vp_36_an_accounts_balance_is_paid_out_by_command_and_listed() {
    let bench = with_a_balance().await;
    let connect = bench.rail.connect();
    let has = async || connect.balance(WORKER).await.unwrap().unwrap().available;
    assert_eq!(has().await, eur(9_000));
    let sent = connect.pay_out(WORKER, eur(4_000), "monday").await.unwrap();
    assert_eq!((sent.amount, &*sent.status, sent.automatic, &sent.failure), (eur(4_000), "pending", false, &None));
    assert_eq!(has().await, eur(5_000));
    let account = bench.people.known_account(WORKER);
    bench.double.lock().world.pass(86_400);
    bench.double.lock().world.empty(&account);
    {
        let world = &mut bench.double.lock().world;
        let ids: Vec<String> = world.payouts.iter().map(|(_, p)| p["id"].as_str().unwrap().to_owned()).collect();
        world.arrive(&ids[0], None);
        world.arrive(&ids[1], Some("account_closed"));
    }
    let history = connect.bank_payouts(WORKER, None).await.unwrap();
    let seen: Vec<_> = history.iter().map(|p| (p.amount, &*p.status, p.automatic, p.failure.as_deref())).collect();
    assert_eq!(seen, [(eur(5_000), "failed", true, Some("account_closed")), (eur(4_000), "paid", false, None)]);
    assert_eq!(has().await, eur(5_000), "what the bank did not take is there again");
    assert_eq!(history[0].created - history[1].created, chrono::TimeDelta::days(1));
    let older = connect.bank_payouts(WORKER, Some(&history[0].id)).await.unwrap();
    assert_eq!(older, history[1..]);
}

/// A payout of one name is sent once, whatever fails, also after Stripe forgot its key.
#[tokio::test]
async fn a_payout_of_one_name_is_sent_once() {
    let troubles = [Trouble::LostBefore, Trouble::LostAfter, Trouble::Garbled, Trouble::Busy, Trouble::InUse];
    for trouble in troubles.into_iter().chain([Trouble::Broken, Trouble::BrokenAfter]) {
        for days in [0, 2] {
            let bench = with_a_balance().await;
            let connect = bench.rail.connect();
            bench.double.arrange(trouble);
            let failed = connect.pay_out(WORKER, eur(4_000), "monday").await.unwrap_err();
            assert!(failed.request_id().is_some() || failed.kind() == StripeErrorKind::Lost, "{trouble:?}: {failed}");
            bench.double.lock().world.pass(days * 86_400);
            for _ in 0..2 {
                let sent = connect.pay_out(WORKER, eur(4_000), "monday").await.unwrap();
                assert_eq!(sent.amount, eur(4_000), "{trouble:?}");
            }
            assert_eq!(connect.bank_payouts(WORKER, None).await.unwrap().len(), 1, "{trouble:?}, {days} days");
            connect.pay_out(WORKER, eur(4_000), "tuesday").await.unwrap();
            assert_eq!(connect.balance(WORKER).await.unwrap().unwrap().available, eur(1_000));
        }
    }
}

/// What cannot be paid out is refused with a type, and moves nothing.
#[tokio::test]
async fn a_payout_that_cannot_be_is_refused() {
    let bench = with_a_balance().await;
    let connect = bench.rail.connect();
    connect.pay_out(WORKER, eur(100), "monday").await.unwrap();
    let long = "x".repeat(101);
    let usdc = Money::new(100, Currency::USDC);
    let refused = [
        (WORKER, eur(100), "", StripeErrorKind::Configuration),
        (WORKER, eur(100), "mon day", StripeErrorKind::Configuration),
        (WORKER, eur(100), &*long, StripeErrorKind::Configuration),
        (WORKER, eur(0), "x", StripeErrorKind::Configuration),
        (WORKER, eur(-1), "x", StripeErrorKind::Configuration),
        (WORKER, usdc, "x", StripeErrorKind::Configuration),
        (BUYER, eur(100), "x", StripeErrorKind::Unknown),
        (WORKER, eur(101), "monday", StripeErrorKind::KeyReused),
        (WORKER, eur(9_000), "tuesday", StripeErrorKind::Invalid),
    ];
    for (worker, amount, name, kind) in refused {
        let error = connect.pay_out(worker, amount, name).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{amount} {name}: {error}");
    }
    let account = bench.people.known_account(WORKER);
    bench.double.lock().world.close(&account);
    let error = connect.pay_out(WORKER, eur(100), "wednesday").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (StripeErrorKind::Invalid, Some("payouts_not_allowed")), "{error}");
    assert_eq!(connect.bank_payouts(WORKER, None).await.unwrap().len(), 1);
    // What was refused under a name goes through under it when it can.
    bench.double.lock().world.onboard(&account);
    connect.pay_out(WORKER, eur(100), "wednesday").await.unwrap();
}
