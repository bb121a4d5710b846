//! Money that goes back: chargebacks, transfer reversals, debts, refunds after payout, and payments that are
//! exchanged, with the engine, the rail and the double over HTTP.

use std::sync::Arc;

use tradepost::{
    hold::HoldEvent,
    job::{CancelCause, JobEvent, JobStatus},
    ledger::{Account, RevenueKind},
    money::Currency,
    store::EventBody,
};
use tradepost_stripe::{Evidence, HandIn, HoldMode, Presentment, StripeConfig, StripeErrorKind, StripeRail};

use crate::{
    conformance::{AUTHORISE, push},
    double::{Double, Trouble},
    life::{BUYER, Desk, RAIL, WORKER, eur, int, settle_everything},
    people::{DoubleClock, People, WEBHOOK_SECRETS, config},
};

/// What the double's bank charges for a chargeback, and gives back of it when it is won.
const FEE: i64 = 2_000;
const FEE_BACK: i64 = 1_500;
/// The fee on a charge of 100 euros.
const CHARGED: i64 = 175;

impl Desk {
    fn charge(&self) -> String {
        self.double.lock().world.charges[0]["id"].as_str().unwrap().to_owned()
    }

    fn account(&self) -> String {
        self.double.lock().world.accounts[0]["id"].as_str().unwrap().to_owned()
    }

    fn dispute(&self) {
        let charge = self.charge();
        assert!(self.double.lock().world.dispute(&charge));
    }

    fn decide(&self, won: bool) {
        let charge = self.charge();
        assert!(self.double.lock().world.decide(&charge, won));
    }

    async fn owns(&self, account: Account) -> i64 {
        self.market.balance(account, None).await.unwrap().minor()
    }

    /// The newest webhook, twice.
    async fn pushed(&self) {
        let (event, now) = {
            let world = &self.double.lock().world;
            (world.events.last().unwrap().clone(), world.now)
        };
        for _ in 0..2 {
            self.market.receive(RAIL, &push(&event, now, WEBHOOK_SECRETS[0])).await.unwrap();
        }
    }
}

/// A hold under dispute freezes when Stripe says so, and goes on when the dispute is won; by webhook and by the
/// list of events after an outage.
#[tokio::test]
async fn a_dispute_freezes_the_hold_and_winning_lets_it_go_on() {
    for by_webhook in [true, false] {
        let desk = Desk::new(HoldMode::Charge).await;
        let job = desk.post(10_000).await.id;
        desk.bring(job, JobStatus::Accepted).await;
        let told = async || match by_webhook {
            true => desk.pushed().await,
            false => desk.market.run_until_idle().await.unwrap(),
        };
        desk.dispute();
        told().await;
        assert_eq!(desk.market.job(job).await.unwrap().status, JobStatus::Frozen, "webhook: {by_webhook}");
        let due = desk.market.job_history(job).await.unwrap().iter().find_map(|logged| match &logged.event.body {
            EventBody::Job(JobEvent::Hold(HoldEvent::ChargebackOpened { evidence_due, cost, .. })) => {
                Some((*evidence_due, *cost))
            }
            _ => None,
        });
        let (due, cost) = due.unwrap();
        let now = desk.double.lock().world.now;
        assert_eq!((due.unwrap().timestamp(), cost), (now + 7 * 86_400, eur(FEE)));
        desk.agrees("contested").await;
        desk.decide(true);
        told().await;
        assert_eq!(desk.market.job(job).await.unwrap().status, JobStatus::Accepted);
        assert_eq!(desk.owns(Account::Cost(RAIL)).await, -(CHARGED + FEE - FEE_BACK));
        desk.agrees("won").await;
        desk.bring(job, JobStatus::Delivered).await;
        desk.market.agent(BUYER).approve(job).await.unwrap();
        let account = desk.account();
        assert_eq!(desk.double.lock().world.at_account(&account), 9_000);
        desk.agrees("paid").await;
    }
}

/// A hold that is lost before payout ends the job, and nobody is paid.
#[tokio::test]
async fn a_lost_dispute_before_payout_ends_the_job() {
    let desk = Desk::new(HoldMode::Charge).await;
    let job = desk.post(10_000).await.id;
    desk.bring(job, JobStatus::Delivered).await;
    desk.dispute();
    desk.decide(false);
    desk.market.run_until_idle().await.unwrap();
    assert_eq!(desk.market.job(job).await.unwrap().status, JobStatus::Cancelled);
    let history = desk.market.job_history(job).await.unwrap();
    let by_the_bank =
        |body: &EventBody| matches!(body, EventBody::Job(JobEvent::Cancelled { cause: CancelCause::Chargeback, .. }));
    assert!(history.iter().any(|logged| by_the_bank(&logged.event.body)));
    assert_eq!(desk.double.lock().world.total(), -(CHARGED + FEE), "Stripe's fees are the platform's");
    desk.agrees("lost").await;
}

/// A dispute that is lost after payout reverses the worker's transfer; what its account does not have is a debt.
#[tokio::test]
async fn a_lost_dispute_after_payout_reverses_the_transfer_or_becomes_a_debt() {
    for (spent, hold) in [(false, HoldMode::Charge), (true, HoldMode::Charge), (false, AUTHORISE), (true, AUTHORISE)] {
        let desk = Desk::new(hold).await;
        let job = desk.paid(10_000).await;
        settle_everything(0, &desk).await;
        if spent {
            let account = desk.account();
            desk.double.lock().world.empty(&account);
        }
        desk.dispute();
        desk.market.run_until_idle().await.unwrap();
        assert_eq!(desk.market.job(job).await.unwrap().status, JobStatus::Completed);
        desk.agrees("contested").await;
        desk.decide(false);
        settle_everything(0, &desk).await;
        let context = format!("{hold:?}, spent {spent}");
        assert_eq!(desk.owns(Account::Debt(WORKER)).await, if spent { -9_000 } else { 0 }, "{context}");
        assert_eq!(desk.owns(Account::Revenue(RevenueKind::Fees)).await, 0, "{context}: the fee goes back too");
        let reversed = desk.double.lock().world.reversals.iter().map(|r| int(&r["amount"])).sum::<i64>();
        assert_eq!(reversed, if spent { 0 } else { 9_000 }, "{context}");
        desk.agrees(&context).await;
    }
}

/// A reversal that fails in any way happens once.
#[tokio::test]
async fn a_reversal_happens_once_whatever_fails() {
    let troubles = [Trouble::LostBefore, Trouble::LostAfter, Trouble::Garbled, Trouble::Busy, Trouble::InUse];
    for trouble in troubles.into_iter().chain([Trouble::Broken, Trouble::BrokenAfter, Trouble::Declined]) {
        let desk = Desk::new(HoldMode::Charge).await;
        desk.paid(10_000).await;
        desk.dispute();
        desk.decide(false);
        desk.double.arrange(trouble);
        settle_everything(0, &desk).await;
        let reversals = desk.double.lock().world.reversals.len();
        let declined = trouble == Trouble::Declined;
        assert_eq!(reversals, usize::from(!declined), "{trouble:?}");
        assert_eq!(desk.owns(Account::Debt(WORKER)).await, if declined { -9_000 } else { 0 }, "{trouble:?}");
        desk.agrees(&format!("{trouble:?}")).await;
    }
}

/// A payer's refund that the bank stands in the way of waits for the bank: won, it goes back; lost, the payer has
/// it already and is not given it twice.
#[tokio::test]
async fn a_division_waits_for_the_bank() {
    for won in [true, false] {
        for status in [JobStatus::Accepted, JobStatus::InProgress] {
            let desk = Desk::new(HoldMode::Charge).await;
            let job = desk.post(10_000).await.id;
            desk.bring(job, status).await;
            // Nobody has heard of it when the buyer cancels as well.
            desk.dispute();
            desk.market.agent(BUYER).cancel(job, "no longer needed").await.unwrap();
            desk.double.lock().world.pass(20 * 86_400);
            desk.market.run_until_idle().await.unwrap();
            desk.decide(won);
            settle_everything(0, &desk).await;
            let refunded = desk.double.lock().world.refunds.iter().map(|r| int(&r["amount"])).sum::<i64>();
            let back = if status == JobStatus::Accepted { 9_500 } else { 7_500 };
            assert_eq!(refunded, if won { back } else { 0 }, "{status:?}, won {won}");
            desk.agrees(&format!("{status:?}, won {won}")).await;
        }
    }
}

/// A share that the bank took before it was transferred is not transferred: the division ends, and nobody keeps
/// what is not there.
#[tokio::test]
async fn a_division_that_the_bank_overtakes_ends() {
    for hold in [HoldMode::Charge, AUTHORISE] {
        let desk = Desk::new(hold).await;
        let job = desk.post(10_000).await.id;
        desk.bring(job, JobStatus::Delivered).await;
        if hold == AUTHORISE {
            desk.double.arrange(Trouble::None); // the capture
        }
        desk.double.arrange(Trouble::LostBefore); // the transfer
        desk.market.agent(BUYER).approve(job).await.unwrap();
        desk.dispute();
        desk.double.lock().world.pass(60);
        desk.market.run_until_idle().await.unwrap();
        assert!(desk.double.lock().world.transfers.is_empty(), "{hold:?}: the bank has the money");
        desk.decide(false);
        settle_everything(0, &desk).await;
        assert!(desk.double.lock().world.transfers.is_empty(), "{hold:?}");
        for account in [Account::Available(WORKER), Account::Pending(WORKER), Account::Debt(WORKER)] {
            assert_eq!(desk.owns(account).await, 0, "{hold:?}, {account:?}");
        }
        desk.agrees(&format!("{hold:?}")).await;
    }
}

/// A bank that only asks takes nothing.
#[tokio::test]
async fn an_inquiry_moves_nothing() {
    let desk = Desk::new(HoldMode::Charge).await;
    let job = desk.post(10_000).await.id;
    let charge = desk.charge();
    desk.double.lock().world.inquire(&charge);
    desk.market.run_until_idle().await.unwrap();
    assert_eq!(desk.market.job(job).await.unwrap().status, JobStatus::Funded);
    desk.agrees("asked").await;
}

/// mercur #1523: a refund after payout is no transfer reversal by itself: worker and platform give it, at the rates
/// of the contract.
#[tokio::test]
async fn a_refund_after_payout_takes_back_what_each_got() {
    for hold in [HoldMode::Charge, AUTHORISE] {
        let desk = Desk::new(hold).await;
        let job = desk.paid(10_000).await;
        settle_everything(0, &desk).await;
        for cents in [3_333, 6_667] {
            desk.market.operator("Ada").refund_paid(job, Some(eur(cents)), "it never worked").await.unwrap();
            settle_everything(0, &desk).await;
            desk.agrees(&format!("{hold:?}, {cents}")).await;
        }
        let (refunds, reversals) = {
            let world = &desk.double.lock().world;
            let amounts = |list: &[serde_json::Value]| list.iter().map(|o| int(&o["amount"])).collect::<Vec<_>>();
            (amounts(&world.refunds), amounts(&world.reversals))
        };
        assert_eq!((refunds, reversals), (vec![3_333, 6_667], vec![2_999, 6_001]), "{hold:?}");
        let again = desk.market.operator("Ada").refund_paid(job, Some(eur(1)), "again").await;
        assert!(again.is_err(), "nothing is left");
    }
}

/// A chargeback's deadline is seen, and evidence handed in, under the reference that was observed.
#[tokio::test]
async fn evidence_is_handed_in() {
    let desk = Desk::new(HoldMode::Charge).await;
    desk.post(10_000).await;
    desk.dispute();
    let reference = desk.double.lock().world.disputes[0]["id"].as_str().unwrap().to_owned();
    let people = People::default();
    let rail = crate::people::rail(&desk.double, &people, HoldMode::Charge);
    let before = rail.disputes().status(&reference).await.unwrap();
    let now = desk.double.lock().world.now;
    assert_eq!((&*before.status, &*before.reason), ("needs_response", "product_not_received"));
    assert_eq!((before.amount, before.handed_in, before.too_late), (eur(10_000), 0, false));
    assert_eq!(before.evidence_due.unwrap().timestamp(), now + 7 * 86_400);
    let evidence = Evidence { text: Some("The translation was delivered.".into()), ..Evidence::default() };
    for how in [HandIn::Draft, HandIn::Final] {
        rail.disputes().hand_in(&reference, evidence.clone(), how).await.unwrap();
    }
    let dispute = desk.double.lock().world.disputes[0].clone();
    assert_eq!(
        (&dispute["status"], &dispute["evidence"]["uncategorized_text"]),
        (&"under_review".into(), &"The translation was delivered.".into())
    );
    let after = rail.disputes().status(&reference).await.unwrap();
    assert_eq!((&*after.status, after.handed_in), ("under_review", 1));
    let late = rail.disputes().hand_in(&reference, evidence.clone(), HandIn::Final).await.unwrap_err();
    assert_eq!(late.kind(), StripeErrorKind::Invalid);
    for bad in ["", "dp", "../charges/ch_1", "dp_\u{1F4A5}"] {
        let error = rail.disputes().hand_in(bad, evidence.clone(), HandIn::Draft).await.unwrap_err();
        assert_eq!(error.kind(), StripeErrorKind::Unknown, "{bad:?}");
        assert_eq!(rail.disputes().status(bad).await.unwrap_err().kind(), StripeErrorKind::Unknown, "{bad:?}");
    }
}

/// A desk whose payers pay in dollars, at 1.20 for a euro.
async fn in_dollars(hold: HoldMode) -> Desk {
    let (double, people) = (Double::start().await, People::default());
    people.buyer(&double, BUYER.0);
    people.worker(&double, WORKER.0);
    double.lock().world.exchange = Some((17, 20)); // a dollar is 0.85 euros
    let usd = Currency::new("USD", 2).unwrap();
    let presentment = Some(Presentment { currency: usd, rate: "1.20".parse().unwrap() });
    let config = StripeConfig { presentment, ..config(&double, hold) };
    let rail = StripeRail::new(config, people, Arc::new(DoubleClock(double.clone()))).unwrap();
    Desk::over(double, rail).await
}

/// A charge in another currency settles with an exchange: fee, gain and loss are booked from the balance
/// transactions, and the books meet Stripe's balance to the cent, whatever the rate does meanwhile.
#[tokio::test]
async fn an_exchanged_charge_is_booked_to_the_cent() {
    for hold in [HoldMode::Charge, AUTHORISE] {
        for ending in ["approved", "cancelled", "refunded", "won", "lost", "lost after payout"] {
            let context = format!("{hold:?}, {ending}");
            let desk = in_dollars(hold).await;
            let job = desk.post(10_001).await.id;
            desk.agrees(&context).await;
            assert_eq!(int(&desk.double.lock().world.charges[0]["amount"]), 12_002, "120.012 dollars, rounded up");
            if hold == HoldMode::Charge {
                let settled = 12_002 * 17 / 20;
                let cost = 10_001 - (settled - (settled * 15 / 1000 + 25));
                assert_eq!(desk.owns(Account::Cost(RAIL)).await, -cost, "{context}: fee less the gain");
            } else if ["won", "lost"].contains(&ending) {
                continue; // what is only reserved is not taken back
            }
            desk.double.lock().world.exchange = Some((9, 10)); // the rate moves
            match ending {
                "cancelled" => {
                    desk.bring(job, JobStatus::InProgress).await;
                    desk.market.agent(BUYER).cancel(job, "no longer needed").await.unwrap();
                }
                "won" | "lost" => {
                    desk.dispute();
                    desk.market.run_until_idle().await.unwrap();
                    desk.agrees(&context).await;
                    desk.decide(ending == "won");
                }
                _ => {
                    desk.bring(job, JobStatus::Delivered).await;
                    desk.market.agent(BUYER).approve(job).await.unwrap();
                }
            }
            settle_everything(0, &desk).await;
            desk.agrees(&context).await;
            match ending {
                "refunded" => {
                    desk.market.operator("Ada").refund_paid(job, Some(eur(3_333)), "it never worked").await.unwrap();
                }
                "lost after payout" => {
                    desk.dispute();
                    desk.decide(false);
                }
                _ => {}
            }
            settle_everything(0, &desk).await;
            desk.agrees(&context).await;
            assert_eq!(desk.owns(Account::Debt(WORKER)).await, 0, "{context}");
        }
    }
}

/// Another amount than asked for is noticed through the exchange.
#[tokio::test]
async fn an_exchanged_charge_of_another_amount_is_an_incident() {
    let desk = in_dollars(HoldMode::Charge).await;
    desk.double.arrange(Trouble::OtherAmount);
    desk.post(10_000).await;
    desk.market.run_until_idle().await.unwrap();
    let why: Vec<String> = desk.market.unsettled().await.unwrap().iter().map(|open| open.why()).collect();
    assert!(why.len() == 1 && why[0].starts_with("mismatch"), "{why:?}");
}

/// A rate that does not fit, and a currency that Stripe counts otherwise, are refused before anything is sent.
#[tokio::test]
async fn a_presentment_that_cannot_work_is_refused() {
    let double = Double::start().await;
    let clock = Arc::new(DoubleClock(double.clone()));
    let wrong = Currency::new("JPY", 2).unwrap();
    let presentment = Some(Presentment { currency: wrong, rate: "160".parse().unwrap() });
    let bad = StripeConfig { presentment, ..config(&double, HoldMode::Charge) };
    let error = StripeRail::new(bad, People::default(), clock).unwrap_err();
    assert_eq!(error.kind(), StripeErrorKind::Configuration);
    let usd = Currency::new("USD", 2).unwrap();
    let presentment = Some(Presentment { currency: usd, rate: "79228162514264337593543950335".parse().unwrap() });
    let huge = StripeConfig { presentment, ..config(&double, HoldMode::Charge) };
    let people = People::default();
    people.buyer(&double, BUYER.0);
    let rail = StripeRail::new(huge, people, Arc::new(DoubleClock(double.clone()))).unwrap();
    let desk = Desk::over(double, rail).await;
    let job = desk.post(10_000).await;
    assert_eq!(job.status, JobStatus::PendingPayment);
    assert!(desk.double.lock().world.charges.is_empty());
}
