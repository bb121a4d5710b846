//! Where the world's money is, and how orders move it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    clock::Timestamp,
    ids::{AgentId, HoldId},
    money::{Currency, Money},
    rail::{ChargebackStage, Custody, Landing, Leg, Order, Party},
};

use super::truth::Books;

/// A payment whose hold was divided, as far as it can be undone.
#[derive(Default)]
pub(super) struct Divided {
    payer: Option<AgentId>,
    /// What can be given back to the payer.
    refundable: i64,
    /// What can be taken back of each leg.
    legs: BTreeMap<String, (AgentId, i64)>,
}

/// A payment that its payer's bank took back.
struct Contested {
    reference: String,
    payer: AgentId,
    minor: i64,
}

/// The world's money.
pub(super) struct Vault {
    pub(super) currency: Currency,
    pub(super) holds: BTreeMap<HoldId, Held>,
    expiries: BTreeSet<(Timestamp, HoldId)>,
    divided: BTreeMap<HoldId, Divided>,
    contested: BTreeMap<HoldId, Contested>,
    pub(super) outside: BTreeMap<AgentId, i128>,
    pub(super) platform_outside: i128,
    pub(super) books: Books,
}

/// Money held for one contract.
pub(super) struct Held {
    payer: AgentId,
    pub(super) amount: Money,
    /// The number of the effect that filled it.
    filled_by: u64,
    expires_at: Option<Timestamp>,
}

/// How an order is carried out.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) custody: Custody,
    /// Where the agents' legs land.
    pub(super) landing: Landing,
    /// In minor units.
    pub(super) cost: u32,
    /// The number of the effect.
    pub(super) number: u64,
    /// For a hold: when it is given up.
    pub(super) expires_at: Option<Timestamp>,
}

impl Terms {
    /// Where a leg lands.
    pub(super) fn landing_of(&self, to: Party) -> Landing {
        match (self.custody, to) {
            (Custody::NonCustodial, _) => Landing::Outside,
            (_, Party::Platform) => Landing::Held,
            _ => self.landing,
        }
    }

    /// What it costs; a contract that the parties signed pays nobody from their money.
    pub(super) const fn charged(&self) -> u32 {
        if matches!(self.custody, Custody::NonCustodial) { 0 } else { self.cost }
    }
}

/// The name of an effect outside.
pub(super) fn reference(number: u64) -> String {
    format!("effect-{number}")
}

/// The name of one leg of an effect.
pub(super) fn leg_reference(number: u64, leg: usize) -> String {
    format!("{}-{leg}", reference(number))
}

fn is_reference(text: &str, number: u64) -> bool {
    text.strip_prefix("effect-").and_then(|n| n.parse().ok()) == Some(number)
}

impl Vault {
    pub(super) fn new(currency: Currency) -> Self {
        Self {
            currency,
            holds: BTreeMap::new(),
            expiries: BTreeSet::new(),
            divided: BTreeMap::new(),
            contested: BTreeMap::new(),
            outside: BTreeMap::new(),
            platform_outside: 0,
            books: Books::default(),
        }
    }

    /// Carries an order out, all of it, or answers the code it is declined with.
    pub(super) fn carry_out(&mut self, order: &Order, terms: Terms) -> Result<(), &'static str> {
        let amount = order.amount();
        if amount.currency() != self.currency {
            return Err("wrong_currency");
        }
        match order {
            Order::Fund { hold, payer, .. } => self.fund(*hold, *payer, amount, terms)?,
            Order::Settle { hold, funding, legs } => self.settle(*hold, funding, legs, terms)?,
            Order::Payout { agent, .. } => self.pay_out(*agent, amount)?,
            Order::Reverse { hold, leg, agent, .. } => self.reverse(*hold, leg, *agent, amount)?,
            Order::Refund { hold, payer, .. } => self.refund(*hold, *payer, amount)?,
        }
        self.books.free -= i128::from(terms.charged());
        self.books.costs += i128::from(terms.charged());
        Ok(())
    }

    fn fund(&mut self, hold: HoldId, payer: AgentId, amount: Money, terms: Terms) -> Result<(), &'static str> {
        if self.holds.contains_key(&hold) {
            return Err("hold_exists");
        }
        let Terms { expires_at, number: filled_by, .. } = terms;
        self.expiries.extend(expires_at.map(|at| (at, hold)));
        self.holds.insert(hold, Held { payer, amount, filled_by, expires_at });
        *self.outside.entry(payer).or_default() -= i128::from(amount.minor());
        self.books.came_in += i128::from(amount.minor());
        self.books.in_holds += i128::from(amount.minor());
        Ok(())
    }

    fn settle(&mut self, hold: HoldId, funding: &str, legs: &[Leg], terms: Terms) -> Result<(), &'static str> {
        let held = self.holds.get(&hold).ok_or("no_such_hold")?;
        if !is_reference(funding, held.filled_by) {
            return Err("no_such_funding");
        }
        let sum = legs.iter().try_fold(Money::zero(self.currency), |sum, leg| sum.plus(leg.amount));
        if sum != Ok(held.amount) || legs.iter().any(|leg| !leg.amount.is_positive()) {
            return Err("legs_do_not_add_up");
        }
        if self.contested.contains_key(&hold) {
            return Err("contested");
        }
        let (expiry, payer) = (held.expires_at, held.payer);
        expiry.map(|at| self.expiries.remove(&(at, hold)));
        self.holds.remove(&hold);
        let divided = self.divided.entry(hold).or_default();
        divided.payer = Some(payer);
        for (index, leg) in legs.iter().enumerate() {
            match (leg.to, terms.landing_of(leg.to)) {
                (Party::Worker(agent), Landing::Outside) => {
                    divided.legs.insert(leg_reference(terms.number, index), (agent, leg.amount.minor()));
                    divided.refundable += leg.amount.minor();
                }
                (Party::Buyer(_), Landing::Outside) => {}
                _ => divided.refundable += leg.amount.minor(),
            }
        }
        for leg in legs {
            let minor = i128::from(leg.amount.minor());
            self.books.in_holds -= minor;
            match terms.landing_of(leg.to) {
                Landing::Held => self.books.free += minor,
                Landing::Outside => self.send(leg.to, minor),
            }
        }
        Ok(())
    }

    /// Takes back what a leg gave.
    fn reverse(&mut self, hold: HoldId, leg: &str, agent: AgentId, amount: Money) -> Result<(), &'static str> {
        let divided = self.divided.get_mut(&hold).ok_or("no_such_hold")?;
        let (whose, left) = divided.legs.get_mut(leg).ok_or("no_such_leg")?;
        if *whose != agent || *left < amount.minor() {
            return Err("insufficient_funds");
        }
        *left -= amount.minor();
        let minor = i128::from(amount.minor());
        self.send(Party::Worker(agent), -minor);
        self.books.free += minor;
        Ok(())
    }

    /// Gives the payer some back, out of what is free.
    fn refund(&mut self, hold: HoldId, payer: AgentId, amount: Money) -> Result<(), &'static str> {
        let divided = self.divided.get_mut(&hold).filter(|divided| divided.payer == Some(payer));
        let divided = divided.ok_or("no_such_hold")?;
        if divided.refundable < amount.minor() {
            return Err("already_refunded");
        }
        divided.refundable -= amount.minor();
        let minor = i128::from(amount.minor());
        self.books.free -= minor;
        self.send(Party::Buyer(payer), minor);
        Ok(())
    }

    /// The payer's bank takes the payment of a hold back, at once and from whatever there is; what it is
    /// called, and how much.
    pub(super) fn contest(&mut self, hold: HoldId, reference: String) -> Option<(String, Money)> {
        if self.contested.contains_key(&hold) {
            return None;
        }
        // What is only reserved cannot be taken back.
        let taken = self.holds.get(&hold).filter(|held| held.expires_at.is_none());
        let held = taken.map(|held| (held.payer, held.amount.minor()));
        let divided = || self.divided.get(&hold).and_then(|divided| Some((divided.payer?, divided.refundable)));
        let (payer, minor) = held.or_else(divided).filter(|(_, minor)| *minor > 0)?;
        self.contested.insert(hold, Contested { reference: reference.clone(), payer, minor });
        self.books.free -= i128::from(minor);
        self.send(Party::Buyer(payer), minor.into());
        Some((reference, Money::new(minor, self.currency)))
    }

    /// The bank has decided: who has contested the payment keeps it, or gives it back.
    pub(super) fn decide(&mut self, hold: HoldId, stage: ChargebackStage) -> Option<(String, Money)> {
        let Contested { reference, payer, minor } = self.contested.remove(&hold)?;
        let lost = stage == ChargebackStage::Lost;
        if !lost {
            self.send(Party::Buyer(payer), -i128::from(minor));
            self.books.free += i128::from(minor);
        } else if let Some(held) = self.holds.remove(&hold) {
            // It was all of it: there is no hold any more.
            held.expires_at.map(|at| self.expiries.remove(&(at, hold)));
            self.books.in_holds -= i128::from(minor);
            self.books.free += i128::from(minor);
        } else if let Some(divided) = self.divided.get_mut(&hold) {
            divided.refundable = 0;
        }
        Some((reference, Money::new(minor, self.currency)))
    }

    fn pay_out(&mut self, agent: AgentId, amount: Money) -> Result<(), &'static str> {
        let minor = i128::from(amount.minor());
        if self.books.free < minor {
            return Err("insufficient_funds");
        }
        self.books.free -= minor;
        self.send(Party::Worker(agent), minor);
        Ok(())
    }

    fn send(&mut self, to: Party, minor: i128) {
        self.books.went_out += minor;
        match to {
            Party::Buyer(agent) | Party::Worker(agent) => *self.outside.entry(agent).or_default() += minor,
            Party::Platform => self.platform_outside += minor,
        }
    }

    pub(super) fn deposit(&mut self, agent: AgentId, amount: Money) {
        let minor = i128::from(amount.minor());
        *self.outside.entry(agent).or_default() -= minor;
        self.books.came_in += minor;
        self.books.free += minor;
    }

    /// Does an order's effect again, with money from nowhere.
    pub(super) fn repeat(&mut self, order: &Order) {
        let minor = i128::from(order.amount().minor());
        match order {
            Order::Fund { payer, .. } => {
                *self.outside.entry(*payer).or_default() -= minor;
                self.books.free += minor;
            }
            Order::Settle { legs, .. } => legs.iter().for_each(|leg| self.send(leg.to, leg.amount.minor().into())),
            Order::Payout { agent, .. } => self.send(Party::Worker(*agent), minor),
            Order::Reverse { agent, .. } => self.send(Party::Worker(*agent), -minor),
            Order::Refund { payer, .. } => self.send(Party::Buyer(*payer), minor),
        }
    }

    /// Gives one hold up. Whether there was one.
    pub(super) fn expire(&mut self, hold: HoldId) -> bool {
        let Some(held) = self.holds.remove(&hold) else { return false };
        held.expires_at.map(|at| self.expiries.remove(&(at, hold)));
        let minor = i128::from(held.amount.minor());
        self.books.in_holds -= minor;
        self.send(Party::Buyer(held.payer), minor);
        true
    }

    /// The next hold whose time is up.
    pub(super) fn overdue(&self, now: Timestamp) -> Option<HoldId> {
        self.expiries.first().filter(|(at, _)| *at <= now).map(|(_, hold)| *hold)
    }
}
