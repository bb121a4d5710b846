//! The outside world: it outlives every rail to it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::{
    script::{Answer, Chances, Course, Disorder, Ending, Lie, Script},
    signature,
    truth::Effects,
    vault::{Terms, Vault, leg_reference, reference},
};
use crate::{
    clock::Timestamp,
    ids::{AgentId, HoldId, InstructionId},
    money::{Currency, Money},
    rail::{
        Action, Capability, Chargeback, ChargebackStage, Cursor, Custody, Decline, Holdings, Instruction, Landing,
        LegReceipt, Observation, ObservationBody, Observations, Order, Outcome, Party, RailError, RailErrorKind,
        RailProfile, Receipt,
    },
};

/// How many observations a page has at most, repetitions not counted.
const PAGE: usize = 100;

/// What a [`ScriptedRail`](super::ScriptedRail) leads to: a bank or a chain in memory, with one
/// currency. Clones are the same world.
#[derive(Clone)]
pub struct OutsideWorld(Arc<Mutex<World>>);

impl OutsideWorld {
    /// An empty world. `secret` signs its pushes and draws its disorder.
    pub fn new(currency: Currency, secret: u64) -> Self {
        let world = World {
            vault: Vault::new(currency),
            secret,
            scripts: VecDeque::new(),
            otherwise: Script::default(),
            plan: None,
            reads: VecDeque::new(),
            reads_made: 0,
            disorder: Disorder::None,
            affairs: HashMap::new(),
            story: Vec::new(),
            effects: 0,
            calls: 0,
        };
        Self(Arc::new(Mutex::new(world)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("the world's lock is never held across a panic")
    }
}

impl std::fmt::Debug for OutsideWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let world = self.lock();
        f.debug_struct("OutsideWorld").field("books", &world.vault.books).finish_non_exhaustive()
    }
}

pub(super) struct World {
    pub(super) vault: Vault,
    secret: u64,
    pub(super) scripts: VecDeque<Script>,
    pub(super) otherwise: Script,
    pub(super) plan: Option<(u64, Chances)>,
    pub(super) reads: VecDeque<Answer>,
    reads_made: u32,
    pub(super) disorder: Disorder,
    affairs: HashMap<InstructionId, Affair>,
    pub(super) story: Vec<Happening>,
    effects: u64,
    pub(super) calls: u64,
}

/// All that the world knows about an instruction.
struct Affair {
    order: Order,
    state: State,
    script: Script,
    terms: Terms,
    /// How often it was executed.
    attempts: u32,
    /// How often it was looked up.
    lookups: u32,
    /// How often it took effect.
    times: u32,
}

#[derive(Clone, Copy)]
enum State {
    /// No request has arrived.
    Fresh,
    Pending(u32, Ending),
    Asking(Ending),
    Done,
    Declined(&'static str),
}

/// Something that happened, as short as it can be kept; observations are made of it when asked for.
pub(super) enum Happening {
    Ended(InstructionId),
    Deposit(AgentId, Money, String),
    Expired(HoldId),
    Charged(Chargeback),
    Ready(AgentId),
}

impl World {
    pub(super) fn execute(
        &mut self,
        profile: &RailProfile,
        instruction: &Instruction,
        now: Timestamp,
    ) -> Result<Outcome, RailError> {
        supported(profile, &instruction.order)?;
        self.pass_time(now);
        self.calls += 1;
        let id = instruction.id;
        let affair = self.affairs.entry(id).or_insert_with(|| Affair::new(&instruction.order, profile.custody));
        if affair.order != instruction.order {
            return Err(RailError::new(RailErrorKind::Refused, "this id belongs to another order"));
        }
        let rolled = self.plan.map(|(seed, chances)| chances.roll(seed, Some(id), affair.attempts));
        affair.attempts += 1;
        let fresh = matches!(affair.state, State::Fresh);
        let script = match rolled {
            _ if fresh && !self.scripts.is_empty() => self.scripts.pop_front().unwrap_or_default(),
            Some(script) => script,
            None if fresh => self.otherwise,
            None => Script::default(),
        };
        if !matches!(script.answer, Answer::LostAfter) {
            arrives(script.answer)?;
        }
        let ended = match affair.state {
            State::Fresh => {
                self.effects += 1;
                let expires_at = profile.hold_expiry.map(|expiry| now + expiry.delta());
                let Script { landing, cost, .. } = script;
                affair.terms = Terms { landing, cost, number: self.effects, expires_at, ..affair.terms };
                affair.script = script;
                affair.begin(&mut self.vault, instruction.answer.is_some())
            }
            State::Asking(ending) if instruction.answer.is_some() => affair.end(&mut self.vault, ending),
            _ => false,
        };
        if ended {
            self.story.push(Happening::Ended(id));
        }
        let outcome = affair.outcome(id);
        arrives(script.answer)?;
        Ok(outcome)
    }

    pub(super) fn lookup(
        &mut self,
        profile: &RailProfile,
        instruction: &Instruction,
        now: Timestamp,
    ) -> Result<Option<Outcome>, RailError> {
        supported(profile, &instruction.order)?;
        self.pass_time(now);
        self.calls += 1;
        let id = instruction.id;
        let Some(affair) = self.affairs.get_mut(&id) else { return self.read_fails().map(|()| None) };
        affair.lookups += 1;
        let rolled = self.plan.map(|(seed, chances)| chances.roll(seed, Some(id), !affair.lookups).answer);
        arrives(self.reads.pop_front().or(rolled).unwrap_or(Answer::Arrives))?;
        let ended = match affair.state {
            State::Fresh => return Ok(None),
            State::Pending(0 | 1, ending) => affair.end(&mut self.vault, ending),
            State::Pending(left, ending) => {
                affair.state = State::Pending(left - 1, ending);
                false
            }
            _ => false,
        };
        if ended {
            self.story.push(Happening::Ended(id));
        }
        Ok(Some(affair.outcome(id)))
    }

    /// The error of a question that is about no instruction the world knows, if it is to have one.
    pub(super) fn read_fails(&mut self) -> Result<(), RailError> {
        self.reads_made = self.reads_made.wrapping_add(1);
        let rolled = self.plan.map(|(seed, chances)| chances.roll(seed, None, self.reads_made).answer);
        arrives(self.reads.pop_front().or(rolled).unwrap_or(Answer::Arrives))
    }

    pub(super) fn page(
        &mut self,
        profile: &RailProfile,
        after: &Cursor,
        now: Timestamp,
    ) -> Result<Observations, RailError> {
        if profile.custody == Custody::Internal {
            return Err(RailError::new(RailErrorKind::Unsupported, "nothing happens outside"));
        }
        self.pass_time(now);
        let no_cursor =
            || RailError::new(RailErrorKind::Refused, format!("{:?} is not a cursor of this world", after.0));
        let from = if after.0.is_empty() { 0 } else { after.0.parse().map_err(|_| no_cursor())? };
        let to = self.story.len().min(usize::saturating_add(from, PAGE));
        if from > to {
            return Err(no_cursor());
        }
        let mut numbers: Vec<usize> = (from..to).collect();
        if self.disorder == Disorder::RepeatedAndShuffled {
            numbers.extend(from.saturating_sub(3)..(from + 2).min(to));
            numbers.shuffle(&mut StdRng::seed_from_u64(self.secret ^ from as u64));
        }
        Ok(Observations {
            items: numbers.into_iter().map(|number| self.observation(number)).collect(),
            next: Cursor(to.to_string()),
        })
    }

    fn observation(&self, number: usize) -> Observation {
        let body = match &self.story[number] {
            Happening::Ended(id) => {
                let outcome = self.affairs[id].outcome(*id);
                ObservationBody::Outcome { instruction: *id, outcome }
            }
            Happening::Deposit(agent, amount, source) => {
                ObservationBody::Deposit { agent: *agent, amount: *amount, source: source.clone() }
            }
            Happening::Expired(hold) => ObservationBody::HoldExpired { hold: *hold },
            Happening::Charged(chargeback) => ObservationBody::Chargeback(chargeback.clone()),
            Happening::Ready(agent) => ObservationBody::AccountReady { agent: *agent },
        };
        Observation { id: format!("event-{number}"), body }
    }

    pub(super) fn holdings(&mut self, profile: &RailProfile, now: Timestamp) -> Result<Holdings, RailError> {
        self.pass_time(now);
        let total = i64::try_from(self.vault.books.in_holds + self.vault.books.free)
            .map_err(|_| RailError::new(RailErrorKind::Refused, "the world holds more than 64 bits can count"))?;
        let holds = match profile.custody.is_per_hold() {
            true => self.vault.holds.iter().map(|(id, held)| (*id, held.amount)).collect(),
            false => Vec::new(),
        };
        Ok(Holdings { total: Money::new(total, self.vault.currency), holds })
    }

    pub(super) fn deposit(&mut self, agent: AgentId, amount: Money, source: String) {
        self.vault.deposit(agent, amount);
        self.story.push(Happening::Deposit(agent, amount, source));
    }

    pub(super) fn expire(&mut self, hold: HoldId) {
        if self.vault.expire(hold) {
            self.story.push(Happening::Expired(hold));
        }
    }

    pub(super) fn charge_back(&mut self, hold: HoldId, stage: ChargebackStage) -> bool {
        let told = match stage {
            ChargebackStage::Opened { .. } => self.vault.contest(hold, format!("chargeback-{}", self.story.len())),
            ChargebackStage::Won | ChargebackStage::Lost => self.vault.decide(hold, stage),
        };
        let Some((reference, amount)) = told else { return false };
        let cost = Money::zero(self.vault.currency);
        self.story.push(Happening::Charged(Chargeback { hold, reference, amount, cost, stage }));
        true
    }

    pub(super) fn repeat(&mut self, id: InstructionId) {
        if let Some(affair) = self.affairs.get_mut(&id).filter(|affair| affair.times > 0) {
            affair.times += 1;
            self.vault.repeat(&affair.order);
        }
    }

    pub(super) fn effects(&self, id: InstructionId) -> Effects {
        let Some(affair) = self.affairs.get(&id) else { return Effects { times: 0, amount: None, legs: Vec::new() } };
        let Affair { times, order, .. } = affair;
        Effects { times: *times, amount: Some(order.amount()), legs: affair.legs() }
    }

    pub(super) fn signature(&self, sent_at: &str, body: &[u8]) -> String {
        signature(self.secret, sent_at, body)
    }

    /// Gives up the holds whose time is up.
    fn pass_time(&mut self, now: Timestamp) {
        while let Some(hold) = self.vault.overdue(now) {
            self.expire(hold);
        }
    }
}

impl Affair {
    fn new(order: &Order, custody: Custody) -> Self {
        let terms = Terms { custody, landing: Landing::Outside, cost: 0, number: 0, expires_at: None };
        let (order, script) = (order.clone(), Script::default());
        Self { order, state: State::Fresh, script, terms, attempts: 0, lookups: 0, times: 0 }
    }

    /// The first request has arrived. Whether the affair is over.
    fn begin(&mut self, vault: &mut Vault, answered: bool) -> bool {
        match self.script.course {
            Course::Straight => self.end(vault, Ending::Done),
            Course::Declined => self.end(vault, Ending::Declined),
            Course::NeedsAction(ending) if answered => self.end(vault, ending),
            Course::NeedsAction(ending) => {
                self.state = State::Asking(ending);
                false
            }
            Course::Pending(lookups, ending) => {
                self.state = State::Pending(lookups, ending);
                false
            }
        }
    }

    fn end(&mut self, vault: &mut Vault, ending: Ending) -> bool {
        let carried_out = match ending {
            Ending::Done => vault.carry_out(&self.order, self.terms),
            Ending::Declined => Err("declined_by_script"),
        };
        self.times = carried_out.is_ok().into();
        self.state = carried_out.map_or_else(State::Declined, |()| State::Done);
        true
    }

    fn outcome(&self, id: InstructionId) -> Outcome {
        match self.state {
            State::Fresh | State::Pending(..) => {
                Outcome::Pending { reference: format!("pending-{}", self.terms.number) }
            }
            State::Asking(_) => Outcome::NeedsAction(Action {
                who: self.asked(),
                kind: "confirm".into(),
                payload: format!("secret-of-{id}"),
            }),
            State::Declined(code) => {
                Outcome::Declined(Decline { code: code.into(), message: format!("The world declined: {code}.") })
            }
            State::Done => Outcome::Done(self.receipt(id)),
        }
    }

    fn asked(&self) -> Party {
        match &self.order {
            Order::Fund { payer, .. } => Party::Buyer(*payer),
            Order::Settle { legs, .. } => legs.first().map_or(Party::Platform, |leg| leg.to),
            Order::Payout { agent, .. } | Order::Reverse { agent, .. } => Party::Worker(*agent),
            Order::Refund { payer, .. } => Party::Buyer(*payer),
        }
    }

    fn receipt(&self, id: InstructionId) -> Receipt {
        let amount = self.order.amount();
        let charged = self.terms.charged();
        let mut receipt = Receipt {
            instruction: id,
            reference: reference(self.terms.number),
            amount,
            legs: self.legs(),
            cost: (charged > 0).then(|| Money::new(charged.into(), amount.currency())),
            hold_expires_at: self.terms.expires_at.filter(|_| matches!(self.order, Order::Fund { .. })),
        };
        match self.script.lie {
            None => {}
            Some(Lie::Amount) => receipt.amount = Money::new(amount.minor().wrapping_add(1), amount.currency()),
            Some(Lie::Currency) => receipt.amount = Money::new(amount.minor(), another(amount.currency())),
            Some(Lie::Instruction) => receipt.instruction = InstructionId::derive(id.0, 0),
            Some(Lie::Legs) if receipt.legs.is_empty() => {
                let reference = receipt.reference.clone();
                receipt.legs.push(LegReceipt { to: Party::Platform, amount, landing: Landing::Held, reference });
            }
            Some(Lie::Legs) => receipt.legs.truncate(receipt.legs.len() - 1),
        }
        receipt
    }

    fn legs(&self) -> Vec<LegReceipt> {
        let Order::Settle { legs, .. } = &self.order else { return Vec::new() };
        let leg = |(i, leg): (usize, &crate::rail::Leg)| LegReceipt {
            to: leg.to,
            amount: leg.amount,
            landing: self.terms.landing_of(leg.to),
            reference: leg_reference(self.terms.number, i),
        };
        legs.iter().enumerate().map(leg).collect()
    }
}

fn another(currency: Currency) -> Currency {
    if currency == Currency::EUR { Currency::USDC } else { Currency::EUR }
}

/// What keeps a call from being answered.
fn arrives(answer: Answer) -> Result<(), RailError> {
    let (kind, message) = match answer {
        Answer::Arrives => return Ok(()),
        Answer::NotSent => (RailErrorKind::NotSent, "no connection"),
        Answer::Busy(wait) => (RailErrorKind::Busy(wait), "too many requests"),
        Answer::Refused => (RailErrorKind::Refused, "the key was revoked"),
        Answer::LostBefore | Answer::LostAfter => (RailErrorKind::Unknown, "no answer"),
    };
    Err(RailError::new(kind, message))
}

fn supported(profile: &RailProfile, order: &Order) -> Result<(), RailError> {
    let may = match order {
        Order::Fund { .. } => profile.custody.is_per_hold(),
        Order::Settle { legs, .. } => {
            profile.custody.is_per_hold() && (legs.len() < 2 || profile.can(Capability::Split))
        }
        Order::Payout { .. } => profile.can(Capability::Payout),
        Order::Reverse { .. } | Order::Refund { .. } => profile.can(Capability::Reverse),
    };
    match may {
        true => Ok(()),
        false => Err(RailError::new(RailErrorKind::Unsupported, "this custody has no such order")),
    }
}
