//! What the auditor checks of disputes: who may do what when, what a ruling may say, and every fee.

use super::{Auditor, of_dispute, of_job, sums::share};
use crate::{
    actor::Actor,
    clock::Timestamp,
    dispute::{
        Award, Dispute, DisputeEnding, DisputeEvent, DisputeStatus, Escalation, Judgement, NoJudgement, RuledBy,
    },
    ids::{AgentId, DisputeId},
    job::{Job, JobEvent, JobStatus},
    ledger::{Account, RevenueKind},
    money::Rate,
    policy::{Disputant, DisputePolicy, FeePayer, FeeReturn, OnExpiry, Restricted, SplitRuling},
    store::{Commit, Key, Kind, Record},
    trust::Side,
};

/// What the arbiter said of a dispute, as it said it.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Judged(Judgement),
    Declined,
    Unavailable,
    Broke,
}

impl Auditor {
    /// The disputes that are not over, oldest id first.
    pub(in crate::testkit::world) fn disputes(&self) -> impl Iterator<Item = &Dispute> {
        self.quarrels.iter().filter_map(|id| self.dispute(*id))
    }

    pub(super) fn dispute(&self, id: DisputeId) -> Option<&Dispute> {
        match self.records.get(&Key { kind: Kind::Dispute, id: id.0 }).map(|kept| &kept.record) {
            Some(Record::Dispute(dispute)) => Some(dispute),
            _ => None,
        }
    }

    /// The arbiter spoke, or broke down.
    pub(in crate::testkit::world) fn judged(
        &mut self,
        dispute: DisputeId,
        said: Option<&Result<Judgement, NoJudgement>>,
    ) {
        let said = match said {
            None => Said::Broke,
            Some(Ok(judgement)) => Said::Judged(judgement.clone()),
            Some(Err(NoJudgement::Declined { .. })) => Said::Declined,
            Some(Err(NoJudgement::Unavailable { .. })) => Said::Unavailable,
        };
        self.said.entry(dispute).or_default().push(said);
    }

    pub(super) fn dispute_written(&mut self, before: Option<&Dispute>, dispute: &Dispute, commit: &Commit) {
        let Some(policy) = self.policies.get(&dispute.policy).cloned() else {
            return self.problem(format!("dispute {} is pinned to a policy that nobody set", dispute.id));
        };
        let Some(terms) = &policy.disputes else {
            return self.problem(format!("dispute {} under a policy without", dispute.id));
        };
        let job = commit.writes.iter().find_map(|write| match &write.record {
            Record::Job(job) if job.id == dispute.job => Some((**job).clone()),
            _ => None,
        });
        let Some(job) = job.or_else(|| self.job(dispute.job).cloned()) else {
            return self.problem(format!("dispute {} about a job that does not exist", dispute.id));
        };
        let mut found = Vec::new();
        if !may_become(before.map(|before| before.status), dispute.status) {
            found.push("that does not follow".into());
        }
        match before {
            Some(before) => self.check_pinned(before, dispute, &mut found),
            None => self.check_filing(dispute, &job, terms, commit, &mut found),
        }
        let events = commit.events.iter().filter(|event| event.subject.id == dispute.id.0);
        for (event, actor) in events.filter_map(|event| Some((of_dispute(event)?, &event.actor))) {
            let step = Step { before, dispute, job: &job, terms, actor, commit };
            if let Some(problem) = step.check(event, self) {
                found.push(format!("{event:?} by {actor}: {problem}"));
            }
        }
        self.check_end(before, dispute, commit, &mut found);
        self.check_fees(before, dispute, terms, commit, &mut found);
        let stands = matches!(job.status, JobStatus::Disputed | JobStatus::Frozen);
        let ours = job.dispute.is_some_and(|disputed| disputed.id == dispute.id);
        let at_work = stands && ours;
        if !dispute.status.is_final() && !at_work {
            found.push(format!("it is open, its job is {job:?}"));
        }
        for problem in found {
            self.problem(format!("dispute {}: {problem}; before {before:?}, after {dispute:?}", dispute.id));
        }
        match dispute.status.is_final() {
            true => {
                self.quarrels.remove(&dispute.id);
                self.said.remove(&dispute.id);
            }
            false => _ = self.quarrels.insert(dispute.id),
        }
    }

    fn check_pinned(&self, before: &Dispute, dispute: &Dispute, found: &mut Vec<String>) {
        let same = before.id == dispute.id
            && before.job == dispute.job
            && (before.buyer, before.worker) == (dispute.buyer, dispute.worker)
            && before.claimant == dispute.claimant
            && before.category == dispute.category
            && before.opened_at == dispute.opened_at
            && before.policy == dispute.policy
            && before.fees == dispute.fees
            && before.evidence.buyer <= dispute.evidence.buyer
            && before.evidence.worker <= dispute.evidence.worker;
        if !same {
            found.push("what it is about was changed".into());
        }
    }

    /// Who opened it might, and it costs what the policy says.
    fn check_filing(
        &self,
        dispute: &Dispute,
        job: &Job,
        terms: &DisputePolicy,
        commit: &Commit,
        found: &mut Vec<String>,
    ) {
        let was = self.job(job.id).map(|job| job.status);
        let parties = dispute.buyer == job.buyer && Some(dispute.worker) == job.worker && dispute.policy == job.policy;
        let may = terms.by == Disputant::Either || dispute.claimant == Side::Buyer;
        if !parties || !may || was.is_none_or(|was| !terms.statuses.contains(&was)) {
            found.push(format!("a job that was {was:?} could not be disputed so"));
        }
        let word = dispute.category.as_ref().map(|category| terms.categories.contains(category));
        if word != (!terms.categories.is_empty()).then_some(true) {
            found.push("its category is none".into());
        }
        if dispute.claimant == Side::Buyer && self.is_restricted(dispute.buyer, Restricted::Dispute, terms) {
            found.push("who disputes too much disputed again".into());
        }
        let amount = i128::from(job.terms.amount.minor());
        let (claimants, others) = match &terms.fee {
            None => (0, 0),
            Some(fee) => {
                let limits = (i128::from(fee.limits.min), i128::from(fee.limits.max));
                let total = share(amount, fee.rate, fee.rounding).max(limits.0).min(limits.1);
                let others = if fee.payer == FeePayer::Both { total / 2 } else { 0 };
                (total - others, others)
            }
        };
        let paid = |side| i128::from(dispute.fees.of(side).minor());
        if (paid(dispute.claimant), paid(dispute.respondent())) != (claimants, others) {
            found.push(format!("it costs {claimants} and {others}"));
        }
        if !commit.events.iter().any(|event| matches!(of_dispute(event), Some(DisputeEvent::Opened { .. }))) {
            found.push("nobody was told".into());
        }
    }

    /// Whether a buyer may not do this any more, if what is known of it has stood since the task began.
    pub(super) fn is_restricted(&self, buyer: AgentId, what: Restricted, terms: &DisputePolicy) -> bool {
        let Some(abuse) = terms.abuse.as_ref().filter(|abuse| abuse.forbids.contains(&what)) else { return false };
        let Some(kept) = self.records.get(&Key { kind: Kind::Reputation, id: buyer.0 }) else { return false };
        let Record::Reputation(reputation) = &kept.record else { return false };
        let client = reputation.record.tally.client;
        let all = i128::from(client.filed) + i128::from(client.completed);
        let (parts, whole) = (abuse.rate.share().mantissa(), 10i128.pow(abuse.rate.share().scale()));
        kept.at <= self.began
            && client.filed >= u64::from(abuse.filed)
            && i128::from(client.filed) * whole >= parts * all
    }

    /// A dispute ends in the same commit as its part of the job's story.
    fn check_end(&self, before: Option<&Dispute>, dispute: &Dispute, commit: &Commit, found: &mut Vec<String>) {
        let of_its_job = commit.events.iter().filter(|event| event.subject.id == dispute.job.0);
        let told = of_its_job.filter_map(of_job).find_map(|event| match event {
            JobEvent::DisputeEnded { dispute: id, ending } if *id == dispute.id => Some(ending),
            _ => None,
        });
        let ended = commit.events.iter().filter_map(of_dispute).find_map(|event| match event {
            DisputeEvent::Resolved { ending, .. } => Some(ending),
            _ => None,
        });
        let lapsed = commit.events.iter().any(|event| matches!(of_dispute(event), Some(DisputeEvent::Lapsed { .. })));
        let over = dispute.status.is_final() && before.is_some_and(|before| !before.status.is_final());
        if told != ended || (ended.is_some() || lapsed) != over || (ended.is_some() && lapsed) {
            found.push(format!("it ended as {ended:?}, the job was told {told:?}"));
        }
        let status = ended.map(|ending| match ending {
            DisputeEnding::Ruled { .. } => DisputeStatus::Resolved,
            DisputeEnding::Agreed { .. } => DisputeStatus::Settled,
            DisputeEnding::Lapsed { .. } => DisputeStatus::Lapsed,
            DisputeEnding::Withdrawn => DisputeStatus::Withdrawn,
        });
        if status.is_some_and(|status| status != dispute.status) {
            found.push(format!("it ended as {ended:?}"));
        }
    }

    /// Every unit that is paid for disputes, or given back.
    fn check_fees(
        &self,
        before: Option<&Dispute>,
        dispute: &Dispute,
        terms: &DisputePolicy,
        commit: &Commit,
        found: &mut Vec<String>,
    ) {
        let (claimant, respondent) = (dispute.agent(dispute.claimant), dispute.agent(dispute.respondent()));
        let paid = |side| i128::from(dispute.fees.of(side).minor());
        let mut due = Vec::new();
        if before.is_none() {
            due.push((Account::Available(claimant), FEES, paid(dispute.claimant)));
            due.push((Account::Debt(respondent), FEES, paid(dispute.respondent())));
        }
        for event in commit.events.iter().filter_map(of_dispute) {
            let DisputeEvent::Resolved { ending: DisputeEnding::Ruled { award }, .. } = event else { continue };
            let winner = match award {
                Award::Buyer => Side::Buyer,
                Award::Worker => Side::Worker,
                Award::Split { .. } => continue,
            };
            if terms.fee.is_some_and(|fee| fee.returned == FeeReturn::ToWinner) {
                due.push((FEES, Account::Available(dispute.agent(winner)), paid(winner)));
            }
        }
        due.retain(|(_, _, minor)| *minor > 0);
        let moved: Vec<_> = commit
            .movement
            .transfers()
            .iter()
            .filter(|transfer| transfer.debit() == FEES || transfer.credit() == FEES)
            .map(|transfer| (transfer.debit(), transfer.credit(), i128::from(transfer.amount().minor())))
            .collect();
        if moved != due {
            found.push(format!("fees {moved:?} were moved, due are {due:?}"));
        }
    }
}

const FEES: Account = Account::Revenue(RevenueKind::Disputes);

/// One event of a dispute and what it is judged by.
struct Step<'a> {
    before: Option<&'a Dispute>,
    dispute: &'a Dispute,
    job: &'a Job,
    terms: &'a DisputePolicy,
    actor: &'a Actor,
    commit: &'a Commit,
}

impl Step<'_> {
    fn side(&self) -> Option<Side> {
        match self.actor.agent() {
            Some(agent) if agent == self.dispute.buyer => Some(Side::Buyer),
            Some(agent) if agent == self.dispute.worker => Some(Side::Worker),
            _ => None,
        }
    }

    fn is_over(&self, at: Option<Timestamp>) -> bool {
        at.is_some_and(|at| at <= self.commit.at)
    }

    /// What is wrong with it, if something is.
    fn check(&self, event: &DisputeEvent, auditor: &Auditor) -> Option<String> {
        let (dispute, actor) = (self.dispute, self.actor);
        let fine = match (event, self.before) {
            (DisputeEvent::Opened { by, .. }, None) => self.side() == Some(*by) && *by == dispute.claimant,
            (DisputeEvent::EvidenceAdded { by, items }, before) => {
                let known = before.map_or(0, |before| *before.evidence.of(*by));
                let most = self.terms.evidence.as_ref().map_or(0, |evidence| evidence.items);
                let total = *dispute.evidence.of(*by);
                self.side() == Some(*by) && known + items == total && total <= most
            }
            (_, None) => matches!(event, DisputeEvent::Escalated { cause: Escalation::NoArbiter, .. }),
            (DisputeEvent::Answered {}, Some(before)) => {
                self.side() == Some(dispute.respondent()) && before.answered_at.is_none()
            }
            (DisputeEvent::Unanswered {}, Some(before)) => {
                *actor == Actor::Timer
                    && before.status == DisputeStatus::Answering
                    && before.answered_at.is_none()
                    && self.is_over(before.deadline)
            }
            (DisputeEvent::SettlementOffered { by, award }, Some(before)) => {
                self.side() == Some(*by) && before.status != DisputeStatus::Ruled && leaves_both_something(award)
            }
            (DisputeEvent::Ruled { award, confidence, appeal_until }, Some(before)) => {
                self.ruled(before, *award, *confidence, *appeal_until, auditor)
            }
            (DisputeEvent::Escalated { cause, due }, Some(before)) => {
                let within = self.terms.human.within.delta();
                *due == self.commit.at + within && self.escalated(before, cause, auditor)
            }
            (DisputeEvent::TakenUp {}, Some(before)) => {
                self.may_handle(before) && dispute.handler.as_deref() == actor.operator()
            }
            (DisputeEvent::HandedBack {}, Some(before)) => self.may_handle(before) && dispute.handler.is_none(),
            (DisputeEvent::Overdue {}, Some(before)) => {
                *actor == Actor::Timer && before.status == DisputeStatus::Review && self.is_over(before.deadline)
            }
            (DisputeEvent::Resolved { ending, .. }, Some(before)) => self.resolved(before, ending),
            (DisputeEvent::Lapsed { .. }, Some(_)) => self.job.status.is_final(),
            (DisputeEvent::Opened { .. }, Some(_)) => false,
        };
        (!fine).then(|| "it may not be so".into())
    }

    /// The automated tier rules in its time, sure enough, and as it said.
    fn ruled(
        &self,
        before: &Dispute,
        award: Award,
        confidence: Rate,
        appeal_until: Timestamp,
        auditor: &Auditor,
    ) -> bool {
        let said = |said: &Said| matches!(said, Said::Judged(j) if j.award == award && j.confidence == confidence);
        self.terms.automated.is_some_and(|tier| {
            *self.actor == Actor::Timer
                && before.status == DisputeStatus::Arbitration
                && !self.is_over(before.deadline)
                && confidence.share() >= tier.confidence.share()
                && self.allows(&award)
                && appeal_until == self.commit.at + tier.appeal_within.delta()
                && auditor.has_said(self.dispute.id, said)
        })
    }

    fn escalated(&self, before: &Dispute, cause: &Escalation, auditor: &Auditor) -> bool {
        let judging = before.status == DisputeStatus::Arbitration && *self.actor == Actor::Timer;
        let said = |check: &dyn Fn(&Said) -> bool| judging && auditor.has_said(self.dispute.id, check);
        match cause {
            Escalation::NoArbiter => self.terms.automated.is_some() && before.status == DisputeStatus::Answering,
            Escalation::Appeal { by } => {
                self.side() == Some(*by)
                    && before.status == DisputeStatus::Ruled
                    && !self.is_over(before.deadline)
                    && !self.is_over(before.hold_until)
            }
            Escalation::Operator { .. } => matches!(self.actor, Actor::Operator(_)),
            Escalation::Silent => judging && self.is_over(before.deadline),
            Escalation::Declined => said(&|said| matches!(said, Said::Declined)),
            Escalation::LowConfidence { confidence } => {
                let least = self.terms.automated.map(|tier| tier.confidence.share());
                least.is_some_and(|least| confidence.share() < least)
                    && said(&|said| matches!(said, Said::Judged(j) if j.confidence == *confidence))
            }
            Escalation::Unusable { .. } => said(&|said| match said {
                Said::Broke => true,
                Said::Judged(judgement) => !self.allows(&judgement.award) || !readable(&judgement.reasoning),
                _ => false,
            }),
        }
    }

    fn resolved(&self, before: &Dispute, ending: &DisputeEnding) -> bool {
        use DisputeStatus::{Answering, Arbitration, Review, Ruled};
        let open = matches!(before.status, Answering | Arbitration | Review);
        match ending {
            DisputeEnding::Ruled { award } if before.status == Ruled => {
                *self.actor == Actor::Timer
                    && self.is_over(before.deadline)
                    && before.ruling.as_ref().is_some_and(|ruling| ruling.award == *award)
            }
            DisputeEnding::Ruled { award } => {
                let signed = self.dispute.ruling.as_ref().is_some_and(|ruling| {
                    let by = matches!(&ruling.by, RuledBy::Operator(name) if Some(&**name) == self.actor.operator());
                    by && ruling.award == *award && ruling.at == self.commit.at
                });
                before.status == Review && self.may_handle(before) && self.allows(award) && signed
            }
            DisputeEnding::Agreed { award } => {
                let offered = before.offer.map(|offer| (offer.by.other(), offer.award));
                open && offered.is_some_and(|(to, offered)| Some(to) == self.side() && offered == *award)
            }
            DisputeEnding::Lapsed { award } => {
                let otherwise = match self.terms.hold_expiry {
                    OnExpiry::Release => Award::Worker,
                    OnExpiry::Refund => Award::Buyer,
                };
                let due = before.ruling.as_ref().map_or(otherwise, |ruling| ruling.award);
                *self.actor == Actor::Timer && self.is_over(before.hold_until) && *award == due
            }
            DisputeEnding::Withdrawn => open && before.ruling.is_none() && self.side() == Some(before.claimant),
        }
    }

    /// Who has taken it up is the only operator for it, until it is overdue.
    fn may_handle(&self, before: &Dispute) -> bool {
        let free = before
            .handler
            .as_deref()
            .filter(|_| !before.overdue)
            .is_none_or(|handler| self.actor.operator() == Some(handler));
        before.status == DisputeStatus::Review && self.actor.operator().is_some() && free
    }

    /// What a ruling may say.
    fn allows(&self, award: &Award) -> bool {
        let Award::Split { to_worker } = award else { return true };
        leaves_both_something(award)
            && match self.terms.split {
                SplitRuling::Never => false,
                SplitRuling::Fixed { to_worker: fixed } => fixed == *to_worker,
                SplitRuling::Any => true,
            }
    }
}

impl Auditor {
    fn has_said(&self, dispute: DisputeId, check: impl Fn(&Said) -> bool) -> bool {
        self.said.get(&dispute).is_some_and(|said| said.iter().any(check))
    }
}

/// Who gets what by an ending, if anything is divided.
pub(super) const fn award_of(ending: &DisputeEnding) -> Option<Award> {
    match ending {
        DisputeEnding::Ruled { award } | DisputeEnding::Agreed { award } | DisputeEnding::Lapsed { award } => {
            Some(*award)
        }
        DisputeEnding::Withdrawn => None,
    }
}

fn leaves_both_something(award: &Award) -> bool {
    !matches!(award, Award::Split { to_worker } if *to_worker == Rate::ZERO || *to_worker == Rate::ONE)
}

/// What the world's arbiter writes when it writes something that may be written.
fn readable(reasoning: &str) -> bool {
    reasoning.len() <= 10_000 && reasoning.is_ascii()
}

/// Where a dispute may go from where it is, in one commit.
fn may_become(from: Option<DisputeStatus>, to: DisputeStatus) -> bool {
    use DisputeStatus::{Answering, Arbitration, Lapsed, Resolved, Review, Ruled, Settled, Withdrawn};
    let Some(from) = from else { return matches!(to, Answering | Arbitration | Review) };
    match from {
        Answering => matches!(to, Answering | Arbitration | Review | Settled | Withdrawn | Lapsed),
        Arbitration => matches!(to, Arbitration | Ruled | Review | Settled | Withdrawn | Lapsed),
        Review => matches!(to, Review | Resolved | Settled | Withdrawn | Lapsed),
        Ruled => matches!(to, Ruled | Review | Resolved | Lapsed),
        Resolved | Settled | Withdrawn | Lapsed => false,
    }
}
