//! Single instructions, step by step, where the kit does not look: what was begun and not ended, what is
//! kept, who comes later.

use tradepost::{
    ids::{AgentId, HoldId, InstructionId},
    money::{Currency, Money},
    rail::{Instruction, Landing, Leg, Order, Outcome, Party, RailErrorKind, Receipt, SettlementRail},
};
use tradepost_stripe::{ADD_CARD, Directory, Fact, HoldMode, ReturnTo, StripeErrorKind, StripeRail};
use uuid::Uuid;

use crate::{
    double::{Double, Trouble},
    people::{CountedIds, DoubleClock, People, rail},
};

pub const BUYER: AgentId = AgentId(Uuid::from_u128(0xB));
pub const WORKER: AgentId = AgentId(Uuid::from_u128(0xA));

pub fn eur(cents: i64) -> Money {
    Money::new(cents, Currency::EUR)
}

/// A rail over a double, and one contract.
pub struct Bench {
    pub double: Double,
    pub people: People,
    pub rail: StripeRail,
    contract: Uuid,
}

impl Bench {
    pub async fn new() -> Self {
        let (double, people) = (Double::start().await, People::default());
        let rail = rail(&double, &people, HoldMode::Charge);
        people.buyer(&double, BUYER.0);
        let now = tradepost::clock::Clock::now(&DoubleClock(double.clone()));
        let contract = tradepost::ids::IdSource::next(&CountedIds::default(), now);
        Self { double, people, rail, contract }
    }

    fn instruction(&self, number: u32, order: Order) -> Instruction {
        let id = InstructionId::derive(self.contract, number);
        Instruction { id, contract: self.contract, order, answer: None }
    }

    pub fn fund(&self, amount: Money) -> Instruction {
        self.instruction(0, Order::Fund { hold: HoldId(self.contract), payer: BUYER, amount, terms: Box::default() })
    }

    pub async fn funded(&self) -> Receipt {
        match self.rail.execute(&self.fund(eur(10_000))).await.unwrap() {
            Outcome::Done(receipt) => receipt,
            other => panic!("{other:?}"),
        }
    }

    pub fn settle(&self, funding: &Receipt, legs: &[(Party, i64)]) -> Instruction {
        let legs = legs.iter().map(|(to, cents)| Leg { to: *to, amount: eur(*cents) }).collect();
        self.instruction(1, Order::Settle { hold: HoldId(self.contract), funding: funding.reference.clone(), legs })
    }

    /// Takes back a part of what the first transfer gave.
    pub fn reverse(&self, amount: Money) -> Instruction {
        let leg = self.double.lock().world.transfers[0]["id"].as_str().unwrap().to_owned();
        self.instruction(3, Order::Reverse { hold: HoldId(self.contract), leg, agent: WORKER, amount })
    }

    fn effects(&self) -> (usize, usize) {
        let world = &self.double.lock().world;
        (world.transfers.len(), world.refunds.len())
    }
}

fn landings(outcome: &Outcome) -> Vec<Landing> {
    let Outcome::Done(receipt) = outcome else { panic!("{outcome:?}") };
    receipt.legs.iter().map(|leg| leg.landing).collect()
}

/// A leg that fails is repeated alone: the others are not paid again (VP-43).
#[tokio::test]
async fn vp_43_a_division_that_stopped_half_way_goes_on_where_it_stood() {
    let troubles = [Trouble::LostBefore, Trouble::LostAfter, Trouble::Busy, Trouble::Broken, Trouble::BrokenAfter];
    for trouble in troubles {
        for days in [0, 2] {
            let bench = Bench::new().await;
            bench.people.worker(&bench.double, WORKER.0);
            let funding = bench.funded().await;
            let legs = [(Party::Worker(WORKER), 2_500), (Party::Platform, 500), (Party::Buyer(BUYER), 7_000)];
            let settle = bench.settle(&funding, &legs);
            // The first request goes well, the second does not.
            bench.double.arrange(Trouble::None);
            bench.double.arrange(trouble);
            let first = bench.rail.execute(&settle).await.unwrap();
            assert!(matches!(first, Outcome::Pending { .. }), "{trouble:?}: {first:?}");
            bench.double.lock().world.pass(days * 86_400);
            let second = bench.rail.lookup(&settle).await.unwrap().unwrap();
            assert_eq!(landings(&second), [Landing::Outside, Landing::Held, Landing::Outside], "{trouble:?}");
            assert_eq!(bench.effects(), (1, 1), "{trouble:?} after {days} days");
            assert_eq!(bench.rail.execute(&settle).await.unwrap(), second);
            assert_eq!(bench.rail.lookup(&settle).await.unwrap(), Some(second));
        }
    }
}

/// Money that the payer was given back in the dashboard is not divided.
#[tokio::test]
async fn a_hold_that_is_gone_is_declined_and_moves_nothing() {
    for worker_first in [true, false] {
        let bench = Bench::new().await;
        bench.people.worker(&bench.double, WORKER.0);
        let funding = bench.funded().await;
        let mut legs = [(Party::Worker(WORKER), 4_000), (Party::Buyer(BUYER), 6_000)];
        if !worker_first {
            legs.reverse();
        }
        let settle = bench.settle(&funding, &legs);
        bench.double.arrange(Trouble::RefundedOutside);
        let outcome = bench.rail.execute(&settle).await.unwrap();
        assert!(matches!(&outcome, Outcome::Declined(decline) if decline.code == "hold_gone"), "{outcome:?}");
        assert_eq!(bench.effects(), (0, 1), "only what was done in the dashboard");
        assert_eq!(bench.rail.lookup(&settle).await.unwrap(), Some(outcome.clone()));
        assert_eq!(bench.rail.execute(&settle).await.unwrap(), outcome);
    }
}

/// A share that was kept stays kept, also when the account comes a moment later (VP-35).
#[tokio::test]
async fn vp_35_what_was_kept_for_a_worker_is_not_transferred_as_well() {
    for days in [0, 2] {
        for closed in [false, true] {
            let bench = Bench::new().await;
            let funding = bench.funded().await;
            let settle = bench.settle(&funding, &[(Party::Worker(WORKER), 9_000), (Party::Platform, 1_000)]);
            if closed {
                bench.people.worker(&bench.double, WORKER.0);
                let world = &mut bench.double.lock().world;
                let id = world.accounts[0]["id"].as_str().unwrap().to_owned();
                world.close(&id);
            }
            let kept = bench.rail.execute(&settle).await.unwrap();
            assert_eq!(landings(&kept), [Landing::Held, Landing::Held]);
            if closed {
                let world = &mut bench.double.lock().world;
                let id = world.accounts[0]["id"].as_str().unwrap().to_owned();
                world.onboard(&id);
            } else {
                bench.people.worker(&bench.double, WORKER.0);
            }
            bench.double.lock().world.pass(days * 86_400);
            assert_eq!(bench.rail.execute(&settle).await.unwrap(), kept, "{days} days, closed {closed}");
            assert_eq!(bench.rail.lookup(&settle).await.unwrap(), Some(kept));
            assert_eq!(bench.effects(), (0, 0));
        }
    }
}

/// VP-35: a worker is onboarded, and then paid what was kept.
#[tokio::test]
async fn vp_35_what_was_kept_is_paid_when_onboarding_is_finished() {
    let bench = Bench::new().await;
    let connect = bench.rail.connect();
    assert_eq!(connect.status(WORKER).await.unwrap(), None);
    let return_to = ReturnTo { done: "https://example.com/done".into(), again: "https://example.com/again".into() };
    let link = connect.onboard(WORKER, return_to.clone()).await.unwrap();
    assert!(link.url.starts_with("https://connect.stripe.com/") && !format!("{link:?}").contains("setup"));
    let again = connect.onboard(WORKER, return_to).await.unwrap();
    assert_ne!(link.url, again.url, "a link is made anew");
    assert_eq!(bench.double.lock().world.accounts.len(), 1, "the account is not");
    assert!(!connect.status(WORKER).await.unwrap().unwrap().transfers_enabled);

    let funding = bench.funded().await;
    bench.rail.execute(&bench.settle(&funding, &[(Party::Worker(WORKER), 10_000)])).await.unwrap();
    let order = Order::Payout { agent: WORKER, destination: None, amount: eur(9_000) };
    let payout = bench.instruction(2, order);
    for _ in 0..20 {
        let error = bench.rail.execute(&payout).await.unwrap_err();
        assert_eq!(error.kind(), RailErrorKind::Refused, "{error}");
    }
    {
        let world = &mut bench.double.lock().world;
        let id = world.accounts[0]["id"].as_str().unwrap().to_owned();
        world.onboard(&id);
    }
    assert!(connect.status(WORKER).await.unwrap().unwrap().transfers_enabled);
    let error = bench.rail.execute(&payout).await.unwrap_err();
    assert!(matches!(error.kind(), RailErrorKind::Busy(_)), "the charge is not available yet: {error}");
    bench.double.lock().world.pass(3 * 86_400);
    let paid = bench.rail.execute(&payout).await.unwrap();
    assert!(matches!(&paid, Outcome::Done(receipt) if receipt.amount == eur(9_000)), "{paid:?}");
    assert_eq!(connect.balance(WORKER).await.unwrap().unwrap().available, eur(9_000));
}

/// VP-34: cards are set up, listed, chosen and detached; only a payer's own.
#[tokio::test]
async fn vp_34_cards_are_saved_listed_chosen_and_detached() {
    let (double, people) = (Double::start().await, People::default());
    let rail = rail(&double, &people, HoldMode::Charge);
    let cards = rail.cards();
    assert!(cards.list(BUYER).await.unwrap().is_empty());
    let setup = cards.set_up(BUYER).await.unwrap();
    assert!(setup.client_secret.contains("_secret_") && !format!("{setup:?}").contains("_secret_"));
    let customer = people.known(BUYER).await.unwrap().customer.unwrap();
    let (first, second) = {
        let world = &mut double.lock().world;
        (world.card(&customer), world.card(&customer))
    };
    cards.choose(BUYER, &first).await.unwrap();
    let listed = cards.list(BUYER).await.unwrap();
    let seen: Vec<_> = listed.iter().map(|c| (&*c.id, &*c.brand, &*c.last4, c.is_default)).collect();
    assert_eq!(seen, [(&*second, "visa", "4242", false), (&*first, "visa", "4242", true)]);
    for not_theirs in ["pm_00000000", "", "../charges/ch_1"] {
        let error = cards.choose(BUYER, not_theirs).await.unwrap_err();
        assert_eq!(error.kind(), StripeErrorKind::Unknown);
        assert_eq!(cards.detach(BUYER, not_theirs).await.unwrap_err().kind(), StripeErrorKind::Unknown);
    }
    assert_eq!(cards.detach(WORKER, &first).await.unwrap_err().kind(), StripeErrorKind::Unknown);
    cards.detach(BUYER, &first).await.unwrap();
    assert_eq!(cards.list(BUYER).await.unwrap().len(), 1);
    assert_eq!(people.known(BUYER).await.unwrap().card, None);
}

/// VP-34: a payer whose card is gone is asked for another one, and the job goes on with it.
#[tokio::test]
async fn vp_34_a_payer_without_a_usable_card_is_asked_for_one() {
    for gone in ["never saved", "unknown", "detached", "detached in the dashboard"] {
        let bench = Bench::new().await;
        match gone {
            "never saved" => bench.people.learn(BUYER, Fact::Card(None)),
            "unknown" => bench.people.learn(BUYER, Fact::Card(Some("pm_99999999".into()))),
            "detached" => {
                let card = bench.rail.cards().list(BUYER).await.unwrap().remove(0);
                bench.rail.cards().detach(BUYER, &card.id).await.unwrap();
            }
            _ => bench.double.lock().world.detach_all(),
        }
        let fund = bench.fund(eur(10_000));
        let asked = bench.rail.execute(&fund).await.unwrap();
        let Outcome::NeedsAction(action) = &asked else { panic!("{asked:?}") };
        assert_eq!((action.kind.as_str(), action.who), (ADD_CARD, Party::Buyer(BUYER)));
        assert_eq!(bench.rail.execute(&fund).await.unwrap(), asked);
        bench.double.lock().world.confirm(&action.payload);
        let paid = bench.rail.lookup(&fund).await.unwrap();
        assert!(matches!(paid, Some(Outcome::Done(_))), "{paid:?}");
    }
}
