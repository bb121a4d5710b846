//! What can be done in somebody's name, given by the session's verb for it.

use super::wrap::WorldTransaction;
use crate::{
    agreement::{AgreementCommand, Proposal},
    dispute::{DisputeCommand, Filing},
    engine::Session,
    error::Error,
    ids::{AgentId, AgreementId, DisputeId, JobId},
    job::JobCommand,
    money::Money,
    review::Rating,
    store::Record,
    wallet::WalletCommand,
};

/// One thing that somebody does. Printed, it is what a repeated key is compared by.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    Post(JobCommand),
    Job(JobId, JobCommand),
    OpenDispute(JobId, Filing),
    Dispute(DisputeId, DisputeCommand),
    Review(JobId, Rating),
    Wallet(AgentId, WalletCommand),
    Limit(AgentId, Option<Money>),
    Propose(Box<Proposal>),
    Agreement(AgreementId, AgreementCommand),
}

/// How an embedder's transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Committed,
    RolledBack,
}

/// What a command came to after the embedder's transaction, if it was given in one: nothing if that was
/// rolled back.
pub(super) async fn ended<T>(
    within: Option<(WorldTransaction, End)>,
    given: Result<T, Error>,
) -> Result<Option<T>, Error> {
    let given = given?;
    match within {
        None => Ok(Some(given)),
        Some((_, End::RolledBack)) => Ok(None),
        Some((transaction, End::Committed)) => transaction.end().await.map(|()| Some(given)),
    }
}

/// Does it; the record that answers it.
pub(super) async fn give(session: Session<'_>, deed: Deed) -> Result<Record, Error> {
    match deed {
        Deed::Post(command) => give_job(session, JobId(uuid::Uuid::nil()), command).await,
        Deed::Job(job, command) => give_job(session, job, command).await,
        Deed::OpenDispute(job, filing) => session.open_dispute(job, filing).await.map(Record::from),
        Deed::Dispute(dispute, command) => give_dispute(session, dispute, command).await,
        Deed::Review(job, rating) => session.review(job, rating).await.map(Record::from),
        Deed::Wallet(agent, command) => {
            let given = match command {
                WalletCommand::SetAddress { address } => session.set_withdrawal_address(agent, address).await,
                WalletCommand::Withdraw { amount } => session.withdraw_money(agent, amount).await,
                WalletCommand::Panic => session.panic(agent).await,
                WalletCommand::PayOut
                | WalletCommand::RecordOutcome { .. }
                | WalletCommand::RecordAccountReady
                | WalletCommand::RecordKept { .. } => session.pay_out(agent).await,
            };
            given.map(Record::from)
        }
        Deed::Propose(proposal) => session.propose_agreement(*proposal).await.map(Record::from),
        Deed::Agreement(agreement, command) => give_agreement(session, agreement, command).await,
        Deed::Limit(agent, limit) => session.set_spending_limit(agent, limit).await.map(Record::from),
    }
}

async fn give_job(session: Session<'_>, job: JobId, command: JobCommand) -> Result<Record, Error> {
    let given = match command {
        JobCommand::Post { order, .. } => session.post_job(*order).await,
        JobCommand::RetryPayment => session.retry_payment(job).await,
        JobCommand::Accept => session.accept(job).await,
        JobCommand::Start => session.start(job).await,
        JobCommand::Deliver { delivery } => session.deliver(job, *delivery).await,
        JobCommand::RecordValidation { report } => session.record_validation(job, report.verdict).await,
        JobCommand::Approve => session.approve(job).await,
        JobCommand::RequestRevision { feedback } => session.request_revision(job, feedback).await,
        JobCommand::Cancel { reason } => session.cancel(job, reason).await,
        JobCommand::Withdraw { reason } => session.withdraw(job, reason).await,
        JobCommand::Refund { reason } => session.refund(job, reason).await,
        JobCommand::Freeze { reason } => session.freeze(job, reason).await,
        JobCommand::Unfreeze => session.unfreeze(job).await,
        JobCommand::RefundPaid { amount, reason } => session.refund_paid(job, amount, reason).await,
        // Nobody but the engine gives these.
        JobCommand::Dispute { .. }
        | JobCommand::EndDispute { .. }
        | JobCommand::Hire { .. }
        | JobCommand::Tick
        | JobCommand::RecordOutcome { .. }
        | JobCommand::RecordHoldExpired
        | JobCommand::RecordHoldSettled { .. }
        | JobCommand::RecordChargeback { .. } => session.unfreeze(job).await,
    };
    given.map(Record::from)
}

async fn give_dispute(session: Session<'_>, id: DisputeId, command: DisputeCommand) -> Result<Record, Error> {
    let given = match command {
        DisputeCommand::Answer { answer, evidence } => session.answer_dispute(id, answer, evidence).await,
        DisputeCommand::AddEvidence { evidence } => session.add_evidence(id, evidence).await,
        DisputeCommand::Offer { award } => session.offer_settlement(id, award).await,
        DisputeCommand::AcceptOffer { award } => session.accept_settlement(id, award).await,
        DisputeCommand::Appeal { reason } => session.appeal(id, reason).await,
        DisputeCommand::Escalate { reason } => session.escalate(id, reason).await,
        DisputeCommand::TakeUp => session.take_up(id).await,
        DisputeCommand::HandBack => session.hand_back(id).await,
        DisputeCommand::Rule { award, reason } => session.rule(id, award, reason).await,
        // The rest nobody but the engine gives.
        DisputeCommand::Withdraw
        | DisputeCommand::Open { .. }
        | DisputeCommand::RecordAnswer { .. }
        | DisputeCommand::Tick => session.withdraw_dispute(id).await,
    };
    given.map(Record::from)
}

async fn give_agreement(session: Session<'_>, id: AgreementId, command: AgreementCommand) -> Result<Record, Error> {
    let given = match command {
        AgreementCommand::Accept { account } => session.accept_agreement(id, account).await,
        AgreementCommand::Reject { reason, suggestion } => {
            session.reject_agreement(id, reason, suggestion.map(|suggestion| *suggestion)).await
        }
        AgreementCommand::Cancel { reason } => session.cancel_agreement(id, reason).await,
        AgreementCommand::Activate => session.activate_agreement(id).await,
        AgreementCommand::RecordUsage { calls, after } => session.record_usage(id, calls, after).await,
        AgreementCommand::SubmitReceipt { receipt } => session.submit_receipt(id, *receipt).await,
        AgreementCommand::Complete => session.complete_agreement(id).await,
        AgreementCommand::Close => session.close_agreement(id).await,
        AgreementCommand::Dispute { reason } => session.dispute_agreement(id, reason).await,
        AgreementCommand::Rule { earned, reason } => session.rule_agreement(id, earned, reason).await,
        // The rest nobody but the engine gives.
        AgreementCommand::Finalize
        | AgreementCommand::Propose { .. }
        | AgreementCommand::Tick
        | AgreementCommand::RecordOutcome { .. }
        | AgreementCommand::RecordHoldExpired
        | AgreementCommand::RecordEscrow { .. }
        | AgreementCommand::RecordChargeback { .. }
        | AgreementCommand::RecordHoldSettled { .. } => session.finalize_agreement(id).await,
    };
    given.map(Record::from)
}
