//! What a seed makes of a world.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    engine::TierSource,
    ids::{AgentId, IdSource},
    job::JobStatus,
    money::{Rate, Rounding},
    policy::{
        AbuseRestriction, AgreementDisputes, AgreementPolicy, AutomatedTier, Bearer, Choice, Disputant, DisputeFee,
        DisputePolicy, EvidenceKind, EvidencePolicy, FeePayer, FeeRate, FeeReturn, HumanTier, LossBearer, NoticeRule,
        OnExpiry, Policy, Presence, Range, Restricted, ReversalPolicy, Review, Screening, Span, SpendingPeriod,
        SpendingPolicy, SplitRuling, Switch, WalletPolicy, WithdrawalPolicy,
    },
    rail::Custody,
    testkit::{Chances, Disorder},
};

/// What goes wrong in processes and stores, in thousandths of the calls concerned.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) crash_before_commit: u32,
    pub(super) crash_after_commit: u32,
    pub(super) crash_at_rail: u32,
    pub(super) crash_at_read: u32,
    pub(super) unavailable: u32,
    pub(super) commit_lost_before: u32,
    pub(super) commit_lost_after: u32,
    /// Of turns: the clock jumps past every lease while tasks are under way.
    pub(super) lease_lost: u32,
}

/// A world's lot, drawn from its seed.
pub(super) struct Plan {
    pub(super) policy: Policy,
    pub(super) custody: Custody,
    /// Of the market's further rail, if it has one. At most one rail holds money in the platform's name.
    pub(super) further: Option<Custody>,
    pub(super) hold_expiry: Option<Span>,
    pub(super) chances: Chances,
    pub(super) disorder: Disorder,
    pub(super) faults: Faults,
    /// Whether anybody is told what happens.
    pub(super) listens: bool,
    /// Whether the marketplace has an arbiter.
    pub(super) arbiter: bool,
    pub(super) processes: usize,
    pub(super) agents: Vec<AgentId>,
    /// Tasks that may be under way at once.
    pub(super) crowd: usize,
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x504c_414e_0000_0000);
        let systems = [Policy::voxpact, Policy::agentmarket, Policy::justpayai, Policy::paegents];
        let mut policy = systems[rng.random_range(0..systems.len())]().expect("the four systems' policies are valid");
        let custodies = [Custody::Internal, Custody::Pooled, Custody::PerHold, Custody::PerHold, Custody::NonCustodial];
        let custody = custodies[rng.random_range(0..custodies.len())];
        if let (Custody::Pooled, Some(wallet)) = (custody, &mut policy.wallet) {
            wallet.deposits = Switch::On; // wallets are filled from outside there
        }
        keep_purses(&mut policy, &mut rng);
        if rng.random_range(0..3) > 0 {
            policy.disputes = Some(quarrelsome(&policy, &mut rng));
        }
        policy.agreements = (rng.random_range(0..2) == 0).then(|| meterable(&policy, &mut rng));
        let listens = rng.random_range(0..4) == 0 && told(&mut policy);
        let rough = rng.random_range(0..4u32); // 0 is a calm world
        let mut up_to = |most: u32| rng.random_range(0..=most * rough);
        let chances = Chances {
            not_sent: up_to(20),
            busy: up_to(10),
            lost_before: up_to(20),
            lost_after: up_to(25),
            declined: up_to(25),
            pending: up_to(60),
            needs_action: up_to(40),
            lie: up_to(2),
            held: up_to(250),
            cost_up_to: up_to(10),
        };
        let faults = Faults {
            crash_before_commit: up_to(3),
            crash_after_commit: up_to(3),
            crash_at_rail: up_to(3),
            crash_at_read: up_to(1),
            unavailable: up_to(2),
            commit_lost_before: up_to(2),
            commit_lost_after: up_to(3),
            lease_lost: up_to(2),
        };
        let disorder = if rng.random() { Disorder::RepeatedAndShuffled } else { Disorder::None };
        let hold_expiry = (custody.is_per_hold() && rng.random_range(0..3) == 0).then(|| Span::hours(7 * 24));
        let further = (rng.random_range(0..3) == 0).then_some(Custody::NonCustodial);
        let agents = (0..rng.random_range(4..=12)).map(|i| AgentId(Uuid::from_u128(0xa9e7 << 64 | (i + 1)))).collect();
        Self {
            policy,
            custody,
            further,
            hold_expiry,
            chances,
            disorder,
            faults,
            listens,
            arbiter: rng.random_range(0..4) > 0,
            processes: rng.random_range(1..=4),
            agents,
            crowd: rng.random_range(1..=8),
        }
    }
}

/// Terms of usage agreements in a world's currency and at its speed.
fn meterable(policy: &Policy, rng: &mut StdRng) -> AgreementPolicy {
    let any = Range { min: Span::SECOND, max: Span::hours(24 * 365) };
    let choice = |default: u32| Choice { default: Span::seconds(default), allowed: any };
    let unit_price_step = rng.random_range(1..=3);
    let unit_price = Range { min: unit_price_step * rng.random_range(1..=4), max: policy.jobs.amount.max.min(1 << 40) };
    AgreementPolicy {
        quantity: Range { min: 1, max: 1_000_000 },
        unit: Range { min: 1, max: 50 },
        unit_price: Range { max: unit_price.max.max(unit_price.min), ..unit_price },
        unit_price_step,
        total: Range { min: 1, max: 1 << 50 },
        proposal: choice(20_000),
        reason: Range { min: 0, max: 1000 },
        activation_within: Span::seconds(rng.random_range(60..1_000_000)),
        term: choice(100_000),
        challenge_window: choice(10_000),
        receipts: Presence::Optional,
        calls: 10,
        document_bytes: 4096,
        disputes: (rng.random_range(0..4) > 0)
            .then(|| AgreementDisputes { ruling_within: Span::seconds(rng.random_range(60..1_000_000)) }),
        infrastructure_fee: None,
        screening: Screening::Off,
    }
}

/// What is told, and to whom: rows whose receivers are the same whenever the log is read. Whether the
/// policy tells anything at all.
fn told(policy: &mut Policy) -> bool {
    let Some(webhooks) = &mut policy.webhooks else { return false };
    let rows = [
        ("job.delivered", vec!["job.buyer"]),
        ("job.completed", vec!["job.buyer", "job.worker"]),
        ("job.disputed", vec!["other"]),
        ("dispute.resolved", vec!["job.buyer", "job.worker"]),
        ("wallet.paid_out", vec!["event.agent"]),
        ("agreement.proposed", vec!["event.seller"]),
    ];
    let row = |(on, to): (&str, Vec<&str>)| NoticeRule {
        on: on.into(),
        name: None,
        when: BTreeMap::new(),
        to: to.into_iter().filter_map(|to| to.parse().ok()).collect(),
        payload: BTreeMap::from([("id".to_owned(), "$subject.id".into())]),
    };
    webhooks.subscriptions = webhooks.subscriptions.max(3);
    webhooks.events = rows.into_iter().map(row).collect();
    true
}

/// Rules of wallets, of spending and of what goes back, most often others than the system's.
fn keep_purses(policy: &mut Policy, rng: &mut StdRng) {
    let smallest = policy.jobs.amount.min.max(2);
    if policy.wallet.is_some_and(|wallet| wallet.deposits == Switch::On) || rng.random_range(0..3) > 0 {
        let min = rng.random_range(2..=smallest * 4);
        let withdrawals = WithdrawalPolicy {
            min,
            fee: rng.random_range(0..min),
            address_cool_down: Span::seconds(rng.random_range(60..100_000)),
            panic: if rng.random_range(0..4) > 0 { Switch::On } else { Switch::Off },
        };
        let withdrawals = (rng.random_range(0..5) > 0).then_some(withdrawals);
        policy.wallet = Some(WalletPolicy { deposits: Switch::On, withdrawals });
    }
    if rng.random_range(0..2) == 0 {
        let period = if rng.random() { SpendingPeriod::CalendarDay } else { SpendingPeriod::CalendarMonth };
        let default_limit = rng.random::<bool>().then(|| rng.random_range(smallest..smallest * 400));
        policy.spending = Some(SpendingPolicy { period, default_limit });
    }
    if rng.random_range(0..3) > 0 {
        let borne_by = match rng.random_range(0..3) {
            0 => LossBearer::Platform,
            1 => LossBearer::Worker { backstop: 0 },
            _ => LossBearer::Worker { backstop: rng.random_range(0..smallest * 4) },
        };
        policy.reversals = Some(ReversalPolicy { borne_by });
    }
}

/// Terms of disputes that no system has, but some could.
fn quarrelsome(policy: &Policy, rng: &mut StdRng) -> DisputePolicy {
    const STATUSES: [JobStatus; 5] = [
        JobStatus::Delivered,
        JobStatus::Accepted,
        JobStatus::InProgress,
        JobStatus::Validating,
        JobStatus::RevisionRequested,
    ];
    let hours = |rng: &mut StdRng, most: u32| Span::seconds(rng.random_range(60..most * 3600));
    let mut statuses = STATUSES[..rng.random_range(1..=STATUSES.len())].to_vec();
    statuses.retain(|status| match status {
        JobStatus::Delivered | JobStatus::RevisionRequested => policy.jobs.review != Review::Nobody,
        JobStatus::Validating => policy.validation.is_some(),
        _ => true,
    });
    if statuses.is_empty() {
        statuses.push(JobStatus::Accepted);
    }
    let share = |rng: &mut StdRng, most| Rate::new(Decimal::new(rng.random_range(1..most), 4)).unwrap_or(Rate::ONE);
    let smallest = policy.jobs.amount.min;
    let fee = (policy.wallet.is_some() && rng.random_range(0..3) > 0).then(|| DisputeFee {
        rate: share(rng, 1_500),
        limits: Range { min: rng.random_range(0..=smallest), max: rng.random_range(smallest..=smallest * 20) },
        rounding: Rounding::HalfEven,
        payer: if rng.random() { FeePayer::Both } else { FeePayer::Claimant },
        returned: if rng.random() { FeeReturn::ToWinner } else { FeeReturn::Never },
    });
    let automated = (rng.random_range(0..4) > 0).then(|| AutomatedTier {
        confidence: share(rng, 10_000),
        within: hours(rng, 4),
        appeal_within: hours(rng, 24 * 7),
    });
    let abuse = rng.random_range(0..4) == 0;
    DisputePolicy {
        statuses,
        by: if rng.random() { Disputant::Either } else { Disputant::Buyer },
        categories: if rng.random() { Vec::new() } else { vec!["quality".into(), "other".into()] },
        reason: Range { min: 5, max: 2_000 },
        answer_within: rng.random::<bool>().then(|| hours(rng, 48)),
        evidence: rng.random::<bool>().then(|| EvidencePolicy {
            items: rng.random_range(1..6),
            kinds: vec![EvidenceKind::Text, EvidenceKind::Url],
            length: Range { min: 1, max: 2_000 },
        }),
        fee,
        automated,
        human: HumanTier { within: hours(rng, 72) },
        split: match rng.random_range(0..3) {
            0 => SplitRuling::Never,
            1 => SplitRuling::Fixed { to_worker: share(rng, 10_000) },
            _ => SplitRuling::Any,
        },
        hold_expiry: if rng.random() { OnExpiry::Release } else { OnExpiry::Refund },
        abuse: abuse.then(|| AbuseRestriction {
            filed: rng.random_range(1..5),
            rate: share(rng, 9_000),
            forbids: if rng.random() { vec![Restricted::Dispute] } else { vec![Restricted::Post, Restricted::Dispute] },
        }),
    }
}

/// A policy that differs from `policy` in what decides about money, if the change is a valid one.
pub(super) fn altered(policy: &Policy, rng: &mut StdRng) -> Option<Policy> {
    let mut policy = policy.clone();
    let rate = Rate::new(Decimal::new(rng.random_range(0..3000), 4)).ok()?;
    match rng.random_range(0..6) {
        0 => match &mut policy.fees.rate {
            FeeRate::Flat(flat) => *flat = rate,
            FeeRate::ByTier(rates) => rates.values_mut().for_each(|value| *value = rate),
        },
        1 => {
            let modes = [Rounding::HalfEven, Rounding::HalfUp, Rounding::Down, Rounding::Up];
            policy.fees.rounding = modes[rng.random_range(0..modes.len())];
        }
        2 => {
            policy.fees.bearer = if rng.random() { Bearer::Buyer } else { Bearer::Worker };
            policy.fees.rate = FeeRate::Flat(rate);
        }
        3 => {
            for terms in policy.jobs.cancellation.values_mut() {
                if rng.random() { terms.to_platform = rate } else { terms.to_worker = rate }
            }
        }
        4 => policy.disputes = Some(quarrelsome(&policy, rng)),
        _ => {
            if let Review::Buyer { release_after } = &mut policy.jobs.review {
                *release_after = Span::seconds(rng.random_range(600..200_000));
            }
        }
    }
    policy.validate().is_ok().then_some(policy)
}

/// Ids that follow from the seed and from how many were made before.
pub(super) struct SeededIds(Mutex<StdRng>);

impl SeededIds {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed ^ 0x4944_5300_0000_0000)))
    }
}

impl IdSource for SeededIds {
    fn next(&self, now: Timestamp) -> Uuid {
        let bytes = self.0.lock().expect("the source's lock is never held across a panic").random();
        let millis = u64::try_from(now.timestamp_millis()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
    }
}

/// The agents' tiers; the auditor reads the same ones.
#[derive(Clone, Default)]
pub(super) struct Tiers(Arc<Mutex<HashMap<AgentId, String>>>);

impl Tiers {
    pub(super) fn set(&self, agent: AgentId, tier: String) {
        self.0.lock().expect("the tiers' lock is never held across a panic").insert(agent, tier);
    }

    pub(super) fn of(&self, agent: AgentId) -> Option<String> {
        self.0.lock().expect("the tiers' lock is never held across a panic").get(&agent).cloned()
    }
}

#[async_trait]
impl TierSource for Tiers {
    async fn tier(&self, agent: AgentId) -> Result<Option<String>, String> {
        Ok(self.of(agent))
    }
}
