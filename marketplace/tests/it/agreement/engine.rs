//! Agreements through the engine on every store: commits, keys, timers, rails that lose answers, books.

use std::sync::Arc;

use tradepost::{
    agreement::{
        ActivationStatus, Agreement, AgreementStatus, SettlementStatus,
        chain::{Link, verify},
    },
    clock::ManualClock,
    engine::{Marketplace, Role, SettlementReceipt},
    error::{Error, Rejection},
    ids::RailId,
    ledger::{LedgerError, escrow},
    money::Money,
    policy::{Policy, Span},
    rail::{ChargebackStage, CreditsRail, Custody, Landing, Leg, Party, SettlementRail},
    store::{MemoryStore, PostgresStore, SqliteStore, Store},
    testkit::{Answer, Chances, Course, Ending, OutsideWorld, Script, ScriptedRail},
};

use super::*;
use crate::store::SERVER;

struct Town {
    market: Marketplace,
    clock: Arc<ManualClock>,
    world: OutsideWorld,
    rail: RailId,
    _folder: Option<tempfile::TempDir>,
}

impl Town {
    async fn on(store: impl Store, policy: Policy, custody: Custody) -> Self {
        let profile = ScriptedRail::profile_of(custody, policy.currency);
        Self::on_rail(store, policy, profile).await
    }

    async fn on_rail(store: impl Store, policy: Policy, profile: RailProfile) -> Self {
        let custody = profile.custody;
        let (clock, world) = (Arc::new(ManualClock::at(start())), OutsideWorld::new(policy.currency, 1));
        let builder = Marketplace::builder("town", store, policy.clone());
        let (builder, rail) = match custody {
            Custody::Internal => (builder.rail(CreditsRail::new(policy.currency)), CreditsRail::ID),
            _ => {
                let rail = ScriptedRail::new(profile, world.clone(), clock.clone());
                let id = rail.profile().id;
                (builder.rail(rail), id)
            }
        };
        let market = builder.clock(clock.clone()).ids(Arc::new(CountedIds::default())).build().await.unwrap();
        let town = Self { market, clock, world, rail, _folder: None };
        if custody == Custody::Internal {
            let wealth = town.money(2 * DEPOSIT);
            town.market.operator("Ada").record_deposit(town.rail, "first", buyer(), wealth).await.unwrap();
        }
        town
    }

    /// The same town on every store there is.
    async fn everywhere(policy: Policy, custody: Custody) -> Vec<Self> {
        let profile = ScriptedRail::profile_of(custody, policy.currency);
        Self::everywhere_on(policy, profile).await
    }

    async fn everywhere_on(policy: Policy, profile: RailProfile) -> Vec<Self> {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
        let mut on_disk = Self::on_rail(sqlite, policy.clone(), profile.clone()).await;
        on_disk._folder = Some(folder);
        let postgres = PostgresStore::connect(&SERVER.database().unwrap()).await.unwrap();
        vec![
            Self::on_rail(MemoryStore::new(), policy.clone(), profile.clone()).await,
            on_disk,
            Self::on_rail(postgres, policy, profile).await,
        ]
    }

    fn money(&self, minor: i64) -> Money {
        Money::new(minor, self.market.currency())
    }

    async fn proposed(&self) -> Arc<Agreement> {
        let proposal = proposal(|minor| self.money(minor));
        self.market.agent(buyer()).propose_agreement(proposal).await.unwrap()
    }

    /// Accepted and activated, as far as that comes at once.
    async fn activated(&self) -> Arc<Agreement> {
        let id = self.proposed().await.id;
        self.market.agent(worker()).accept_agreement(id, None).await.unwrap();
        self.market.agent(buyer()).activate_agreement(id).await.unwrap()
    }

    async fn work(&self) {
        self.market.run_until_idle().await.unwrap();
    }

    fn pass(&self, span: Span) {
        self.clock.advance(span.delta());
    }

    /// Lets so much time pass that whatever waits is tried again, a few times.
    async fn persist(&self) {
        for _ in 0..12 {
            self.work().await;
            self.pass(Span::seconds(3600));
        }
        self.work().await;
    }

    async fn names(&self, id: AgreementId) -> Vec<&'static str> {
        let events = self.market.agreement_history(id).await.unwrap();
        events.iter().map(|logged| logged.event.body.name()).collect()
    }

    async fn check_books(&self) {
        for trial in self.market.trial_balance().await.unwrap() {
            assert_eq!(trial.sum(), 0);
        }
        assert_eq!(self.market.verify().await.unwrap(), []);
        let reconciled = self.market.reconcile(self.rail).await.unwrap();
        assert_eq!((reconciled.differences, reconciled.in_flight), (vec![], vec![]));
    }
}

fn rejection<T: std::fmt::Debug>(answer: Result<T, Error>) -> Rejection {
    match answer {
        Err(Error::Rejected(rejection)) => rejection,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_15_a_life_with_keys_is_lived_once_however_often_it_is_told() {
    for town in Town::everywhere(paegents(), Custody::Internal).await {
        let market = &town.market;
        let mut told = Vec::new();
        for _ in 0..2 {
            let proposal = proposal(|minor| town.money(minor));
            let proposed = market.agent(buyer()).keyed("propose").propose_agreement(proposal).await.unwrap();
            let id = proposed.id;
            let accepted = market.agent(worker()).keyed("accept").accept_agreement(id, None).await.unwrap();
            let active = market.agent(buyer()).keyed("activate").activate_agreement(id).await.unwrap();
            let used = market.agent(worker()).keyed("use").record_usage(id, calls(30), None).await.unwrap();
            let completed = market.agent(buyer()).keyed("complete").complete_agreement(id).await.unwrap();
            told.push([proposed, accepted, active, used, completed]);
        }
        assert_eq!(told[0], told[1]);
        let id = told[0][0].id;
        let another = market.agent(worker()).keyed("use").record_usage(id, calls(31), None).await;
        assert!(matches!(rejection(another), Rejection::KeyReused { .. }));
        assert_eq!(market.available(worker()).await.unwrap().minor(), 30 * UNIT_PRICE);
        assert_eq!(market.available(buyer()).await.unwrap().minor(), 2 * DEPOSIT - 30 * UNIT_PRICE);
        assert_eq!(
            town.names(id).await,
            [
                "agreement.proposed",
                "agreement.accepted",
                "agreement.activated",
                "agreement.usage_recorded",
                "escrow.close_finalized",
                "agreement.completed",
                "escrow.claim_completed",
                "escrow.withdraw_completed",
            ]
        );
        town.check_books().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_04_credits_hold_the_deposit_and_refuse_what_is_not_there() {
    for town in Town::everywhere(paegents(), Custody::Internal).await {
        let ids = [town.activated().await.id, town.activated().await.id, town.proposed().await.id];
        for id in &ids[..2] {
            assert_eq!(town.market.balance(escrow(*id), None).await.unwrap().minor(), DEPOSIT);
        }
        let shown = town.market.wallet(buyer()).await.unwrap();
        assert_eq!([shown.available.minor(), shown.escrowed.minor()], [0, 2 * DEPOSIT], "JP-23: deposits are escrowed");
        town.market.agent(worker()).accept_agreement(ids[2], None).await.unwrap();
        let poor = rejection(town.market.agent(buyer()).activate_agreement(ids[2]).await);
        assert!(matches!(poor, Rejection::Ledger(LedgerError::Overdraft { .. })), "{poor}");
        assert_eq!(town.market.agreement(ids[2]).await.unwrap().status, AgreementStatus::Accepted);
        town.check_books().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_19_the_chain_is_kept_whole_and_the_document_as_agreed() {
    for town in Town::everywhere(paegents(), Custody::Internal).await {
        let mut proposal = proposal(|minor| town.money(minor));
        proposal.document.insert("sla".into(), serde_json::json!({ "uptime": "99.9" }));
        let id = town.market.agent(buyer()).propose_agreement(proposal).await.unwrap().id;
        town.market.agent(worker()).accept_agreement(id, None).await.unwrap();
        let mut agreement = town.market.agent(buyer()).activate_agreement(id).await.unwrap();
        for count in [3, 1, 2] {
            let after = Some(agreement.usage.head);
            agreement = town.market.agent(worker()).record_usage(id, calls(count), after).await.unwrap();
        }
        let late = town.market.agent(worker()).record_usage(id, calls(1), Some(Hash::default())).await;
        assert!(matches!(rejection(late), Rejection::ChainMoved { .. }));
        let mut list = Vec::new();
        for part in 1..=agreement.usage.parts {
            list.extend(town.market.usage(id, part).await.unwrap());
        }
        let proven = verify(id, Link::default(), &list).unwrap();
        assert_eq!((proven.head, proven.units), (agreement.head(), 6));
        assert!(matches!(rejection(town.market.usage(id, 4).await), Rejection::NotFound { .. }));
        let document = town.market.agreement_document(id).await.unwrap();
        assert_eq!(document, r#"{"sla":{"uptime":"99.9"}}"#);
        assert_eq!(Hash::of(document.as_bytes()), agreement.terms.document);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_03_pg_09_timers_end_what_nobody_does() {
    for town in Town::everywhere(paegents(), Custody::Internal).await {
        let unanswered = town.proposed().await.id;
        let id = town.activated().await.id;
        town.market.agent(worker()).record_usage(id, calls(10), None).await.unwrap();
        town.pass(Span::hours(7 * 24));
        town.work().await;
        assert_eq!(town.market.agreement(unanswered).await.unwrap().status, AgreementStatus::Expired);
        town.pass(Span::hours(23 * 24));
        town.work().await;
        let closing = town.market.agreement(id).await.unwrap();
        assert_eq!((closing.status, closing.settlement), (AgreementStatus::Active, Some(SettlementStatus::Closing)));
        let early = rejection(town.market.agent(buyer()).finalize_agreement(id).await);
        assert!(matches!(early, Rejection::NotFinal { .. }));
        town.pass(WINDOW);
        town.work().await;
        let ended = town.market.agreement(id).await.unwrap();
        assert_eq!((ended.status, ended.settlement), (AgreementStatus::Completed, Some(SettlementStatus::Settled)));
        assert_eq!(town.market.available(worker()).await.unwrap().minor(), 10 * UNIT_PRICE);
        town.check_books().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_03_agreements_are_listed_by_party_and_status() {
    for town in Town::everywhere(paegents(), Custody::Internal).await {
        let (first, second) = (town.proposed().await.id, town.activated().await.id);
        let ids = |found: Vec<Arc<Agreement>>| found.iter().map(|agreement| agreement.id).collect::<Vec<_>>();
        let (of, all) = (Role::Buyer(buyer()), &[]);
        assert_eq!(ids(town.market.agreements(of, all, 0).await.unwrap()), [second, first]);
        assert_eq!(ids(town.market.agreements(Role::Worker(worker()), all, 1).await.unwrap()), [first]);
        let active = [AgreementStatus::Active];
        assert_eq!(ids(town.market.agreements(of, &active, 0).await.unwrap()), [second]);
        assert!(town.market.agreements(Role::Worker(buyer()), all, 0).await.unwrap().is_empty());
        let missing = AgreementId(Uuid::from_u128(1));
        assert!(matches!(rejection(town.market.agreement(missing).await), Rejection::NotFound { .. }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_05_activation_is_asynchronous_and_settles_whatever_answers_are_lost() {
    let pending = Script { course: Course::Pending(2, Ending::Done), ..Script::default() };
    let troubles = [
        Script::default(),
        pending,
        Script { answer: Answer::LostBefore, ..Script::default() },
        Script { answer: Answer::LostAfter, ..Script::default() },
        Script { answer: Answer::NotSent, ..Script::default() },
        Script { answer: Answer::LostAfter, ..pending },
    ];
    for custody in [Custody::PerHold, Custody::NonCustodial] {
        for town in Town::everywhere(paegents(), custody).await {
            for (number, trouble) in (0i64..).zip(troubles) {
                town.world.next(trouble);
                let submitted = town.activated().await;
                let id = submitted.id;
                if trouble != Script::default() {
                    assert_eq!(submitted.activation, Some(ActivationStatus::Submitting), "{trouble:?}");
                    assert_eq!(submitted.status, AgreementStatus::Accepted);
                }
                town.persist().await;
                let active = town.market.agreement(id).await.unwrap();
                assert_eq!(
                    (active.status, active.activation),
                    (AgreementStatus::Active, Some(ActivationStatus::Confirmed))
                );
                assert_eq!(town.world.hold(id.into()), Some(town.money(DEPOSIT)));
                town.check_books().await;

                let before = (town.world.outside(worker()), town.world.outside(buyer()));
                town.market.agent(worker()).record_usage(id, calls(number), None).await.unwrap_err_if(number == 0);
                town.world.next(trouble);
                town.market.agent(buyer()).complete_agreement(id).await.unwrap();
                town.persist().await;
                let settled = town.market.agreement(id).await.unwrap();
                assert_eq!(settled.settlement, Some(SettlementStatus::Settled), "{trouble:?}");
                let earned = i128::from(number * UNIT_PRICE);
                assert_eq!(town.world.outside(worker()) - before.0, earned);
                assert_eq!(town.world.outside(buyer()) - before.1, i128::from(DEPOSIT) - earned);
                for instruction in town.market.instructions(id).await.unwrap() {
                    assert_eq!(town.world.effects(instruction.instruction.id).times, 1, "{trouble:?}");
                }
                town.check_books().await;
            }
        }
    }
}

/// An answer of which nothing but its kind matters.
trait Expected {
    fn unwrap_err_if(self, refused: bool);
}

impl<T: std::fmt::Debug> Expected for Result<T, Error> {
    fn unwrap_err_if(self, refused: bool) {
        assert_eq!(self.is_err(), refused, "{self:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_04_a_declined_activation_is_tried_again_by_the_buyer() {
    for town in Town::everywhere(paegents(), Custody::NonCustodial).await {
        town.world.next(Script { course: Course::Declined, ..Script::default() });
        let failed = town.activated().await;
        assert_eq!((failed.status, failed.activation), (AgreementStatus::Accepted, Some(ActivationStatus::Failed)));
        let active = town.market.agent(buyer()).activate_agreement(failed.id).await.unwrap();
        assert_eq!(active.status, AgreementStatus::Active);
        assert_eq!(town.names(failed.id).await.iter().filter(|name| name.contains("activation")).count(), 3);
        town.check_books().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_17_a_party_signs_and_the_rail_goes_on() {
    for town in Town::everywhere(paegents(), Custody::NonCustodial).await {
        town.world.next(Script { course: Course::NeedsAction(Ending::Done), ..Script::default() });
        let waiting = town.activated().await;
        assert_eq!(waiting.activation, Some(ActivationStatus::Submitting));
        assert!(town.names(waiting.id).await.contains(&"agreement.action_required"));
        let asked = town.market.instructions(waiting.id).await.unwrap()[0].instruction.id;
        let stranger = town.market.agent(worker()).answer(asked, "mine").await;
        assert!(matches!(rejection(stranger), Rejection::WrongActor { .. }));
        town.market.agent(buyer()).answer(asked, "signed").await.unwrap();
        assert_eq!(town.market.agreement(waiting.id).await.unwrap().status, AgreementStatus::Active);
        town.check_books().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_04_a_payment_that_was_called_off_is_not_begun_and_a_late_one_goes_back() {
    for town in Town::everywhere(paegents(), Custody::PerHold).await {
        // The request never left: by the time it could, nobody wants it any more.
        town.world.next(Script { answer: Answer::NotSent, ..Script::default() });
        let unsent = town.activated().await.id;
        town.world.next(Script { course: Course::Pending(2, Ending::Done), ..Script::default() });
        let slow = town.activated().await.id;
        town.pass(Span::hours(7 * 24));
        town.world.next(Script { answer: Answer::NotSent, ..Script::default() });
        town.persist().await;
        for id in [unsent, slow] {
            assert_eq!(town.market.agreement(id).await.unwrap().status, AgreementStatus::Expired);
            assert_eq!(town.world.hold(id.into()).map_or(0, Money::minor), 0);
        }
        assert_eq!(town.world.outside(buyer()), 0, "all that was taken is back");
        town.check_books().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rail_gives_up_is_observed_once_however_often_it_is_told() {
    for town in Town::everywhere(paegents(), Custody::PerHold).await {
        town.world.disorder(tradepost::testkit::Disorder::RepeatedAndShuffled);
        let id = town.activated().await.id;
        town.world.expire(id.into());
        town.persist().await;
        let gone = town.market.agreement(id).await.unwrap();
        assert_eq!((gone.status, gone.hold.state), (AgreementStatus::Expired, HoldState::Settled));
        assert_eq!(town.market.unsettled().await.unwrap(), []);
        town.check_books().await;
    }
}

/// What a rail keeps of a seller's is in its wallet until the account is ready, and leaves then, also if it arrives
/// after that was told.
#[tokio::test(flavor = "multi_thread")]
async fn shares_that_a_rail_keeps_are_in_the_wallets_until_accounts_are_ready() {
    for answer in [Answer::Arrives, Answer::LostAfter] {
        for town in Town::everywhere(paegents(), Custody::PerHold).await {
            let id = town.activated().await.id;
            town.market.agent(worker()).record_usage(id, calls(10), None).await.unwrap();
            town.world.next(Script { answer, landing: Landing::Held, ..Script::default() });
            town.market.agent(buyer()).complete_agreement(id).await.unwrap();
            let kept = if answer == Answer::Arrives { 10 * UNIT_PRICE } else { 0 };
            assert_eq!(town.market.available(worker()).await.unwrap().minor(), kept);
            town.world.account_ready(worker());
            town.persist().await;
            assert_eq!(town.market.available(worker()).await.unwrap().minor(), 0);
            assert_eq!(town.world.outside(worker()), i128::from(10 * UNIT_PRICE));
            assert_eq!(town.market.payouts(worker()).await.unwrap().len(), 1);
            town.check_books().await;
        }
    }
}

/// A bank's chargeback of a deposit reaches its agreement through the rail's reports, once however often it is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_chargeback_of_a_deposit_is_its_agreements_to_decide() {
    for end in [ChargebackStage::Won, ChargebackStage::Lost] {
        // What is only authorised cannot be taken back: the rail has the money.
        let taken =
            RailProfile { hold_expiry: None, ..ScriptedRail::profile_of(Custody::PerHold, paegents().currency) };
        for town in Town::everywhere_on(paegents(), taken).await {
            let id = town.activated().await.id;
            town.market.agent(worker()).record_usage(id, calls(30), None).await.unwrap();
            assert!(town.world.charge_back(id.into(), ChargebackStage::Opened { evidence_due: None }));
            town.work().await;
            assert!(town.market.agreement(id).await.unwrap().frozen.is_some());
            let refused = rejection(town.market.agent(worker()).record_usage(id, calls(1), None).await);
            assert!(matches!(refused, Rejection::WrongHold { command: "record_usage", .. }), "{refused}");
            assert!(town.world.charge_back(id.into(), end));
            town.work().await;
            town.work().await;
            let agreement = town.market.agreement(id).await.unwrap();
            assert_eq!(agreement.frozen, None);
            match end {
                ChargebackStage::Won => assert_eq!(agreement.status, AgreementStatus::Active),
                _ => assert_eq!(agreement.status, AgreementStatus::Expired),
            }
            assert_eq!(town.market.unsettled().await.unwrap(), []);
            town.check_books().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_14_each_settled_contract_has_a_receipt_that_anyone_can_verify() {
    for custody in CUSTODIES {
        for town in Town::everywhere(with_fee("0.05", Bearer::Worker), custody).await {
            if custody == Custody::Pooled {
                town.world.deposit(buyer(), town.money(2 * DEPOSIT), "bank");
                town.work().await;
            }
            let id = town.activated().await.id;
            assert!(matches!(rejection(town.market.receipt(id).await), Rejection::NotFound { what: "receipt", .. }));
            town.market.agent(worker()).record_usage(id, calls(40), None).await.unwrap();
            town.market.agent(buyer()).complete_agreement(id).await.unwrap();
            town.work().await;
            let receipt = town.market.receipt(id).await.unwrap();
            let leg = |to, minor| Leg { to, amount: town.money(minor) };
            assert_eq!(
                receipt.legs,
                [
                    leg(Party::Buyer(buyer()), DEPOSIT - 4_000_000),
                    leg(Party::Worker(worker()), 3_800_000),
                    leg(Party::Platform, 200_000),
                ]
            );
            assert_eq!((receipt.id, receipt.worker), (id.into(), Some(worker())));
            assert_eq!(receipt.reference.is_empty(), !custody.is_per_hold());
            assert!(town.market.verify_receipt(&receipt).await.unwrap());
            let mut forged = receipt.clone();
            forged.legs.swap(0, 1);
            assert!(!town.market.verify_receipt(&forged).await.unwrap());
            let written = serde_json::to_string(&receipt).unwrap();
            assert_eq!(serde_json::from_str::<SettlementReceipt>(&written).unwrap(), receipt);
            for role in [Role::Buyer(buyer()), Role::Worker(worker())] {
                assert_eq!(town.market.receipts(role, 0).await.unwrap(), std::slice::from_ref(&receipt));
                assert_eq!(town.market.receipts(role, 1).await.unwrap(), []);
            }
            assert_eq!(town.market.receipts(Role::Buyer(worker()), 0).await.unwrap(), []);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_14_a_job_has_one_too_and_money_that_was_lost_is_its_payers() {
    let town = Town::on(MemoryStore::new(), paegents(), Custody::PerHold).await;
    let job = town.market.agent(buyer()).post_job(order(town.money(1_000_000))).await.unwrap();
    town.market.agent(worker()).accept(job.id).await.unwrap();
    town.market.agent(worker()).deliver(job.id, tradepost::job::Delivery::default()).await.unwrap();
    town.market.agent(buyer()).approve(job.id).await.unwrap();
    let receipt = town.market.receipt(job.id).await.unwrap();
    assert_eq!(receipt.legs, [Leg { to: Party::Worker(worker()), amount: town.money(1_000_000) }]);

    // The rail gives the hold up while it is asked to divide it.
    let id = town.activated().await.id;
    town.market.agent(worker()).record_usage(id, calls(40), None).await.unwrap();
    town.world.next(Script { answer: Answer::NotSent, ..Script::default() });
    town.market.agent(buyer()).complete_agreement(id).await.unwrap();
    town.world.expire(id.into());
    town.work().await;
    let receipt = town.market.receipt(id).await.unwrap();
    assert_eq!(receipt.legs, [Leg { to: Party::Buyer(buyer()), amount: town.money(DEPOSIT) }]);
    assert!(town.names(id).await.contains(&"escrow.lost"));
}

/// Two clerks record at once: the quantity holds, and the chain has no fork.
#[tokio::test(flavor = "multi_thread")]
async fn pg_07_usage_recorded_at_once_never_passes_the_quantity() {
    for town in Town::everywhere(paegents(), Custody::Internal).await {
        let id = town.activated().await.id;
        let tasks = (0..24).map(|_| {
            let market = town.market.clone();
            tokio::spawn(async move { market.agent(worker()).record_usage(id, calls(5), None).await.is_ok() })
        });
        let mut recorded = 0;
        for task in tasks.collect::<Vec<_>>() {
            recorded += i64::from(task.await.unwrap()) * 5;
        }
        let agreement = town.market.agreement(id).await.unwrap();
        assert_eq!((recorded, agreement.usage.units), (QUANTITY, QUANTITY));
        let mut list = Vec::new();
        for part in 1..=agreement.usage.parts {
            list.extend(town.market.usage(id, part).await.unwrap());
        }
        assert_eq!(verify(id, Link::default(), &list).unwrap().head, agreement.head());
        town.check_books().await;
    }
}

/// Faults by seed on every call and every instruction: nothing lost, nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn agreements_survive_seeded_faults() {
    let trouble = Chances {
        not_sent: 80,
        busy: 50,
        lost_before: 80,
        lost_after: 120,
        declined: 60,
        pending: 200,
        ..Chances::default()
    };
    for custody in [Custody::PerHold, Custody::NonCustodial] {
        for seed in 0..6 {
            let town = Town::on(MemoryStore::new(), paegents(), custody).await;
            town.world.seeded(seed, trouble);
            let mut ids = Vec::new();
            for number in 1..=10i64 {
                let id = town.activated().await.id;
                ids.push((id, number));
            }
            town.persist().await;
            let mut earned = 0;
            for (id, number) in &ids {
                if town.market.agreement(*id).await.unwrap().status == AgreementStatus::Active {
                    town.market.agent(worker()).record_usage(*id, calls(*number), None).await.unwrap();
                    town.market.agent(buyer()).complete_agreement(*id).await.unwrap();
                    earned += number * UNIT_PRICE;
                }
            }
            for _ in 0..40 {
                town.persist().await;
            }
            town.world.seeded(seed, Chances::default());
            assert!(earned > 0, "seed {seed} is too hard");
            assert_eq!(town.world.outside(worker()), i128::from(earned), "seed {seed}");
            assert_eq!(town.world.outside(buyer()), -i128::from(earned), "seed {seed}");
            for (id, _) in &ids {
                for instruction in town.market.instructions(*id).await.unwrap() {
                    assert!(town.world.effects(instruction.instruction.id).times <= 1, "seed {seed}");
                }
            }
            town.check_books().await;
        }
    }
}
