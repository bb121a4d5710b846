//! What an attacker pays for trust, under each of the four models: one JSON object a line.
//!
//! Amounts are in minor units of the policy's currency and count what does not come back to the
//! attacker: the platform's fees by the policy's own rate, activations of new identities, fees of
//! disputes. The wages of a ring go round and are not counted, nor is an arbiter that is fooled. A
//! `minor_per_point` of null says that the points cannot be bought this way at all; "0" that they are
//! free. `minor_per_percent` is the price of a hundredth of the scale, which compares models with
//! different scales.
//!
//! Run with `cargo bench -p tradepost-benches --bench trust`, with another seed in `TRADEPOST_SEED`.

use std::error::Error;

use chrono::TimeDelta;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tradepost::{
    clock::Timestamp,
    ids::{AgentId, JobId, OwnerId},
    money::Money,
    policy::{Activation, DisputeFee, FeeRate, Policy},
    trust::{Contract, Fact, Happening, Party, Record, Ruling, Settled, Side, Trust},
};
use uuid::Uuid;

type Fallible<T> = Result<T, Box<dyn Error>>;

const SEED: u64 = 20_260_101;

/// A marketplace under attack.
struct Bench {
    model: &'static str,
    policy: Policy,
    trust: Trust,
    random: StdRng,
    now: Timestamp,
    made: u128,
}

fn main() -> Fallible<()> {
    let seed = std::env::var("TRADEPOST_SEED").ok().map_or(Ok(SEED), |text| text.parse())?;
    for (model, policy) in models()? {
        let attack = || Bench::new(model, policy.clone(), seed);
        for contracts in [1, 10, 100] {
            attack().ring_of_one_owner(contracts)?;
            attack().ring_of_sham_owners(contracts)?;
        }
        for failures in [1, 5, 20] {
            attack().whitewashing(failures)?;
        }
        for won_percent in [100, 30, 0] {
            attack().disputes(won_percent)?;
        }
        attack().reports()?;
    }
    Ok(())
}

/// The three systems that keep a score, and the first of them with beta reputation.
fn models() -> Fallible<[(&'static str, Policy); 4]> {
    let mut beta = serde_json::to_value(Policy::voxpact()?)?;
    beta["trust"]["scoring"] = json!({ "beta": {
        "prior_good": "2", "prior_bad": "2",
        "evidence": { "job_completed": "1", "good_rating": "0.5", "bad_rating": "-1", "dispute_lost": "-3", "worker_fault": "-2" },
        "ratings": { "bad": 2, "good": 4 },
        "retained": "0.9", "period": "30days",
    } });
    Ok([
        ("steps", Policy::voxpact()?),
        ("weighted", Policy::justpayai()?),
        ("mean", Policy::agentmarket()?),
        ("beta", Policy::from_json(&beta.to_string())?),
    ])
}

// The attacks.

impl Bench {
    /// The attacker's own agents, openly of one owner, work for each other at the smallest amount.
    fn ring_of_one_owner(&mut self, contracts: u32) -> Fallible<()> {
        let owner = self.owner();
        let ring: Vec<_> = (0..5).map(|_| Party { agent: self.agent(), owner }).collect();
        let cost = self.activation(Identity::First)? + 4 * self.activation(Identity::Further)?;
        self.ring("same_owner", &ring, contracts, cost)
    }

    /// The same, with a new owner invented for each agent.
    fn ring_of_sham_owners(&mut self, contracts: u32) -> Fallible<()> {
        let ring: Vec<_> = (0..5).map(|_| self.party()).collect();
        let cost = 5 * self.activation(Identity::First)?;
        self.ring("sham_owners", &ring, contracts, cost)
    }

    /// The first of the ring works for the others, chosen at random, and is praised.
    fn ring(&mut self, variant: &str, ring: &[Party], contracts: u32, mut cost: i64) -> Fallible<()> {
        let worker = ring[0];
        let start = self.trust.begin();
        let mut record = start.clone();
        for _ in 0..contracts {
            let buyer = ring[self.random.random_range(1..ring.len())];
            let (contract, fee) = self.job(buyer, worker, &record)?;
            cost += fee;
            self.tell(worker, &mut record, Fact::completed(self.now, contract));
            self.rate(worker, &mut record, contract, self.policy.reviews.map(|reviews| reviews.rating.max));
            self.now += TimeDelta::hours(6);
        }
        let gained = record.score - start.score;
        self.print("ring", variant, &json!({ "contracts": contracts }), cost, gained);
        Ok(())
    }

    /// A worker that has cheated leaves its bad name behind.
    fn whitewashing(&mut self, failures: u32) -> Fallible<()> {
        let (worker, buyer) = (self.party(), self.party());
        let mut record = self.trust.begin();
        for _ in 0..failures {
            let (mut contract, _) = self.job(buyer, worker, &record)?;
            match self.random.random_range(0..3) {
                0 => {
                    self.tell(worker, &mut record, Fact::completed(self.now, contract));
                    self.rate(worker, &mut record, contract, self.policy.reviews.map(|reviews| reviews.rating.min));
                }
                kind => {
                    refund(&mut contract);
                    let ruled = Fact::ruled(self.now, contract, Side::Buyer, Ruling::Buyer);
                    let fact = if kind == 1 { Fact::worker_fault(self.now, contract) } else { ruled };
                    self.tell(worker, &mut record, fact);
                }
            }
            self.now += TimeDelta::hours(6);
        }
        let regained = self.trust.begin().score - record.score;
        for (variant, identity) in [("same_owner", Identity::Further), ("sham_owner", Identity::First)] {
            let cost = self.activation(identity)?;
            self.print("whitewashing", variant, &json!({ "failures": failures }), cost, regained);
        }
        Ok(())
    }

    /// A buyer disputes every one of twenty jobs of an honest worker, to harm it, under a new identity
    /// whenever the policy restricts the old one.
    fn disputes(&mut self, won_percent: u32) -> Fallible<()> {
        const JOBS: u32 = 20;
        let (worker, mut buyer) = (self.party(), self.party());
        let (mut victim, mut attacker) = (self.respected(worker)?, self.trust.begin());
        let before = victim.score;
        let (mut cost, mut identities, mut attackers_loss) = (self.activation(Identity::First)?, 1, Decimal::ZERO);
        for _ in 0..JOBS {
            let (mut contract, platform_fee) = self.job(buyer, worker, &victim)?;
            cost += self.dispute_fee(&contract)?;
            let won = self.random.random_range(0..100) < won_percent;
            let ruling = if won { Ruling::Buyer } else { Ruling::Worker };
            match won {
                true => refund(&mut contract),
                false => cost += platform_fee,
            }
            for fact in
                [Fact::filed(self.now, contract, Side::Buyer), Fact::ruled(self.now, contract, Side::Buyer, ruling)]
            {
                self.tell(worker, &mut victim, fact);
                self.tell(buyer, &mut attacker, fact);
            }
            let abuse = self.policy.disputes.as_ref().and_then(|disputes| disputes.abuse.as_ref());
            if abuse.is_some_and(|abuse| attacker.tally.client.is_restricted(abuse)) {
                attackers_loss += self.trust.begin().score - attacker.score;
                (buyer, attacker) = (self.party(), self.trust.begin());
                cost += self.activation(Identity::First)?;
                identities += 1;
            }
            self.now += TimeDelta::hours(6);
        }
        attackers_loss += self.trust.begin().score - attacker.score;
        let with = json!({
            "disputes": JOBS, "won_percent": won_percent, "identities": identities,
            "attackers_points_lost": attackers_loss.normalize(),
        });
        self.print("dispute_abuse", "harm_by_disputes", &with, cost, before - victim.score);
        Ok(())
    }

    /// Five sham owners report an honest worker.
    fn reports(&mut self) -> Fallible<()> {
        const REPORTS: i64 = 5;
        let target = self.party();
        let mut victim = self.respected(target)?;
        let before = victim.score;
        for _ in 0..REPORTS {
            let reporter = self.party();
            self.tell(target, &mut victim, Fact::of(self.now, Happening::Reported { target, reporter }));
        }
        let cost = REPORTS * self.activation(Identity::First)?;
        self.print("dispute_abuse", "harm_by_reports", &json!({ "reports": REPORTS }), cost, before - victim.score);
        Ok(())
    }
}

// What the attacks are made of.

/// Which of an owner's agents a new one is.
#[derive(Clone, Copy)]
enum Identity {
    First,
    Further,
}

impl Bench {
    fn new(model: &'static str, policy: Policy, seed: u64) -> Self {
        let trust = Trust::of(&policy);
        Self { model, policy, trust, random: StdRng::seed_from_u64(seed), now: Timestamp::UNIX_EPOCH, made: 0 }
    }

    fn id(&mut self) -> Uuid {
        self.made += 1;
        Uuid::from_u128(self.made)
    }

    fn agent(&mut self) -> AgentId {
        AgentId(self.id())
    }

    fn owner(&mut self) -> OwnerId {
        OwnerId(self.id())
    }

    fn party(&mut self) -> Party {
        Party { agent: self.agent(), owner: self.owner() }
    }

    /// A completed contract of the smallest amount, and what of it the platform keeps.
    fn job(&mut self, buyer: Party, worker: Party, record: &Record) -> Fallible<(Contract, i64)> {
        let amount = Money::new(self.policy.jobs.amount.min, self.policy.currency);
        let fees = &self.policy.fees;
        let rate = match &fees.rate {
            FeeRate::Flat(rate) => *rate,
            FeeRate::ByTier(rates) => {
                let tier = self.trust.tier(record, self.now);
                *rates.get(tier).ok_or_else(|| format!("no fee for tier {tier}"))?
            }
        };
        let fee = amount.at(rate, fees.rounding)?;
        // Who bears the fee makes no difference to somebody who is both sides, nor to trust.
        let settled = Some(Settled { amount, to_worker: amount.minus(fee)? });
        Ok((Contract { id: JobId(self.id()), buyer, worker, settled }, fee.minor()))
    }

    /// What becoming active costs, in minor units.
    fn activation(&self, identity: Identity) -> Fallible<i64> {
        Ok(match (self.policy.agents.activation, identity) {
            (Activation::Free, _) => 0,
            (Activation::Fee { first, .. }, Identity::First) => first,
            (Activation::Fee { further, .. }, Identity::Further) => further,
            (Activation::Deposit { fee, .. }, _) => fee,
        })
    }

    fn dispute_fee(&self, contract: &Contract) -> Fallible<i64> {
        let (Some(disputes), Some(settled)) = (&self.policy.disputes, contract.settled) else { return Ok(0) };
        let Some(DisputeFee { rate, limits, rounding, .. }) = disputes.fee else { return Ok(0) };
        Ok(settled.amount.at(rate, rounding)?.minor().clamp(limits.min, limits.max))
    }

    /// The record of a worker after ten jobs well done.
    fn respected(&mut self, worker: Party) -> Fallible<Record> {
        let mut record = self.trust.begin();
        for _ in 0..10 {
            let buyer = self.party();
            let (contract, _) = self.job(buyer, worker, &record)?;
            self.tell(worker, &mut record, Fact::completed(self.now, contract));
            self.rate(worker, &mut record, contract, self.policy.reviews.map(|reviews| reviews.rating.max));
            self.now += TimeDelta::hours(6);
        }
        Ok(record)
    }

    fn rate(&self, worker: Party, record: &mut Record, contract: Contract, rating: Option<u8>) {
        if let Some(rating) = rating {
            self.tell(worker, record, Fact::rated(self.now, contract, Side::Buyer, rating));
        }
    }

    /// A fact that does not count changes nothing: that is what some of the attacks find out.
    fn tell(&self, about: Party, record: &mut Record, fact: Fact) {
        if let Ok(step) = self.trust.apply(about.agent, record, &fact) {
            *record = step.record;
        }
    }

    fn print(&self, attack: &str, variant: &str, with: &Value, cost: i64, points: Decimal) {
        let scale = self.policy.trust.scale;
        let percent = (scale.max.value() - scale.min.value()) / Decimal::ONE_HUNDRED;
        let price = |unit: Decimal| {
            let price = Decimal::from(cost).checked_div(points).filter(|_| points > Decimal::ZERO)?;
            Some((price * unit).round_dp(4).normalize())
        };
        let line = json!({
            "bench": "trust",
            "model": self.model,
            "policy": self.policy.name,
            "currency": self.policy.currency.code(),
            "attack": attack,
            "variant": variant,
            "with": with,
            "cost_minor": cost,
            "points": points.normalize(),
            "minor_per_point": price(Decimal::ONE),
            "minor_per_percent": price(percent),
        });
        println!("{line}");
    }
}

fn refund(contract: &mut Contract) {
    if let Some(settled) = &mut contract.settled {
        settled.to_worker = Money::zero(settled.amount.currency());
    }
}
