//! Whole random lives: whatever anybody does in whatever order and whatever the rail answers, usage never
//! passes the quantity, and the shares add up to what was reserved. Everything is recomputed here, without
//! the engine's own arithmetic.

use proptest::prelude::*;
use tradepost::{
    actor::Actor,
    agreement::{
        AgreementCommand, AgreementEvent, AgreementStatus,
        chain::{Link, verify},
        receipt::SignedReceipt,
    },
    hold::HoldState,
    ledger::{Account, RevenueKind},
    policy::{Bearer, Span},
    rail::{Action, Custody, Instruction, Landing, Leg, Order, Outcome, Party},
    store::Kept as _,
};

use super::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody gives a command: which, and who tries it.
    Command(u8, u8),
    /// Calls of these units are recorded.
    Use(Vec<i64>),
    /// A receipt of so many units comes, by the meter or a forger.
    Receipt(i64, bool),
    /// Time passes, and due timers fire, or they do not yet.
    Wait(u32, bool),
    /// The rail answers its open instruction.
    Answer(Reply),
    /// The rail gives the hold up.
    Expire,
    /// The parties divide the hold by themselves.
    Outside(u16),
}

#[derive(Clone, Copy, Debug)]
enum Reply {
    Outside,
    Held,
    Declined,
    Pending,
    NeedsAction,
    Lie,
}

fn step() -> impl Strategy<Value = Step> {
    let reply = prop_oneof![
        6 => Just(Reply::Outside),
        1 => Just(Reply::Held),
        2 => Just(Reply::Declined),
        1 => Just(Reply::Pending),
        1 => Just(Reply::NeedsAction),
        1 => Just(Reply::Lie),
    ];
    let span = prop_oneof![Just(0u32), 1..4000u32, 1..100_000u32, 1..3_000_000u32];
    prop_oneof![
        10 => (0u8..10, 0u8..8).prop_map(|(command, who)| Step::Command(command, who)),
        6 => prop::collection::vec(prop_oneof![1..40i64, Just(0i64), Just(i64::MAX)], 0..4).prop_map(Step::Use),
        4 => (-1i64..120, any::<bool>()).prop_map(|(units, forged)| Step::Receipt(units, forged)),
        3 => (span, any::<bool>()).prop_map(|(seconds, fire)| Step::Wait(seconds, fire)),
        8 => reply.prop_map(Step::Answer),
        1 => Just(Step::Expire),
        1 => any::<u16>().prop_map(Step::Outside),
    ]
}

/// Ten-thousandths of an amount, rounded down.
fn share(amount: i64, parts: i64) -> i64 {
    i64::try_from(i128::from(amount) * i128::from(parts) / 10_000).unwrap()
}

struct World {
    desk: Desk,
    meter: SigningKey,
    metered: bool,
    /// The fee, in ten-thousandths, and whether it is on top.
    fee: (i64, bool),
    deposit: i64,
    /// Units recorded and received, counted here.
    recorded: i64,
    received: i64,
    /// What went in and came out of the rail's hold, as the rail sees it.
    holds: i128,
    lost: bool,
}

impl World {
    fn new(custody: Custody, fee: u8, metered: bool) -> Self {
        let (parts, on_top) = [(0, false), (500, false), (500, true), (333, false)][usize::from(fee) % 4];
        let bearer = if on_top { Bearer::Buyer } else { Bearer::Worker };
        // A contract takes its fee out of what receipts earn.
        let metered = metered && !(on_top && custody == Custody::NonCustodial);
        let mut policy = with_fee(&format!("0.{parts:04}"), bearer);
        section(&mut policy).unit_price_step = 1;
        section(&mut policy).unit_price.min = 1;
        section(&mut policy).total.min = 1;
        let desk = Desk::new(policy, custody);
        let mut proposal = proposal(|minor| desk.money(minor));
        proposal.unit_price = desk.money(77_777);
        let meter = meter(1);
        proposal.receipt_signer = metered.then(|| signer_of(&meter));
        let price = 77_777 * QUANTITY;
        let deposit = price + if on_top { share(price, parts) } else { 0 };
        let (fee, desk) = ((parts, on_top), desk.propose(proposal));
        Self { desk, meter, metered, fee, deposit, recorded: 0, received: 0, holds: 0, lost: false }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Command(command, who) => self.command(*command, *who),
            Step::Use(units) => self.record(units),
            Step::Receipt(units, forged) => self.receive(*units, *forged),
            Step::Wait(seconds, fire) => {
                self.desk.wait(Span::seconds(*seconds));
                if *fire {
                    self.desk.tick_all();
                }
            }
            Step::Answer(reply) => self.answer(*reply),
            Step::Expire => self.expire(),
            Step::Outside(seller) => self.divide_outside(*seller),
        }
        self.check();
    }

    fn command(&mut self, command: u8, who: u8) {
        let rightful = match command {
            0 | 1 | 7 => by(worker()),
            9 => operator(),
            _ => by(buyer()),
        };
        let actor = match who {
            0 => by(buyer()),
            1 => by(worker()),
            2 => by(stranger()),
            3 => operator(),
            _ => rightful,
        };
        let command = match command {
            0 | 1 => accept(),
            2 | 3 => AgreementCommand::Activate,
            4 => AgreementCommand::Complete,
            5 | 7 => AgreementCommand::Close,
            6 => AgreementCommand::Finalize,
            8 => disputed(),
            _ => AgreementCommand::Rule { earned: self.desk.money(1_234_567), reason: String::new() },
        };
        let _ = self.desk.give(actor, command);
    }

    fn record(&mut self, units: &[i64]) {
        let calls: Vec<Call> = units.iter().map(|units| Call { units: *units, digest: Hash::default() }).collect();
        let command = AgreementCommand::RecordUsage { calls, after: None };
        if self.desk.give(by(worker()), command).is_ok() {
            self.recorded += units.iter().sum::<i64>();
        }
    }

    fn receive(&mut self, units: i64, forged: bool) {
        let signer = if forged { meter(2) } else { self.meter.clone() };
        let receipt: SignedReceipt = receipt_of(&signer, self.desk.id(), units, Hash::default());
        let taken = self.desk.give(by(worker()), hand_in(receipt)).is_ok();
        assert!(!taken || (self.metered && !forged && units > self.received && units <= QUANTITY));
        if taken {
            self.received = units;
        }
    }

    fn open(&self) -> Option<Instruction> {
        let (HoldState::Funding(id) | HoldState::Settling(id)) = self.desk.agreement().hold.state else { return None };
        self.desk.instructions.iter().find(|(i, _)| i.id == id).map(|(i, _)| i.clone())
    }

    fn answer(&mut self, reply: Reply) {
        let Some(instruction) = self.open() else { return };
        let settles = matches!(instruction.order, Order::Settle { .. });
        let amount = i128::from(instruction.order.amount().minor());
        let outcome = match reply {
            Reply::Outside => done(&instruction),
            Reply::Held => Outcome::Done(receipt(&instruction, Landing::Held)),
            Reply::Declined => declined(),
            Reply::Pending => Outcome::Pending { reference: "x".into() },
            Reply::NeedsAction => Outcome::NeedsAction(Action {
                who: Party::Buyer(buyer()),
                kind: "sign".into(),
                payload: "secret".into(),
            }),
            Reply::Lie => {
                let mut lie = receipt(&instruction, Landing::Outside);
                lie.amount = self.desk.money(1);
                Outcome::Done(lie)
            }
        };
        let taken = self.desk.give(Actor::Rail(RAIL), heard(&instruction, outcome)).is_ok();
        if taken && !settles && matches!(reply, Reply::Declined) {
            self.lost = false; // that was this payment; the next one stands on its own
        }
        let moves = matches!(reply, Reply::Outside | Reply::Held);
        let keeps = matches!(reply, Reply::Held) && settles;
        if taken && moves {
            // A custodial rail that keeps the parties' shares still holds them; the platform's stays anyway.
            self.holds += match (settles, keeps) {
                (false, _) => amount,
                (true, false) => -amount,
                (true, true) => 0,
            };
            if !settles && self.lost {
                self.holds = 0;
            }
        }
        assert!(!(taken && matches!(reply, Reply::Lie)), "a lie was believed");
    }

    fn expire(&mut self) {
        let state = self.desk.agreement().hold.state;
        if self.desk.give(Actor::Rail(RAIL), AgreementCommand::RecordHoldExpired).is_ok() {
            self.lost = true;
            if !matches!(state, HoldState::Funding(_)) {
                self.holds = 0;
            }
        }
    }

    fn divide_outside(&mut self, seller: u16) {
        let seller = self.deposit * i64::from(seller) / 65_535;
        let leg = |to, minor| Leg { to, amount: self.desk.money(minor) };
        let legs = vec![leg(Party::Worker(worker()), seller), leg(Party::Buyer(buyer()), self.deposit - seller)];
        let command = AgreementCommand::RecordHoldSettled { reference: "0x1".into(), legs };
        if self.desk.give(Actor::Rail(RAIL), command).is_ok() {
            self.holds = 0;
        }
    }

    fn check(&self) {
        let (desk, agreement) = (&self.desk, self.desk.agreement());
        assert_eq!(desk.books.sum(), 0);
        // PG-07
        assert!((0..=QUANTITY).contains(&agreement.usage.units));
        assert_eq!(agreement.usage.units, self.recorded);
        assert_eq!(agreement.receipt.as_ref().map_or(0, |receipt| receipt.units), self.received);
        // PG-19
        let proven = verify(agreement.id, Link::default(), &desk.chain).unwrap();
        assert_eq!((proven.units, proven.head), (self.recorded, agreement.head()));
        assert_eq!(agreement.terms.deposit.minor(), self.deposit);
        let reserved = desk.books.of(Account::Escrow(agreement.id.into()));
        let expected = if agreement.hold.state == HoldState::Held { i128::from(self.deposit) } else { 0 };
        assert_eq!(reserved, expected, "{:?}", agreement.hold.state);
        if desk.rail.custody.is_per_hold() && !matches!(agreement.hold.state, HoldState::Settling(_)) {
            let books = -desk.books.of(Account::Rail(RAIL));
            assert_eq!(books, self.holds, "the books and the rail");
        }
        let active = matches!(agreement.status, AgreementStatus::Active | AgreementStatus::Disputed);
        assert_eq!(active, agreement.hold.state == HoldState::Held);
        assert_eq!(active, agreement.final_at().is_some());
        assert!(!active || agreement.due_at().is_some(), "time alone ends an agreement");
        assert!(!agreement.status.is_final() || agreement.due_at().is_none());
        self.check_shares();
    }

    /// What was decided is what this file works out, and adds up to the deposit.
    fn check_shares(&self) {
        for event in &self.desk.events {
            let AgreementEvent::CloseFinalized { earned, fee, refunded } = event else { continue };
            let (parts, on_top) = self.fee;
            let expected = share(earned.minor(), parts);
            let net = earned.minor() - if on_top { 0 } else { expected };
            assert_eq!((fee.minor(), net + fee.minor() + refunded.minor()), (expected, self.deposit));
            assert!(refunded.minor() >= 0 && net >= 0);
            let proven = if self.metered { self.received } else { self.recorded };
            let worth = [proven, self.recorded.max(self.received)].map(|units| units * 77_777);
            assert!(worth.contains(&earned.minor()) || earned.minor() == 1_234_567, "{earned}");
        }
        let settled: Vec<i64> = self
            .desk
            .instructions
            .iter()
            .filter_map(|(instruction, _)| match &instruction.order {
                Order::Settle { legs, .. } => Some(legs.iter().map(|leg| leg.amount.minor()).sum()),
                _ => None,
            })
            .collect();
        assert!(settled.iter().all(|sum| *sum == self.deposit), "legs that do not add up: {settled:?}");
    }

    /// Time passes and the rail does its work: nothing may be left over.
    fn end(&mut self) {
        for _ in 0..12 {
            if self.open().is_some() {
                self.answer(Reply::Outside);
                self.check();
            }
            self.desk.wait(Span::hours(40 * 24)).tick_all();
            self.check();
        }
        let agreement = self.desk.agreement();
        assert!(agreement.is_over(), "{:?}", agreement);
        let books = &self.desk.books;
        let everybody = books.of(Account::Available(buyer()))
            + books.of(Account::Available(worker()))
            + books.of(Account::Revenue(RevenueKind::Fees));
        let kept = -books.of(Account::Rail(RAIL)) - books.of(Account::Treasury(RAIL));
        assert_eq!(everybody, kept, "nobody's money is on its way");
        for account in [Account::Pending(worker()), Account::Pending(buyer()), Account::Clearing(RAIL)] {
            assert_eq!(books.of(account), 0, "{account}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pg_07_no_life_loses_or_invents_money(custody in 0usize..4, fee in 0u8..4, metered in any::<bool>(),
                                            begun in any::<bool>(),
                                            steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new(CUSTODIES[custody], fee, metered);
        if begun {
            for command in [0, 2] {
                world.step(&Step::Command(command, 9));
            }
            world.step(&Step::Answer(Reply::Outside));
        }
        for step in &steps {
            world.step(step);
        }
        world.end();
    }
}
