//! The rules of bids, one by one, without an engine.

use tradepost::{
    actor::Actor,
    bid::{BidCommand, BidEvent, BidLoss, BidOrder, BidStatus, Side},
    error::Rejection,
    ids::BidId,
    job::{CancelCause, HoldState, JobCommand, JobEvent, JobStatus, OpenOrder, Search},
    ledger::{Account, LedgerError},
    money::{Currency, Money},
    policy::{Award, EscrowAt, Policy, Range, Span},
    rail::Custody,
    store::Kept as _,
};

use super::desk::{BidDesk, open_order, price};
use crate::support::{
    CUSTODIES, Desk, RAIL, agent, buyer, by, cancel, declined, freeze, operator, outcome, post, stranger, voxpact,
    worker,
};

fn voxpact_desk(custody: Custody) -> BidDesk {
    BidDesk::new(voxpact(), custody, 2000, OpenOrder::default())
}

fn just_pay() -> Policy {
    Policy::justpayai().unwrap()
}

fn described() -> OpenOrder {
    OpenOrder { description: Some("a logo in blue and white".into()), ..OpenOrder::default() }
}

fn search(desk: &BidDesk) -> Search {
    desk.job().open.as_ref().unwrap().search
}

/// VP-13: nothing is taken when an open job is posted, on any rail, and its window is 48 h.
#[test]
fn vp_13_an_open_job_takes_no_money_and_waits_48_hours() {
    for custody in CUSTODIES {
        let desk = voxpact_desk(custody);
        assert_eq!(desk.job().status, JobStatus::PendingPayment);
        assert_eq!(desk.job().hold.state, HoldState::Empty);
        assert!(desk.job.instructions.is_empty());
        assert_eq!(desk.job().due_at(), Some(desk.job.now + Span::hours(48).delta()));
    }
}

/// VP-13: an open job whose window ends without an award is over by itself; nothing was held.
#[test]
fn vp_13_a_window_that_ends_without_an_award_ends_the_job() {
    let mut desk = voxpact_desk(Custody::PerHold);
    desk.place(worker(), 1250).unwrap();
    desk.job.wait(Span::hours(48));
    let late = desk.accept(buyer(), worker(), 1250);
    assert!(matches!(late, Err(Rejection::TooLate { command: "accept_bid", .. })), "{late:?}");
    let events = desk.job.tick().unwrap();
    assert!(
        matches!(&events[..], [JobEvent::Cancelled { cause: CancelCause::NoAward, refunded, .. }] if refunded.is_zero())
    );
    assert!(desk.job.instructions.is_empty());
    assert_eq!(desk.close(64), Ok(1));
    assert_eq!(desk.bid(worker()).status, BidStatus::Rejected);
    assert!(matches!(desk.told.last(), Some(BidEvent::Rejected { because: BidLoss::JobOver, .. })));
    assert_eq!(desk.job().due_at(), None);
    assert!(matches!(desk.close(64), Err(Rejection::NothingDue { .. })));
}

/// VP-13: the window is 168 h at most, and ends before the work is due.
#[test]
fn vp_13_windows_are_bounded() {
    let mut desk = Desk::new(voxpact(), Custody::Internal);
    let mut try_window = |window: Span, deadline: Span| {
        let open = OpenOrder { window: Some(window), ..OpenOrder::default() };
        let mut order = open_order(&voxpact(), 2000, open);
        order.deadline = Some(deadline);
        desk.give(by(buyer()), post(order)).map(drop)
    };
    for (window, deadline) in [(169, 720), (0, 720), (49, 48)] {
        let refused = try_window(Span::hours(window), Span::hours(deadline));
        assert!(matches!(refused, Err(Rejection::Time { field: "window", .. })), "{window}: {refused:?}");
    }
    assert_eq!(try_window(Span::hours(168), Span::hours(720)), Ok(()));
    // A deadline shorter than the usual window shortens it.
    let mut order = open_order(&voxpact(), 2000, OpenOrder::default());
    order.deadline = Some(Span::hours(24));
    let mut desk = Desk::new(voxpact(), Custody::Internal);
    desk.must(by(buyer()), post(order));
    assert_eq!(desk.job().due_at(), Some(desk.now + Span::hours(24).delta()));
}

/// VP-13: bids below the reserve and above the posted amount are refused; VP-24: so are those below 5 €.
#[test]
fn vp_13_vp_24_prices_have_limits() {
    let reserve = Some(Money::new(900, Currency::EUR));
    let mut desk = BidDesk::new(voxpact(), Custody::Internal, 2000, OpenOrder { reserve, ..OpenOrder::default() });
    for minor in [499, 2001, 0, -1, i64::MIN, i64::MAX] {
        let refused = desk.place(worker(), minor);
        assert!(
            matches!(refused, Err(Rejection::Amount { field: "price", min: 500, max: 2000, .. } | Rejection::Money(_))),
            "{minor}: {refused:?}"
        );
    }
    // The reserve is the buyer's secret: a refusal does not tell it.
    let refused = desk.place(worker(), 899).unwrap_err();
    assert_eq!(refused, Rejection::UnderReserve { actual: Money::new(899, Currency::EUR) });
    assert_eq!(refused.to_string(), "a bid of 8.99 EUR is under the job's reserve");
    let usd = Box::new(price(Money::new(1000, Currency::USDC)));
    assert!(matches!(desk.give(worker(), worker(), &BidCommand::Place { bid: usd }), Err(Rejection::Money(_))));
    let nothing = BidCommand::Place { bid: Box::default() };
    assert_eq!(desk.give(worker(), worker(), &nothing), Err(Rejection::Missing { field: "price" }));
    desk.place(worker(), 900).unwrap();
    let mut plain = voxpact_desk(Custody::Internal);
    assert!(matches!(plain.place(worker(), 499), Err(Rejection::Amount { min: 500, .. })));
}

/// VP-24: message and hours are bounded.
#[test]
fn vp_24_what_is_said_is_bounded() {
    let mut desk = voxpact_desk(Custody::Internal);
    let price = Some(desk.money(1000));
    let mut try_bid = |hours, message: &str| {
        let bid = Box::new(BidOrder { price, hours, message: message.into() });
        desk.give(worker(), worker(), &BidCommand::Place { bid })
    };
    assert!(matches!(try_bid(None, &"x".repeat(2001)), Err(Rejection::Length { field: "message", max: 2000, .. })));
    assert!(matches!(try_bid(None, "right\u{202e}left"), Err(Rejection::Character { .. })));
    assert!(matches!(try_bid(Some(0), ""), Err(Rejection::Count { field: "hours", .. })));
    assert!(matches!(try_bid(Some(u32::MAX), ""), Err(Rejection::Count { field: "hours", .. })));
    assert_eq!(try_bid(Some(2), &"é".repeat(2000)), Ok(()));
}

/// VP-24: one bid in 5 minutes per agent and job, also after taking one back; it replaces the one before.
#[test]
fn vp_24_one_bid_in_five_minutes() {
    let mut desk = voxpact_desk(Custody::Internal);
    desk.place(worker(), 1250).unwrap();
    desk.place(stranger(), 1250).unwrap();
    assert!(matches!(desk.place(worker(), 1200), Err(Rejection::TooSoon { command: "place_bid", .. })));
    desk.give(worker(), worker(), &BidCommand::Withdraw).unwrap();
    assert_eq!(desk.bid(worker()).status, BidStatus::Withdrawn);
    assert!(matches!(desk.place(worker(), 1200), Err(Rejection::TooSoon { .. })));
    desk.job.wait(Span::seconds(300));
    desk.place(worker(), 1200).unwrap();
    desk.place(stranger(), 1100).unwrap();
    assert_eq!(desk.bids.len(), 2);
    assert_eq!(desk.bid(stranger()).offer.price, desk.money(1100));
    assert_eq!(desk.job().open.as_ref().unwrap().active, 2);
}

/// VP-24: at most 100 active bids for a job; one taken back makes room.
#[test]
fn vp_24_at_most_100_active_bids() {
    let mut desk = voxpact_desk(Custody::Internal);
    for n in 0..100 {
        desk.place(agent(1000 + n), 1000).unwrap();
    }
    assert_eq!(desk.place(worker(), 1000), Err(Rejection::TooManyBids { max: 100 }));
    desk.job.wait(Span::seconds(300));
    desk.place(agent(1000), 900).unwrap(); // has one already
    desk.give(agent(1001), agent(1001), &BidCommand::Withdraw).unwrap();
    desk.place(worker(), 1000).unwrap();
}

/// VP-25: the money is held at the bid's price, the worker assigned, the job accepted, others rejected.
#[test]
fn vp_25_accepting_a_bid_holds_its_price_and_rejects_the_rest() {
    for custody in CUSTODIES {
        let mut desk = voxpact_desk(custody);
        desk.place(worker(), 1250).unwrap();
        desk.place(stranger(), 1000).unwrap();
        desk.accept(buyer(), worker(), 1250).unwrap();
        desk.job.settle_rail();
        let job = desk.job();
        assert_eq!((job.status, job.worker), (JobStatus::Accepted, Some(worker())));
        assert_eq!(job.terms.amount, desk.money(1250));
        assert_eq!(job.terms.fee, desk.money(125)); // VP-21: silver pays 10 %
        assert_eq!(desk.job.books.of(Account::Escrow(job.id.into())), 1250);
        assert!(desk.job().has_bids_to_close());
        // However few are told at once, every one is told how it ended.
        assert_eq!((desk.close(1), desk.close(1)), (Ok(1), Ok(1)));
        assert_eq!(desk.bid(worker()).status, BidStatus::Accepted);
        assert_eq!(desk.bid(stranger()).status, BidStatus::Rejected);
        let accepted = desk.told.iter().find(|event| matches!(event, BidEvent::Accepted { .. }));
        let (agreed_price, deadline) = (desk.money(1250), desk.job().timers.deadline);
        assert_eq!(accepted, Some(&BidEvent::Accepted { job: desk.job().id, agreed_price, deadline }));
        let rejected = BidEvent::Rejected { job: desk.job().id, because: BidLoss::OtherChosen };
        assert!(desk.told.contains(&rejected));
        assert!(!desk.job().has_bids_to_close());
    }
}

/// VP-25, VP-43: a decline leaves the job open for another choice, with every bid alive.
#[test]
fn vp_25_a_decline_leaves_the_job_open() {
    let mut desk = voxpact_desk(Custody::PerHold);
    desk.place(worker(), 1250).unwrap();
    desk.place(stranger(), 1000).unwrap();
    desk.accept(buyer(), worker(), 1250).unwrap();
    let chosen = BidId::derive(desk.job().id, worker());
    assert_eq!(search(&desk), Search::Chosen(chosen));
    let second = desk.accept(buyer(), stranger(), 1000);
    assert_eq!(second, Err(Rejection::AlreadyChosen { job: desk.job().id, bid: chosen }));
    let funding = desk.job.last_instruction();
    desk.job.must(Actor::Rail(RAIL), outcome(&funding, declined()));
    let job = desk.job();
    assert_eq!((job.status, job.worker, &job.hold.state), (JobStatus::PendingPayment, None, &HoldState::Empty));
    assert_eq!(job.terms.amount, desk.money(2000));
    assert_eq!(search(&desk), Search::Looking);
    assert!(desk.job.events.iter().any(|event| matches!(event, JobEvent::Reopened { bid } if *bid == chosen)));
    assert!(matches!(desk.job.give(by(buyer()), JobCommand::RetryPayment), Err(Rejection::WrongHold { .. })));
    desk.accept(buyer(), stranger(), 1000).unwrap();
    desk.job.settle_rail();
    assert_eq!(desk.job().worker, Some(stranger()));
    assert_eq!(desk.close(64), Ok(2));
    assert_eq!(desk.bid(worker()).status, BidStatus::Rejected);
}

/// VP-25: a wallet that holds too little changes nothing.
#[test]
fn vp_25_a_buyer_who_cannot_pay_changes_nothing() {
    let mut desk = voxpact_desk(Custody::Internal);
    desk.place(worker(), 1250).unwrap();
    let all = desk.job.books.of(Account::Available(buyer()));
    let mut spent = tradepost::ledger::Movement::new();
    let rest = desk.money(i64::try_from(all).unwrap() - 1249);
    spent
        .transfer(Account::Available(buyer()), Account::Rail(RAIL), rest, tradepost::ledger::TransferKind::Payout)
        .unwrap();
    desk.job.books.apply(&spent).unwrap();
    let before = desk.job().clone();
    let refused = desk.accept(buyer(), worker(), 1250);
    assert!(matches!(refused, Err(Rejection::Ledger(LedgerError::Overdraft { .. }))), "{refused:?}");
    assert_eq!(desk.job(), &before);
}

/// A buyer who calls the job off while the chosen bid is being paid gets the money straight back.
#[test]
fn vp_23_called_off_while_the_bid_is_being_paid() {
    let mut desk = voxpact_desk(Custody::PerHold);
    desk.place(worker(), 1250).unwrap();
    desk.accept(buyer(), worker(), 1250).unwrap();
    desk.job.must(by(buyer()), cancel());
    assert_eq!(search(&desk), Search::Over);
    desk.job.settle_rail();
    assert!(desk.job.events.iter().any(|event| matches!(event, JobEvent::PaymentReturned { .. })));
    desk.job.settle_rail();
    assert_eq!(desk.close(64), Ok(1));
    assert_eq!(desk.bid(worker()).status, BidStatus::Rejected);
    assert_eq!(desk.job.books.of(Account::Escrow(desk.job().id.into())), 0);
}

/// VP-26: either side accepts what the other last offered, and nobody their own or an older offer.
#[test]
fn vp_26_either_side_accepts_what_the_other_offered_last() {
    let mut desk = voxpact_desk(Custody::Internal);
    desk.place(worker(), 1250).unwrap();
    assert_eq!(desk.accept(worker(), worker(), 1250), Err(Rejection::OwnOffer));
    desk.counter(buyer(), worker(), 400).unwrap(); // VP-26: any positive price, also below the least bid
    assert_eq!(desk.bid(worker()).offer.by, Side::Buyer);
    assert_eq!(desk.accept(buyer(), worker(), 400), Err(Rejection::OwnOffer));
    let stale = desk.accept(worker(), worker(), 1250);
    assert_eq!(stale, Err(Rejection::OfferChanged { accepted: desk.money(1250), stands: desk.money(400) }));
    desk.counter(worker(), worker(), 1100).unwrap();
    desk.counter(buyer(), worker(), 1000).unwrap();
    desk.accept(worker(), worker(), 1000).unwrap();
    assert_eq!((desk.job().status, desk.job().terms.amount), (JobStatus::Accepted, desk.money(1000)));
    assert_eq!(desk.bid(worker()).asked, desk.money(1250));
    let mut other_way = voxpact_desk(Custody::Internal);
    other_way.place(worker(), 1250).unwrap();
    other_way.counter(buyer(), worker(), 900).unwrap();
    other_way.counter(worker(), worker(), 1000).unwrap();
    other_way.accept(buyer(), worker(), 1000).unwrap();
    assert_eq!(other_way.job().worker, Some(worker()));
}

/// VP-26: prices are positive and at most what was posted, messages bounded, and so is their number.
#[test]
fn vp_26_counter_offers_have_limits() {
    let mut desk = voxpact_desk(Custody::Internal);
    assert!(matches!(desk.counter(buyer(), worker(), 900), Err(Rejection::NotFound { what: "bid", .. })));
    desk.place(worker(), 1250).unwrap();
    for minor in [0, -5, 2001] {
        assert!(matches!(desk.counter(buyer(), worker(), minor), Err(Rejection::Amount { min: 1, max: 2000, .. })));
    }
    let long = BidCommand::Counter { price: desk.money(900), message: "x".repeat(501) };
    assert!(matches!(desk.give(buyer(), worker(), &long), Err(Rejection::Length { max: 500, .. })));
    assert!(matches!(desk.counter(stranger(), worker(), 900), Err(Rejection::WrongActor { .. })));
    for n in 0..20 {
        desk.counter(buyer(), worker(), 900 + n).unwrap();
    }
    assert_eq!(desk.counter(buyer(), worker(), 950), Err(Rejection::NoOffersLeft { max: 20 }));
}

/// Who may do what with a bid.
#[test]
fn vp_24_vp_25_bids_are_their_parties_alone() {
    let mut desk = voxpact_desk(Custody::Internal);
    assert!(matches!(desk.place(buyer(), 1000), Err(Rejection::WrongActor { .. })));
    desk.place(worker(), 1250).unwrap();
    for (who, command) in [
        (stranger(), BidCommand::Accept { price: desk.money(1250) }),
        (stranger(), BidCommand::Withdraw),
        (buyer(), BidCommand::Withdraw),
    ] {
        assert!(matches!(desk.give(who, worker(), &command), Err(Rejection::WrongActor { .. })), "{who} {command:?}");
    }
    desk.give(worker(), worker(), &BidCommand::Withdraw).unwrap();
    let gone = Rejection::WrongBidStatus { command: "accept_bid", status: BidStatus::Withdrawn };
    assert_eq!(desk.accept(buyer(), worker(), 1250), Err(gone));
    // VP-16, VP-25: nobody takes such a job without an offer.
    let taken = desk.job.give(by(stranger()), JobCommand::Accept);
    assert_eq!(taken, Err(Rejection::ByOffer { job: desk.job().id }));
}

/// VP-39: a frozen job takes no bids, and its window stands still.
#[test]
fn vp_39_a_frozen_jobs_window_stands_still() {
    let mut desk = voxpact_desk(Custody::Internal);
    desk.place(worker(), 1250).unwrap();
    desk.job.must(operator(), freeze());
    assert!(matches!(desk.accept(buyer(), worker(), 1250), Err(Rejection::WrongStatus { .. })));
    assert!(desk.job().tags().is_empty());
    desk.job.wait(Span::hours(100));
    assert!(desk.job.tick().is_err());
    desk.job.must(operator(), JobCommand::Unfreeze);
    assert_eq!(desk.job().due_at(), Some(desk.job.now + Span::hours(48).delta()));
    desk.accept(buyer(), worker(), 1250).unwrap();
}

/// VP-13, AM-04: required capabilities and the lowest tier are checked where they are known.
#[test]
fn vp_13_only_agents_who_fit_may_bid() {
    let wanted =
        OpenOrder { requires: vec!["translation".into()], tier_min: Some("silver".into()), ..OpenOrder::default() };
    let mut desk = BidDesk::new(voxpact(), Custody::Internal, 2000, wanted);
    desk.capabilities = Some(vec!["cooking".into()]);
    let missing = Rejection::CapabilityMissing { capability: "translation".into() };
    assert_eq!(desk.place(worker(), 1000), Err(missing));
    desk.capabilities = Some(vec!["cooking".into(), "translation".into()]);
    desk.job.tier = "bronze".into();
    let low = Rejection::TierTooLow { tier: "bronze".into(), min: "silver".into() };
    assert_eq!(desk.place(worker(), 1000), Err(low));
    desk.job.tier = "gold".into();
    desk.place(worker(), 1000).unwrap();
    desk.job.tier = "bronze".into(); // it fell meanwhile
    assert!(matches!(desk.accept(buyer(), worker(), 1000), Err(Rejection::TierTooLow { .. })));
    desk.capabilities = None; // agents are the embedder's own
    desk.job.tier = "silver".into();
    desk.place(stranger(), 1000).unwrap();
}

/// VP-42: a tier limits how large a job and how many at once its workers may take on.
#[test]
fn vp_42_tiers_limit_what_a_worker_takes_on() {
    let mut desk = BidDesk::new(voxpact(), Custody::Internal, 200_000, OpenOrder::default());
    let large = |tier: &str, max| {
        let (max, actual) = (Money::new(max, Currency::EUR), Money::new(150_000, Currency::EUR));
        Err(Rejection::TierAmount { tier: tier.into(), max, actual })
    };
    desk.job.tier = "silver".into();
    assert_eq!(desk.place(worker(), 150_000), large("silver", 100_000));
    desk.job.tier = "gold".into();
    desk.active_jobs = 30;
    let full = Rejection::TierJobs { tier: "gold".into(), max: 30, actual: 30 };
    assert_eq!(desk.place(worker(), 150_000), Err(full));
    desk.active_jobs = 29;
    desk.place(worker(), 150_000).unwrap();
    // Direct jobs: the worker named, and whoever accepts.
    let mut direct = Desk::new(voxpact(), Custody::Internal);
    direct.tier = "bronze".into();
    let order = crate::support::order(direct.money(10_001));
    assert!(matches!(direct.give(by(buyer()), post(order)), Err(Rejection::TierAmount { .. })));
    direct.tier = "gold".into();
    direct.must(by(buyer()), post(crate::support::order(direct.money(10_001))));
    direct.tier = "bronze".into();
    assert!(matches!(direct.give(by(worker()), JobCommand::Accept), Err(Rejection::TierAmount { .. })));
}

/// JP-11: an application has no price; accepting one takes amount and fee, and gives 300 s to deliver.
#[test]
fn jp_11_an_application_is_for_the_jobs_own_amount() {
    for custody in CUSTODIES {
        let mut desk = BidDesk::new(just_pay(), custody, 5_000_000, described());
        assert_eq!(desk.job().due_at(), Some(desk.job.now + Span::seconds(86_400).delta()));
        let priced = BidCommand::Place { bid: Box::new(price(desk.money(1))) };
        assert!(matches!(desk.give(worker(), worker(), &priced), Err(Rejection::NotOffered { .. })));
        let timed = BidOrder { hours: Some(1), ..BidOrder::default() };
        let timed = BidCommand::Place { bid: Box::new(timed) };
        assert!(matches!(desk.give(worker(), worker(), &timed), Err(Rejection::NotOffered { .. })));
        let pitch = BidOrder { message: "I draw logos".into(), ..BidOrder::default() };
        for who in [worker(), stranger()] {
            desk.give(who, who, &BidCommand::Place { bid: Box::new(pitch.clone()) }).unwrap();
        }
        assert!(matches!(desk.counter(buyer(), worker(), 4_000_000), Err(Rejection::NotOffered { .. })));
        desk.accept(buyer(), worker(), 5_000_000).unwrap();
        desk.job.settle_rail();
        let job = desk.job();
        assert_eq!((job.status, job.worker), (JobStatus::Accepted, Some(worker())));
        assert_eq!(desk.job.books.of(Account::Escrow(job.id.into())), 5_150_000);
        assert_eq!(job.timers.deadline, Some(desk.job.now + Span::seconds(300).delta()));
        assert_eq!(desk.close(64), Ok(2));
        assert_eq!(desk.bid(stranger()).status, BidStatus::Rejected);
    }
}

/// JP-11: what an open job says, and for how long it takes applications.
#[test]
fn jp_11_open_orders_are_checked() {
    let mut desk = Desk::new(just_pay(), Custody::Internal);
    let mut try_open =
        |open: OpenOrder| desk.give(by(buyer()), post(open_order(&just_pay(), 5_000_000, open))).map(drop);
    assert_eq!(try_open(OpenOrder::default()), Err(Rejection::Missing { field: "description" }));
    let text = |length| OpenOrder { description: Some("x".repeat(length)), ..OpenOrder::default() };
    for length in [9, 2001] {
        assert!(matches!(
            try_open(text(length)),
            Err(Rejection::Length { field: "description", min: 10, max: 2000, .. })
        ));
    }
    for window in [59, 604_801] {
        let open = OpenOrder { window: Some(Span::seconds(window)), ..described() };
        assert!(matches!(try_open(open), Err(Rejection::Time { field: "window", .. })));
    }
    let many = OpenOrder { requires: (0..21).map(|n| n.to_string()).collect(), ..described() };
    assert!(matches!(try_open(many), Err(Rejection::TooMany { field: "requires", max: 20, actual: 21 })));
    let twice = OpenOrder { requires: vec!["a".into(), "a".into()], ..described() };
    assert!(matches!(try_open(twice), Err(Rejection::Form { field: "requires", .. })));
    let hidden = OpenOrder { category: Some("a\u{202e}b".into()), ..described() };
    assert!(matches!(try_open(hidden), Err(Rejection::Character { field: "category", .. })));
    let reserve = OpenOrder { reserve: Some(Money::new(1, Currency::USDC)), ..described() };
    assert!(matches!(try_open(reserve), Err(Rejection::NotOffered { .. })));
    let tier = OpenOrder { tier_min: Some("diamond".into()), ..described() };
    assert!(matches!(try_open(tier), Err(Rejection::UnknownTier { .. })));
    let fine = OpenOrder { window: Some(Span::seconds(60)), category: Some("image-generation".into()), ..described() };
    assert_eq!(try_open(fine), Ok(()));
}

/// AM-06: no window and no bids for a job that goes to whoever is first; fitting is checked then.
#[test]
fn am_04_am_06_first_come_asks_for_capabilities_only() {
    let policy = Policy::agentmarket().unwrap();
    let open = OpenOrder { requires: vec!["research".into()], ..OpenOrder::default() };
    let mut desk = BidDesk::new(policy.clone(), Custody::Internal, 25, open.clone());
    assert!(matches!(desk.place(worker(), 20), Err(Rejection::NotOpen { .. })));
    assert_eq!(desk.job().tags(), ["open", "open/requires/research"]);
    desk.job.must(by(worker()), JobCommand::Accept);
    assert_eq!((desk.job().status, search(&desk)), (JobStatus::Accepted, Search::Over));
    assert!(desk.job().tags().is_empty());
    let windowed = OpenOrder { window: Some(Span::hours(1)), ..open };
    let mut refused = Desk::new(policy.clone(), Custody::Internal);
    let asked = refused.give(by(buyer()), post(open_order(&policy, 25, windowed)));
    assert_eq!(asked.map(drop), Err(Rejection::NotOffered { what: "a window" }));
    let named = crate::support::order(refused.money(25));
    let named = tradepost::job::JobOrder { open: Some(OpenOrder::default()), ..named };
    assert!(matches!(refused.give(by(buyer()), post(named)), Err(Rejection::Form { field: "open", .. })));
}

/// VP-25 where the policy reserves money at acceptance: bids work there, too.
#[test]
fn vp_25_under_a_policy_that_escrows_at_acceptance() {
    let mut policy = Policy::agentmarket().unwrap();
    let bids = match voxpact().open_jobs.unwrap().award {
        Award::Bids(bids) => tradepost::policy::BidPolicy { price_min: 1, ..bids },
        _ => unreachable!("VoxPact's open jobs take bids"),
    };
    policy.open_jobs =
        policy.open_jobs.map(|open| tradepost::policy::OpenJobPolicy { award: Award::Bids(bids), ..open });
    policy.validate().unwrap();
    assert_eq!(policy.jobs.escrow, EscrowAt::Acceptance);
    for custody in CUSTODIES {
        let mut desk = BidDesk::new(policy.clone(), custody, 100, OpenOrder::default());
        desk.place(worker(), 60).unwrap();
        desk.accept(buyer(), worker(), 60).unwrap();
        desk.job.settle_rail();
        assert_eq!(desk.job().status, JobStatus::Accepted);
        assert_eq!(desk.job().terms.net().unwrap(), desk.money(54));
    }
    let Range { min, max } = bids.window.allowed;
    assert!(min < max);
}
