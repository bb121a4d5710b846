//! What the people of a world do when they disagree: dispute, argue, offer, rule, appeal, and rate each
//! other; and now and then what nobody should.

use rand::{Rng, seq::IndexedRandom};

use super::{World, deed::Deed, player::Task};
use crate::{
    actor::Actor,
    dispute::{Award, Dispute, DisputeCommand, DisputeStatus, EvidenceItem, Filing},
    engine::Marketplace,
    ids::JobId,
    job::{Job, JobStatus},
    money::Rate,
    policy::{EvidenceKind, Policy, SplitRuling},
    review::Rating,
    trust::Side,
};

impl World {
    /// Something about a dispute, or a new one; now and then a review.
    pub(super) fn quarrel(&mut self, market: Marketplace, task: &mut Task) -> (String, Option<String>) {
        let disputes: Vec<Dispute> = self.stage.act().auditor.disputes().cloned().collect();
        let step = match (disputes.choose(&mut self.rng).cloned(), self.rng.random_range(0..10)) {
            (_, 0) => self.rate(),
            (Some(dispute), 1..8) => Some(self.argue(&dispute)),
            _ => self.complain(),
        };
        let Some((actor, deed)) = step else { return self.command(market, task) };
        self.act_on(market, actor, deed, task)
    }

    /// A party of a job that may be disputed disputes it.
    fn complain(&mut self) -> Option<(Actor, Deed)> {
        let jobs: Vec<Job> = {
            let auditor = &self.stage.act().auditor;
            let may = |job: &&Job| {
                let disputes = auditor.policy(job.policy).and_then(|policy| policy.disputes.as_ref());
                disputes.is_some_and(|disputes| disputes.statuses.contains(&job.status))
            };
            auditor.open.iter().filter_map(|id| auditor.job(*id)).filter(may).cloned().collect()
        };
        let job = jobs.choose(&mut self.rng)?.clone();
        let policy = self.stage.act().auditor.policy(job.policy).cloned()?;
        let disputes = policy.disputes.as_ref()?;
        let mut filing = Filing {
            category: disputes.categories.choose(&mut self.rng).cloned(),
            reason: "It is not what was agreed upon.".into(),
            evidence: Vec::new(),
        };
        match self.rng.random_range(0..20) {
            0 => filing.reason = "\u{202e}".into(),
            1 => filing.reason = "x".repeat(disputes.reason.max as usize + 1),
            2 => filing.category = Some("weather".into()),
            3..8 => filing.evidence = self.evidence(&policy),
            _ => {}
        }
        let actor = match (self.rng.random_range(0..5), job.worker) {
            (0..2, Some(worker)) => Actor::Agent(worker),
            _ => Actor::Agent(job.buyer),
        };
        Some((actor, Deed::OpenDispute(job.id, filing)))
    }

    /// The next thing in a dispute: most often what is due.
    fn argue(&mut self, dispute: &Dispute) -> (Actor, Deed) {
        let policy = self.stage.act().auditor.policy(dispute.policy).cloned().unwrap_or_else(|| self.policy.clone());
        let side = if self.rng.random() { Side::Buyer } else { Side::Worker };
        let party = Actor::Agent(dispute.agent(side));
        let other = Actor::Agent(dispute.agent(dispute.respondent()));
        let clerk = Actor::Operator(if self.rng.random() { "Olga" } else { "Omar" }.into());
        let reason = || "so it seems to me".to_owned();
        let answer = |evidence| DisputeCommand::Answer { answer: "That is not how it was.".into(), evidence };
        let (actor, command) = match (dispute.status, self.rng.random_range(0..100)) {
            (_, 0..4) => (clerk, DisputeCommand::Escalate { reason: reason() }),
            (_, 4..12) => (party, DisputeCommand::AddEvidence { evidence: self.evidence(&policy) }),
            (_, 12..22) => (party, DisputeCommand::Offer { award: self.award(&policy, true) }),
            (_, 22..30) => match dispute.offer {
                Some(offer) => {
                    let award = if self.rng.random_range(0..6) == 0 { self.award(&policy, true) } else { offer.award };
                    (Actor::Agent(dispute.agent(offer.by.other())), DisputeCommand::AcceptOffer { award })
                }
                None => (party, DisputeCommand::Offer { award: self.award(&policy, true) }),
            },
            (_, 30..34) => (Actor::Agent(dispute.agent(dispute.claimant)), DisputeCommand::Withdraw),
            (_, 34..37) => (party, DisputeCommand::Appeal { reason: reason() }),
            (_, 37..40) => (clerk, DisputeCommand::Rule { award: self.award(&policy, false), reason: reason() }),
            (DisputeStatus::Answering | DisputeStatus::Arbitration, _) if dispute.answered_at.is_none() => {
                let evidence = if self.rng.random() { self.evidence(&policy) } else { Vec::new() };
                (other, answer(evidence))
            }
            (DisputeStatus::Review, 40..55) => (clerk, DisputeCommand::TakeUp),
            (DisputeStatus::Review, 55..60) => (clerk, DisputeCommand::HandBack),
            (DisputeStatus::Review, _) => {
                (clerk, DisputeCommand::Rule { award: self.award(&policy, false), reason: reason() })
            }
            (DisputeStatus::Ruled, 40..60) => (party, DisputeCommand::Appeal { reason: reason() }),
            _ => (party, answer(Vec::new())),
        };
        (actor, Deed::Dispute(dispute.id, command))
    }

    /// Somebody rates the other party of a job, most often one that is done.
    fn rate(&mut self) -> Option<(Actor, Deed)> {
        let jobs: Vec<(JobId, Job)> = {
            let auditor = &self.stage.act().auditor;
            let last = auditor.jobs.iter().rev().take(60);
            let done = last.filter_map(|id| Some((*id, auditor.job(*id)?)));
            done.filter(|(_, job)| job.status == JobStatus::Completed).map(|(id, job)| (id, job.clone())).collect()
        };
        let (id, job) = jobs.choose(&mut self.rng)?.clone();
        let reviews = self.plan.policy.reviews?;
        let by = match (job.worker, self.rng.random()) {
            (Some(worker), true) => worker,
            _ => job.buyer,
        };
        let rating = match self.rng.random_range(0..12) {
            0 => reviews.rating.max.saturating_add(1),
            _ => self.rng.random_range(reviews.rating.min..=reviews.rating.max),
        };
        Some((Actor::Agent(by), Deed::Review(id, Rating { rating, comment: String::new(), tags: Vec::new() })))
    }

    /// What shows it, mostly of a kind that the policy takes.
    fn evidence(&mut self, policy: &Policy) -> Vec<EvidenceItem> {
        let kinds = policy.disputes.as_ref().and_then(|disputes| disputes.evidence.as_ref());
        let kinds = kinds.map_or_else(|| vec![EvidenceKind::Text], |evidence| evidence.kinds.clone());
        let many = if self.rng.random_range(0..12) == 0 { 21 } else { self.rng.random_range(1..3) };
        let mut items = Vec::new();
        for _ in 0..many {
            let kind = kinds.choose(&mut self.rng).copied().unwrap_or(EvidenceKind::Text);
            let content = match (kind, self.rng.random_range(0..10)) {
                (EvidenceKind::Url, 0) => "ftp://example.org",
                (EvidenceKind::Url, _) => "https://example.org/proof",
                _ => "a picture of it",
            };
            items.push(EvidenceItem { kind, label: "look".into(), content: content.into() });
        }
        items
    }

    /// A share of the money; the parties may agree on what no ruling may say.
    pub(super) fn award(&mut self, policy: &Policy, agreed: bool) -> Award {
        let split = policy.disputes.as_ref().map(|disputes| disputes.split);
        let draw = self.rng.random_range(0..20);
        match (draw, split) {
            (0..5, _) => Award::Buyer,
            (5..10, _) => Award::Worker,
            (10, _) => Award::Split { to_worker: if self.rng.random() { Rate::ZERO } else { Rate::ONE } },
            (11..18, Some(SplitRuling::Fixed { to_worker })) if !agreed => Award::Split { to_worker },
            _ => {
                let share = rust_decimal::Decimal::new(self.rng.random_range(1..1_000_000_000), 9);
                Award::Split { to_worker: Rate::new(share).unwrap_or(Rate::ZERO) }
            }
        }
    }
}
