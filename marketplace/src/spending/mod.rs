//! How much an agent may spend in a period, as its owner says (VP-08).
//!
//! Spending counts when money is reserved for a contract, or a rail is asked for it: the whole sum, the
//! fee included. What comes back to the buyer, because the payment failed, the job was called off or a
//! ruling says so, is given back to the period in which it was counted, and to no later one: last
//! month's refund does not raise this month's limit.
//!
//! An agent without a limit is not counted, so that its jobs do not wait for each other. When its owner sets
//! one, what its jobs of the period have reserved by then is counted first ([`Counted`]); it comes back when
//! those jobs are called off, as what was charged does. So that nothing escapes while that is added up, whatever
//! is reserved from a moment before on is charged already.

use chrono::{Datelike, Months, NaiveTime};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    error::Rejection,
    ids::{AgentId, BudgetId},
    money::Money,
    policy::{SpendingPeriod, SpendingPolicy},
    store::Kept,
};

/// An agent's limit, and what it has spent of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Its id, which follows from the agent's.
    pub id: BudgetId,
    /// Whose it is.
    pub agent: AgentId,
    /// How much may be spent.
    pub limit: SpendingLimit,
    /// When the period began in which the spending below was counted.
    pub since: Timestamp,
    /// What was counted since then and not given back.
    pub spent: Money,
    /// What of that was reserved before the limit was set, and has charged no budget. There before the limit is:
    /// then what was reserved before is being added up, and whatever is reserved meanwhile is charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
}

/// What jobs had reserved when a limit was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// When they were counted: those that were posted until then.
    pub at: Timestamp,
    /// How much of it was not given back.
    pub amount: Money,
}

/// How much may be spent in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpendingLimit {
    /// What the policy says of agents whose owners said nothing.
    Default,
    /// As much as there is.
    Unlimited,
    /// At most this.
    Most(Money),
}

/// Something that happened to a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum BudgetEvent {
    /// Another limit holds.
    #[serde(rename = "spending.limit_set")]
    LimitSet {
        /// Whose.
        agent: AgentId,
        /// Which.
        limit: SpendingLimit,
        /// What the period has been charged with so far.
        spent: Money,
    },
}

impl BudgetEvent {
    /// The event's name in the log and in webhooks.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LimitSet { .. } => "spending.limit_set",
        }
    }
}

/// A budget and the rules it is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The budget as it is written down, or a new one.
    pub budget: Budget,
    /// The newest policy's rules.
    pub policy: SpendingPolicy,
}

impl Budget {
    /// The budget of an agent about which nothing is written down yet.
    pub fn new(agent: AgentId, now: Timestamp, policy: &SpendingPolicy, none: Money) -> Self {
        let since = policy.period.start(now);
        Self { id: BudgetId::of(agent), agent, limit: SpendingLimit::Default, since, spent: none, counted: None }
    }

    /// What may be spent in a period; `None` for as much as there is.
    pub fn most(&self, policy: &SpendingPolicy) -> Option<Money> {
        match self.limit {
            SpendingLimit::Unlimited => None,
            SpendingLimit::Most(limit) => Some(limit),
            SpendingLimit::Default => policy.default_limit.map(|minor| Money::new(minor, self.spent.currency())),
        }
    }

    /// The budget at a moment: a new period begins at nothing.
    pub fn at(&self, now: Timestamp, policy: &SpendingPolicy) -> Self {
        let since = policy.period.start(now);
        match since == self.since {
            true => self.clone(),
            false => Self { since, spent: Money::zero(self.spent.currency()), counted: None, ..self.clone() },
        }
    }

    /// The budget from now on charged with whatever is reserved, without a limit yet: what was reserved before can
    /// be added up, and nothing is counted twice or not at all.
    pub(crate) fn counting(&self, now: Timestamp) -> Self {
        let counted = Some(Counted { at: now, amount: Money::zero(self.spent.currency()) });
        Self { counted, ..self.clone() }
    }

    /// What jobs were charged to it.
    fn charged(&self) -> Result<Money, Rejection> {
        Ok(match self.counted {
            Some(counted) => self.spent.minus(counted.amount)?,
            None => self.spent,
        })
    }

    /// The budget after another limit was set; `counted` is what the period has reserved and no budget was
    /// charged with, where nothing was counted until now.
    ///
    /// # Errors
    /// [`Rejection::Amount`] for a limit below nothing, or of another currency.
    pub(crate) fn with_limit(
        &self,
        limit: SpendingLimit,
        counted: Option<Counted>,
    ) -> Result<(Self, BudgetEvent), Rejection> {
        if let SpendingLimit::Most(most) = limit {
            self.spent.plus(most)?;
            if most.minor() < 0 {
                let (currency, actual) = (most.currency(), most.minor());
                return Err(Rejection::Amount { field: "spending limit", currency, min: 0, max: i64::MAX, actual });
            }
        }
        // Where there is no limit nothing is counted; whoever sets one again counts anew.
        let counted = match limit {
            SpendingLimit::Most(_) => counted.or(self.counted),
            SpendingLimit::Default | SpendingLimit::Unlimited => None,
        };
        let charged = self.charged()?;
        let spent = counted.map_or(Ok(charged), |counted| charged.plus(counted.amount))?;
        Ok((Self { limit, spent, counted, ..self.clone() }, BudgetEvent::LimitSet { agent: self.agent, limit, spent }))
    }
}

impl Kept for Budget {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn status(&self) -> &'static str {
        match self.limit {
            SpendingLimit::Default => "default",
            SpendingLimit::Unlimited => "unlimited",
            SpendingLimit::Most(_) => "limited",
        }
    }
}

impl Allowance {
    /// Whether anything is counted at a moment.
    pub fn counts(&self, now: Timestamp) -> bool {
        self.budget.most(&self.policy).is_some() || self.budget.at(now, &self.policy).counted.is_some()
    }

    /// The budget after spending, and the period that was charged; `None` where nothing is counted.
    ///
    /// # Errors
    /// [`Rejection::SpendingLimit`]
    pub(crate) fn spend(&self, needed: Money, now: Timestamp) -> Result<Option<(Budget, Timestamp)>, Rejection> {
        let budget = self.budget.at(now, &self.policy);
        let most = budget.most(&self.policy);
        if most.is_none() && budget.counted.is_none() {
            return Ok(None);
        }
        let spent = budget.spent.plus(needed)?;
        if let Some(limit) = most.filter(|limit| spent.minor() > limit.minor()) {
            let (spent, resets_at) = (budget.spent, self.policy.period.end(now));
            return Err(Rejection::SpendingLimit { limit, spent, needed, resets_at });
        }
        let since = budget.since;
        Ok(Some((Budget { spent, ..budget }, since)))
    }

    /// The budget after something came back that a period was charged with; `None` where that period is
    /// over.
    ///
    /// # Errors
    /// [`crate::money::MoneyError`] for another currency.
    pub(crate) fn give_back(&self, amount: Money, charged: Timestamp) -> Result<Option<Budget>, Rejection> {
        if self.budget.since != charged || amount.is_zero() {
            return Ok(None);
        }
        let amount = at_most(amount, self.budget.charged()?);
        Ok(Some(Budget { spent: self.budget.spent.minus(amount)?, ..self.budget.clone() }))
    }

    /// The budget after something came back that no period was charged with, of a job that was posted then;
    /// `None` where it was not counted either.
    ///
    /// # Errors
    /// [`crate::money::MoneyError`] for another currency.
    pub(crate) fn give_back_counted(&self, amount: Money, posted_at: Timestamp) -> Result<Option<Budget>, Rejection> {
        let Budget { since, spent, counted, .. } = self.budget;
        let Some(before) = counted.filter(|counted| (since..=counted.at).contains(&posted_at)) else { return Ok(None) };
        if self.budget.most(&self.policy).is_none() {
            return Ok(Some(self.budget.clone())); // whoever is adding up has to see that it is less
        }
        let amount = at_most(amount, before.amount);
        let counted = Some(Counted { amount: before.amount.minus(amount)?, ..before });
        Ok(Some(Budget { spent: spent.minus(amount)?, counted, ..self.budget.clone() }).filter(|_| !amount.is_zero()))
    }
}

/// No more than there is to give back.
fn at_most(amount: Money, most: Money) -> Money {
    if amount.minor() > most.minor() { most } else { amount }
}

impl SpendingPeriod {
    /// When the period began that a moment is in.
    pub fn start(self, now: Timestamp) -> Timestamp {
        let today = now.date_naive();
        let first = match self {
            Self::CalendarDay => today,
            Self::CalendarMonth => today.with_day(1).unwrap_or(today),
        };
        first.and_time(NaiveTime::MIN).and_utc()
    }

    /// When the next one begins.
    pub fn end(self, now: Timestamp) -> Timestamp {
        let start = self.start(now);
        match self {
            Self::CalendarDay => start + chrono::TimeDelta::days(1),
            Self::CalendarMonth => start + Months::new(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn vp_08_a_month_begins_on_the_first_in_utc() {
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
        let month = SpendingPeriod::CalendarMonth;
        let late = at("2028-02-29T23:59:59.999999Z");
        assert_eq!(month.start(late), at("2028-02-01T00:00:00Z"));
        assert_eq!(month.end(late), at("2028-03-01T00:00:00Z"));
        assert_eq!(month.end(at("2028-12-31T00:00:00Z")), at("2029-01-01T00:00:00Z"));
        assert_eq!(month.start(at("2028-03-01T00:00:00Z")), at("2028-03-01T00:00:00Z"));
        // Half past one in the night of the first in Paris is still last month.
        assert_eq!(month.start(at("2028-03-01T00:30:00+01:00")), at("2028-02-01T00:00:00Z"));
        let day = SpendingPeriod::CalendarDay;
        assert_eq!((day.start(late), day.end(late)), (at("2028-02-29T00:00:00Z"), at("2028-03-01T00:00:00Z")));
    }
}
