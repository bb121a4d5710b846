//! Every rule of a dispute's life, as one pure function.

use super::{
    Answer, Award, Dispute, DisputeCommand, DisputeEnding, DisputeEvent, DisputeStatus, Escalation, EvidenceItem,
    Filing, Judgement, Offer, RuledBy, Ruling, Sides,
};
use crate::{
    actor::Actor,
    clock::Timestamp,
    error::Rejection,
    ids::DisputeId,
    job::{Job, JobCommand, JobStatus},
    ledger::{Account, Movement, RevenueKind, TransferKind, available},
    money::{Money, Rate},
    policy::{
        AutomatedTier, DisputeFee, DisputePolicy, EvidenceKind, FeePayer, FeeReturn, OnExpiry, Policy, Range,
        Restricted, Span, SplitRuling,
    },
    store::Kept as _,
    text,
    trust::{ClientReputation, Side},
};

/// A label's length, in characters.
const LABEL: Range<u32> = Range { min: 0, max: 200 };
/// An address's length, in characters.
const URL: Range<u32> = Range { min: 9, max: 2048 };
/// The length of a ruling's reasons, in characters.
const REASONING: Range<u32> = Range { min: 0, max: 10_000 };
/// How long an arbiter that is unavailable is left alone, at first.
const RETRY_FIRST: Span = Span::seconds(30);
/// How long at most.
const RETRY_MOST: Span = Span::seconds(900);

/// What a decision may look at besides the job, the dispute and the command.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The present moment.
    pub now: Timestamp,
    /// Who gives the command.
    pub actor: &'a Actor,
    /// The job's own policy.
    pub policy: &'a Policy,
    /// Whether the marketplace has an arbiter.
    pub arbiter: bool,
    /// What whoever opens the dispute is like to work for (JP-33).
    pub client: ClientReputation,
}

/// What a command does: plain data, written in one transaction or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The dispute as it will be.
    pub dispute: Dispute,
    /// What happened to it, in order.
    pub events: Vec<DisputeEvent>,
    /// What moves in the ledger besides the job's money: fees.
    pub movement: Movement,
    /// What the job is told in the same commit; what it refuses, the dispute does.
    pub job: Option<JobCommand>,
    /// What is kept beside it: names and texts.
    pub documents: Vec<(String, String)>,
}

/// Decides a command.
///
/// `dispute` is `None` exactly for [`DisputeCommand::Open`].
///
/// # Errors
/// The [`Rejection`] of the first rule that refuses.
pub fn decide(
    job: &Job,
    dispute: Option<&Dispute>,
    command: &DisputeCommand,
    ctx: &Context<'_>,
) -> Result<Decision, Rejection> {
    let dispute = match (dispute, command) {
        (None, DisputeCommand::Open { id, filing }) => return open(job, *id, filing, ctx),
        (Some(dispute), _) if command.legal_in().contains(&dispute.status) => dispute,
        (Some(dispute), _) => return Err(wrong_status(command, dispute.status)),
        (None, _) => return Err(Rejection::NotFound { what: "dispute", id: String::new() }),
    };
    if job.status != JobStatus::Disputed && *command != DisputeCommand::Tick {
        let allowed = vec![JobStatus::Disputed];
        return Err(Rejection::WrongStatus { command: command.name(), status: job.status, allowed });
    }
    authorize(job, dispute, command, ctx.actor)?;
    in_time(dispute, command, ctx.now)?;
    let mut draft = Draft::of(dispute.clone(), job, command.name(), ctx)?;
    match command {
        DisputeCommand::Open { .. } => return Err(wrong_status(command, dispute.status)),
        DisputeCommand::Answer { answer, evidence } => draft.answer(answer, evidence)?,
        DisputeCommand::AddEvidence { evidence } => draft.add_evidence(evidence)?,
        DisputeCommand::Offer { award } => draft.offer(*award)?,
        DisputeCommand::AcceptOffer { award } => draft.accept_offer(*award)?,
        DisputeCommand::Withdraw => draft.withdraw()?,
        DisputeCommand::Appeal { reason } => draft.appeal(reason)?,
        DisputeCommand::Escalate { reason } => {
            text::prose("reason", reason, text::REASON)?;
            draft.escalate(Escalation::Operator { reason: reason.clone() });
        }
        DisputeCommand::TakeUp => draft.take_up()?,
        DisputeCommand::HandBack => draft.hand_back()?,
        DisputeCommand::Rule { award, reason } => draft.rule(*award, reason)?,
        DisputeCommand::RecordAnswer { answer } => draft.record_answer(answer),
        DisputeCommand::Tick => draft.tick()?,
    }
    Ok(draft.finish())
}

fn wrong_status(command: &DisputeCommand, status: DisputeStatus) -> Rejection {
    Rejection::WrongDisputeStatus { command: command.name(), status, allowed: command.legal_in().to_vec() }
}

/// Who may give which command to this dispute. Who may open one is the job's rule.
fn authorize(job: &Job, dispute: &Dispute, command: &DisputeCommand, actor: &Actor) -> Result<(), Rejection> {
    let side = job.side_of(actor);
    let operator = matches!(actor, Actor::Operator(_));
    let (may, allowed) = match command {
        DisputeCommand::Open { .. }
        | DisputeCommand::AddEvidence { .. }
        | DisputeCommand::Offer { .. }
        | DisputeCommand::AcceptOffer { .. }
        | DisputeCommand::Appeal { .. } => (side.is_some(), "a party of the dispute"),
        DisputeCommand::Answer { .. } => (side == Some(dispute.respondent()), "the party that did not open it"),
        DisputeCommand::Withdraw => (side == Some(dispute.claimant), "the party that opened it"),
        DisputeCommand::Escalate { .. }
        | DisputeCommand::TakeUp
        | DisputeCommand::HandBack
        | DisputeCommand::Rule { .. } => (operator, "an operator"),
        DisputeCommand::RecordAnswer { .. } | DisputeCommand::Tick => (*actor == Actor::Timer, "a timer"),
    };
    match may {
        true => Ok(()),
        false => Err(Rejection::WrongActor { command: command.name(), allowed, actor: actor.clone() }),
    }
}

/// What time has decided stands, however late its timer fires: a ruling that nobody appealed against in
/// time is final, and an arbiter that was too slow has not spoken.
fn in_time(dispute: &Dispute, command: &DisputeCommand, now: Timestamp) -> Result<(), Rejection> {
    let last = match command {
        DisputeCommand::Appeal { .. } => dispute.deadline.into_iter().chain(dispute.hold_until).min(),
        DisputeCommand::RecordAnswer { .. } => dispute.deadline,
        _ => None,
    };
    match last.filter(|deadline| *deadline <= now) {
        Some(deadline) => Err(Rejection::TooLate { command: command.name(), deadline, now }),
        None => Ok(()),
    }
}

fn open(job: &Job, id: DisputeId, filing: &Filing, ctx: &Context<'_>) -> Result<Decision, Rejection> {
    let command = "open_dispute";
    let policy = policy_of(ctx)?;
    let (Some(by), Some(worker)) = (job.side_of(ctx.actor), job.worker) else {
        let actor = ctx.actor.clone();
        return Err(Rejection::WrongActor { command, allowed: "a party of the job", actor });
    };
    if by == Side::Buyer {
        unrestricted(command, Restricted::Dispute, policy, ctx.client)?;
    }
    check_category(policy, filing.category.as_deref())?;
    text::prose("reason", &filing.reason, policy.reason)?;
    let none = Money::zero(job.terms.amount.currency());
    let dispute = Dispute {
        id,
        job: job.id,
        buyer: job.buyer,
        worker,
        claimant: by,
        status: DisputeStatus::Answering,
        category: filing.category.clone(),
        opened_at: ctx.now,
        policy: job.policy,
        fees: Sides { buyer: none, worker: none },
        evidence: Sides { buyer: 0, worker: 0 },
        answered_at: None,
        offer: None,
        ruling: None,
        deadline: policy.answer_within.map(|within| ctx.now + within.delta()),
        ask_at: None,
        asked: 0,
        handler: None,
        overdue: false,
        hold_until: job.timers.hold_until,
        frozen_since: None,
    };
    let mut draft = Draft::of(dispute, job, command, ctx)?;
    draft.job = Some(JobCommand::Dispute { dispute: id });
    if let Some(fee) = &policy.fee {
        draft.charge(fee)?;
    }
    draft.events.push(DisputeEvent::Opened {
        job: job.id,
        buyer: job.buyer,
        worker,
        by,
        category: filing.category.clone(),
        fee: *draft.dispute.fees.of(by),
        answer_by: draft.dispute.deadline,
    });
    draft.documents.push(("reason".into(), json(&filing.reason)));
    draft.submit(by, &filing.evidence)?;
    if policy.answer_within.is_none() {
        draft.begin();
    }
    Ok(draft.finish())
}

/// Refuses an agent whom the policy restricts for disputing too much (JP-14). It lifts by itself, since
/// the reputation is looked at anew each time.
///
/// # Errors
/// [`Rejection::TooManyDisputes`]
pub(crate) fn unrestricted(
    command: &'static str,
    what: Restricted,
    policy: &DisputePolicy,
    client: ClientReputation,
) -> Result<(), Rejection> {
    match policy.abuse.as_ref().filter(|abuse| abuse.forbids.contains(&what) && client.is_restricted(abuse)) {
        Some(abuse) => Err(Rejection::TooManyDisputes {
            command,
            filed: client.filed,
            completed: client.completed,
            limit: abuse.filed,
            rate: abuse.rate,
        }),
        None => Ok(()),
    }
}

fn policy_of<'a>(ctx: &Context<'a>) -> Result<&'a DisputePolicy, Rejection> {
    ctx.policy.disputes.as_ref().ok_or(Rejection::NotOffered { what: "disputes" })
}

fn check_category(policy: &DisputePolicy, category: Option<&str>) -> Result<(), Rejection> {
    match category {
        None if policy.categories.is_empty() => Ok(()),
        None => Err(Rejection::Missing { field: "category" }),
        Some(_) if policy.categories.is_empty() => Err(Rejection::NotOffered { what: "categories of disputes" }),
        Some(category) => text::one_of("category", category, &policy.categories),
    }
}

/// A decision in the making.
struct Draft<'a> {
    dispute: Dispute,
    events: Vec<DisputeEvent>,
    movement: Movement,
    job: Option<JobCommand>,
    documents: Vec<(String, String)>,
    before: &'a Job,
    command: &'static str,
    policy: &'a DisputePolicy,
    ctx: &'a Context<'a>,
}

impl<'a> Draft<'a> {
    fn of(dispute: Dispute, before: &'a Job, command: &'static str, ctx: &'a Context<'a>) -> Result<Self, Rejection> {
        let (events, documents) = (Vec::new(), Vec::new());
        let (movement, policy) = (Movement::new(), policy_of(ctx)?);
        Ok(Self { dispute, events, movement, job: None, documents, before, command, policy, ctx })
    }

    fn finish(self) -> Decision {
        let Self { dispute, events, movement, job, documents, .. } = self;
        Decision { dispute, events, movement, job, documents }
    }

    /// The side that acts.
    fn side(&self) -> Result<Side, Rejection> {
        self.before.side_of(self.ctx.actor).ok_or_else(|| Rejection::WrongActor {
            command: self.command,
            allowed: "a party of the dispute",
            actor: self.ctx.actor.clone(),
        })
    }

    fn fee(&self, fee: &DisputeFee) -> Result<Money, Rejection> {
        let amount = self.before.terms.amount;
        let by_rate = amount.at(fee.rate, fee.rounding)?;
        Ok(Money::new(by_rate.minor().clamp(fee.limits.min, fee.limits.max), amount.currency()))
    }

    /// What opening it costs (JP-13).
    fn charge(&mut self, fee: &DisputeFee) -> Result<(), Rejection> {
        let total = self.fee(fee)?;
        let others = match fee.payer {
            FeePayer::Claimant => Money::zero(total.currency()),
            FeePayer::Both => Money::new(total.minor() / 2, total.currency()),
        };
        let own = total.minus(others)?;
        let (claimant, respondent) = (self.dispute.claimant, self.dispute.respondent());
        *self.dispute.fees.of_mut(claimant) = own;
        *self.dispute.fees.of_mut(respondent) = others;
        let (payer, debtor) = (self.dispute.agent(claimant), self.dispute.agent(respondent));
        self.movement.transfer(available(payer), REVENUE, own, TransferKind::DisputeFee)?;
        self.movement.transfer(Account::Debt(debtor), REVENUE, others, TransferKind::DisputeFee)?;
        Ok(())
    }

    fn answer(&mut self, answer: &str, evidence: &[EvidenceItem]) -> Result<(), Rejection> {
        if self.dispute.answered_at.is_some() {
            return Err(Rejection::DoneBefore { what: "the dispute was answered" });
        }
        text::prose("answer", answer, self.policy.reason)?;
        self.dispute.answered_at = Some(self.ctx.now);
        self.documents.push(("answer".into(), json(answer)));
        self.events.push(DisputeEvent::Answered {});
        self.submit(self.dispute.respondent(), evidence)?;
        if self.dispute.status == DisputeStatus::Answering {
            self.begin();
        }
        Ok(())
    }

    fn add_evidence(&mut self, evidence: &[EvidenceItem]) -> Result<(), Rejection> {
        if evidence.is_empty() {
            return Err(Rejection::Missing { field: "evidence" });
        }
        self.submit(self.side()?, evidence)
    }

    fn submit(&mut self, by: Side, evidence: &[EvidenceItem]) -> Result<(), Rejection> {
        if evidence.is_empty() {
            return Ok(());
        }
        let Some(policy) = &self.policy.evidence else { return Err(Rejection::NotOffered { what: "evidence" }) };
        let before = *self.dispute.evidence.of(by);
        let actual = evidence.len().saturating_add(before as usize);
        if actual > policy.items as usize {
            return Err(Rejection::TooMany { field: "evidence", max: policy.items, actual });
        }
        let mut number = before;
        for item in evidence {
            check_item(item, &policy.kinds, policy.length)?;
            number += 1;
            self.documents.push((evidence_name(by, number), json(item)));
        }
        *self.dispute.evidence.of_mut(by) = number;
        self.events.push(DisputeEvent::EvidenceAdded { by, items: number - before });
        Ok(())
    }

    /// The first tier that the policy has begins.
    fn begin(&mut self) {
        let now = self.ctx.now;
        match self.policy.automated {
            None => _ = self.wait_for_people(),
            Some(_) if !self.ctx.arbiter => self.escalate(Escalation::NoArbiter),
            Some(AutomatedTier { within, .. }) => {
                self.dispute.status = DisputeStatus::Arbitration;
                self.dispute.ask_at = Some(now);
                self.dispute.deadline = Some(now + within.delta());
            }
        }
    }

    fn wait_for_people(&mut self) -> Timestamp {
        let due = self.ctx.now + self.policy.human.within.delta();
        self.dispute.status = DisputeStatus::Review;
        self.dispute.deadline = Some(due);
        self.dispute.ask_at = None;
        self.dispute.overdue = false;
        due
    }

    fn escalate(&mut self, cause: Escalation) {
        let due = self.wait_for_people();
        self.events.push(DisputeEvent::Escalated { cause, due });
    }

    fn offer(&mut self, award: Award) -> Result<(), Rejection> {
        self.check_share(award)?;
        let by = self.side()?;
        self.dispute.offer = Some(Offer { by, award });
        self.events.push(DisputeEvent::SettlementOffered { by, award });
        Ok(())
    }

    fn accept_offer(&mut self, award: Award) -> Result<(), Rejection> {
        let offered = Offer { by: self.side()?.other(), award };
        if self.dispute.offer != Some(offered) {
            return Err(Rejection::NoSuchOffer);
        }
        self.end(DisputeEnding::Agreed { award })
    }

    /// Not after a ruling: who appeals and then withdraws would undo what was ruled.
    fn withdraw(&mut self) -> Result<(), Rejection> {
        match self.dispute.ruling {
            Some(_) => Err(Rejection::DoneBefore { what: "the dispute was ruled" }),
            None => self.end(DisputeEnding::Withdrawn),
        }
    }

    fn appeal(&mut self, reason: &str) -> Result<(), Rejection> {
        text::prose("reason", reason, self.policy.reason)?;
        let by = self.side()?;
        self.documents.push(("appeal".into(), json(reason)));
        self.escalate(Escalation::Appeal { by });
        Ok(())
    }

    fn take_up(&mut self) -> Result<(), Rejection> {
        self.free_for_me()?;
        if let Actor::Operator(name) = self.ctx.actor {
            self.dispute.handler = Some(name.clone());
        }
        self.events.push(DisputeEvent::TakenUp {});
        Ok(())
    }

    fn hand_back(&mut self) -> Result<(), Rejection> {
        self.free_for_me()?;
        if self.dispute.handler.take().is_some() {
            self.events.push(DisputeEvent::HandedBack {});
        }
        Ok(())
    }

    /// Who takes a dispute up is the only one to rule on it, until the service level is over: a handler
    /// who is away does not keep others from it for ever.
    fn free_for_me(&self) -> Result<(), Rejection> {
        let Some(handler) = self.dispute.handler.as_ref().filter(|_| !self.dispute.overdue) else { return Ok(()) };
        match self.ctx.actor {
            Actor::Operator(name) if name == handler => Ok(()),
            _ => Err(Rejection::TakenUp { command: self.command, handler: handler.clone() }),
        }
    }

    fn rule(&mut self, award: Award, reason: &str) -> Result<(), Rejection> {
        self.free_for_me()?;
        self.check_award(award)?;
        text::prose("reason", reason, REASONING)?;
        let name = self.ctx.actor.operator().unwrap_or_default().to_owned();
        self.record_ruling(award, RuledBy::Operator(name), reason);
        self.end(DisputeEnding::Ruled { award })
    }

    fn record_ruling(&mut self, award: Award, by: RuledBy, reason: &str) {
        let number = self.dispute.ruling.as_ref().map_or(0, |before| before.number) + 1;
        self.dispute.ruling = Some(Ruling { number, award, by, at: self.ctx.now });
        self.documents.push((ruling_name(number), json(reason)));
    }

    fn record_answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Judged(judgement) => self.judged(judgement),
            Answer::Declined => self.escalate(Escalation::Declined),
            Answer::Broken => self.escalate(Escalation::Unusable { problem: "it broke down".into() }),
            Answer::Unavailable => {
                let wait = RETRY_FIRST.as_seconds().saturating_mul(2u32.saturating_pow(self.dispute.asked));
                self.dispute.asked = self.dispute.asked.saturating_add(1);
                self.dispute.ask_at = Some(self.ctx.now + Span::seconds(wait).min(RETRY_MOST).delta());
            }
        }
    }

    fn judged(&mut self, judgement: &Judgement) {
        let Judgement { award, confidence, ref reasoning } = *judgement;
        let checked = self.check_award(award).and_then(|()| text::prose("reasoning", reasoning, REASONING));
        let Some(AutomatedTier { confidence: needed, appeal_within, .. }) = self.policy.automated else { return };
        match checked {
            Err(problem) => self.escalate(Escalation::Unusable { problem: problem.to_string() }),
            Ok(()) if confidence < needed => {
                self.documents.push(("opinion".into(), json(judgement)));
                self.escalate(Escalation::LowConfidence { confidence });
            }
            Ok(()) => {
                self.record_ruling(award, RuledBy::Arbiter { confidence }, reasoning);
                let appeal_until = self.ctx.now + appeal_within.delta();
                self.dispute.status = DisputeStatus::Ruled;
                (self.dispute.ask_at, self.dispute.offer) = (None, None);
                self.dispute.deadline = Some(appeal_until);
                self.events.push(DisputeEvent::Ruled { award, confidence, appeal_until });
            }
        }
    }

    fn tick(&mut self) -> Result<(), Rejection> {
        let now = self.ctx.now;
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        if due(self.dispute.hold_until) {
            return self.lapse();
        }
        let next = self.dispute.due_at();
        if !due(next) || !due(self.dispute.deadline) {
            return Err(Rejection::NothingDue { next: self.dispute.deadline });
        }
        match (self.dispute.status, &self.dispute.ruling) {
            (DisputeStatus::Ruled, Some(ruling)) => {
                let award = ruling.award;
                return self.end(DisputeEnding::Ruled { award });
            }
            (DisputeStatus::Answering, _) => {
                self.events.push(DisputeEvent::Unanswered {});
                self.begin();
            }
            (DisputeStatus::Review, _) => {
                self.dispute.overdue = true;
                self.events.push(DisputeEvent::Overdue {});
            }
            _ => self.escalate(Escalation::Silent),
        }
        Ok(())
    }

    /// The rail can hold the money no longer. A ruling of the automated tier is the best there is.
    fn lapse(&mut self) -> Result<(), Rejection> {
        let award = match (&self.dispute.ruling, self.policy.hold_expiry) {
            (Some(ruling), _) => ruling.award,
            (None, OnExpiry::Release) => Award::Worker,
            (None, OnExpiry::Refund) => Award::Buyer,
        };
        self.end(DisputeEnding::Lapsed { award })
    }

    /// The dispute is over, and with it most often the job.
    fn end(&mut self, ending: DisputeEnding) -> Result<(), Rejection> {
        self.dispute.close(match ending {
            DisputeEnding::Ruled { .. } => DisputeStatus::Resolved,
            DisputeEnding::Agreed { .. } => DisputeStatus::Settled,
            DisputeEnding::Lapsed { .. } => DisputeStatus::Lapsed,
            DisputeEnding::Withdrawn => DisputeStatus::Withdrawn,
        });
        self.job = Some(JobCommand::EndDispute { ending: ending.clone() });
        if let DisputeEnding::Ruled { award } = ending {
            self.return_fee(award)?;
        }
        self.events.push(DisputeEvent::Resolved { job: self.before.id, ending });
        Ok(())
    }

    fn return_fee(&mut self, award: Award) -> Result<(), Rejection> {
        let returned = self.policy.fee.is_some_and(|fee| fee.returned == FeeReturn::ToWinner);
        let Some(winner) = award.winner().filter(|_| returned) else { return Ok(()) };
        let (agent, paid) = (self.dispute.agent(winner), *self.dispute.fees.of(winner));
        self.movement.transfer(REVENUE, available(agent), paid, TransferKind::Reversal)?;
        Ok(())
    }

    /// A share that leaves something to both, as the policy divides (JP-13).
    fn check_award(&self, award: Award) -> Result<(), Rejection> {
        self.check_share(award)?;
        let Award::Split { to_worker } = award else { return Ok(()) };
        let allowed = match self.policy.split {
            SplitRuling::Any => return Ok(()),
            SplitRuling::Fixed { to_worker: fixed } if fixed == to_worker => return Ok(()),
            SplitRuling::Fixed { to_worker } => to_worker.to_string(),
            SplitRuling::Never => "none".into(),
        };
        Err(Rejection::Share { command: self.command, to_worker, allowed })
    }

    /// The parties may agree on any share.
    fn check_share(&self, award: Award) -> Result<(), Rejection> {
        match award {
            Award::Split { to_worker } if to_worker == Rate::ZERO || to_worker == Rate::ONE => {
                let allowed = "more than 0 and less than 1: the whole is an award to one side".into();
                Err(Rejection::Share { command: self.command, to_worker, allowed })
            }
            _ => Ok(()),
        }
    }
}

const REVENUE: Account = Account::Revenue(RevenueKind::Disputes);

fn check_item(item: &EvidenceItem, kinds: &[EvidenceKind], length: Range<u32>) -> Result<(), Rejection> {
    if !kinds.contains(&item.kind) {
        let allowed = kinds.iter().map(|kind| kind.as_str().into()).collect();
        return Err(Rejection::NotOneOf { field: "evidence kind", actual: item.kind.as_str().into(), allowed });
    }
    text::line("evidence label", &item.label, LABEL)?;
    match item.kind {
        EvidenceKind::Text => text::prose("evidence", &item.content, length),
        EvidenceKind::File => text::line("evidence", &item.content, length),
        EvidenceKind::Url => text::url("evidence", &item.content, URL),
    }
}

/// The document that holds a side's `number`-th item, counted from 1.
pub(crate) fn evidence_name(by: Side, number: u32) -> String {
    let side = match by {
        Side::Buyer => "buyer",
        Side::Worker => "worker",
    };
    format!("evidence/{side}/{number}")
}

/// The document that holds a ruling's reasons.
pub(crate) fn ruling_name(number: u32) -> String {
    format!("ruling/{number}")
}

/// A text as a document: every document is JSON.
fn json(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
