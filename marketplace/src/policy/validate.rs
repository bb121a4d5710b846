//! Checking a policy: each section by itself, then what sections say about each other.

use super::{
    Activation, Award, DeadlineFrom, EscrowAt, Policy, PolicyError, RegistrationWebhook, Review, Scoring, Switch,
    Verification,
    check::{At, Checked},
};
use crate::job::JobStatus;

impl Policy {
    /// Checks what types cannot: ranges the right way round, tiers that exist, terms that add up,
    /// sections that need each other.
    ///
    /// # Errors
    /// [`PolicyError::Invalid`] for the first contradiction found.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let characters = self.name.chars().count();
        if !(1..=100).contains(&characters) || self.name.chars().any(char::is_control) {
            let allowed = "allowed are 1 to 100 characters on one line";
            return Err(At::top("name").refuse(format_args!("{:?}", self.name), allowed));
        }
        self.check_sections()?;
        self.check_money_sections()?;
        self.check_between()
    }

    fn check_sections(&self) -> Checked {
        let (jobs, trust) = (&self.jobs, &self.trust);
        self.agents.check(&At::top("agents"))?;
        jobs.check(&At::top("jobs"))?;
        if let Some(reviews) = &self.reviews {
            reviews.check(&At::top("reviews"))?;
        }
        trust.check(&At::top("trust"), jobs.amount, self.reviews.map(|reviews| reviews.rating))?;
        self.fees.check(&At::top("fees"), trust)?;
        if let Some(open_jobs) = &self.open_jobs {
            open_jobs.check(&At::top("open_jobs"), jobs.amount)?;
        }
        if let Some(validation) = &self.validation {
            validation.check(&At::top("validation"), jobs.review)?;
        }
        if let Some(disputes) = &self.disputes {
            disputes.check(&At::top("disputes"))?;
        }
        if let Some(search) = &self.search {
            search.check(&At::top("search"))?;
        }
        if let Some(services) = &self.services {
            services.check(&At::top("services"), jobs.amount, jobs.deadline.allowed, trust.scale)?;
        }
        if let Some(execution) = &self.execution {
            execution.check(&At::top("execution"), jobs.deadline.allowed)?;
        }
        if let Some(messages) = &self.messages {
            messages.check(&At::top("messages"))?;
        }
        if let Some(files) = &self.files {
            files.check(&At::top("files"))?;
        }
        if let Some(reports) = &self.reports {
            reports.check(&At::top("reports"))?;
        }
        if let Some(proposals) = &self.proposals {
            proposals.check(&At::top("proposals"))?;
        }
        self.webhooks.as_ref().map_or(Ok(()), |webhooks| webhooks.check(&At::top("webhooks")))
    }

    fn check_money_sections(&self) -> Checked {
        if let Some(wallet) = &self.wallet {
            wallet.check(&At::top("wallet"))?;
        }
        if let Some(reversals) = &self.reversals {
            reversals.check(&At::top("reversals"))?;
        }
        if let Some(spending) = &self.spending {
            spending.check(&At::top("spending"))?;
        }
        if let Some(approvals) = &self.approvals {
            approvals.check(&At::top("approvals"))?;
        }
        if let Some(campaigns) = &self.campaigns {
            campaigns.check(&At::top("campaigns"), self.trust.scale)?;
        }
        self.agreements.as_ref().map_or(Ok(()), |agreements| agreements.check(&At::top("agreements")))
    }

    /// What sections say about each other.
    fn check_between(&self) -> Checked {
        let deposits = self.wallet.is_some_and(|wallet| wallet.deposits == Switch::On);
        if let (RegistrationWebhook::Pinged { .. }, None) = (self.agents.webhook, &self.webhooks) {
            return Err(At::top("agents.webhook").refuse("pinged", "allowed only with a section webhooks"));
        }
        if let (Activation::Deposit { .. }, false) = (self.agents.activation, deposits) {
            let allowed = "allowed only with a section wallet whose deposits are on";
            return Err(At::top("agents.activation").refuse("deposit", allowed));
        }
        if self.agents.grant > 0 && self.wallet.is_none() {
            let allowed = "allowed is 0 without a section wallet";
            return Err(At::top("agents.grant").refuse(self.agents.grant, allowed));
        }
        if self.campaigns.is_some() && self.wallet.is_none() {
            let allowed = "allowed only with a section wallet: a campaign's budget comes out of it";
            return Err(At::top("campaigns").refuse("present", allowed));
        }
        if let Scoring::Weighted(model) = &self.trust.scoring
            && self.reports.is_none()
            && model.reports.weight.share() > rust_decimal::Decimal::ZERO
        {
            let allowed = "allowed is 0 without a section reports";
            return Err(At::top("trust.scoring.weighted.reports.weight").refuse(model.reports.weight.share(), allowed));
        }
        for (i, by) in self.trust.verified_by.iter().enumerate() {
            let (there, allowed) = match by {
                Verification::Email => {
                    (self.agents.confirmation.is_some(), "allowed only with a section agents.confirmation")
                }
                Verification::Webhook => (
                    matches!(self.agents.webhook, RegistrationWebhook::Pinged { .. }),
                    "allowed only where agents.webhook is pinged",
                ),
                Verification::FirstDeposit => (
                    matches!(self.agents.activation, Activation::Deposit { .. }),
                    "allowed only where agents.activation is a deposit",
                ),
            };
            if !there {
                return Err(At::top("trust.verified_by").entry(i).refuse(format_args!("{by:?}"), allowed));
            }
        }
        self.check_disputes_between()?;
        self.check_open_jobs_between()
    }

    fn check_disputes_between(&self) -> Checked {
        let Some(disputes) = &self.disputes else { return Ok(()) };
        let at = At::top("disputes");
        if disputes.fee.is_some() && self.wallet.is_none() {
            return Err(at
                .field("fee")
                .refuse("present", "allowed only with a section wallet: it is taken from there"));
        }
        let i = disputes.statuses.iter().position(|status| match status {
            JobStatus::Delivered | JobStatus::RevisionRequested => self.jobs.review == Review::Nobody,
            JobStatus::Validating => self.validation.is_none(),
            _ => false,
        });
        match i {
            Some(i) => {
                let allowed = "allowed are statuses that a job has under this policy's review and validation";
                Err(at.field("statuses").entry(i).refuse(disputes.statuses[i], allowed))
            }
            None => Ok(()),
        }
    }

    fn check_open_jobs_between(&self) -> Checked {
        let Some(open_jobs) = &self.open_jobs else { return Ok(()) };
        let first_come = open_jobs.award == Award::FirstCome;
        let from_posting = self.jobs.deadline.from == DeadlineFrom::Posting;
        if first_come && from_posting && self.jobs.escrow == EscrowAt::Acceptance {
            let allowed = "allowed is acceptance when whoever accepts first has the job: it could be due before";
            return Err(At::top("jobs.deadline.from").refuse("posting", allowed));
        }
        let window = match &open_jobs.award {
            Award::Bids(bids) => Some((bids.window.default, "bids")),
            Award::Applications(applications) => Some((applications.window.default, "applications")),
            Award::FirstCome => None,
        };
        match window {
            Some((window, award)) if from_posting && window >= self.jobs.deadline.default => {
                let at = At::top("open_jobs.award").field(award).field("window.default");
                let allowed = format!("allowed is less than jobs.deadline.default, {}", self.jobs.deadline.default);
                Err(at.refuse(window, allowed))
            }
            _ => Ok(()),
        }
    }
}
