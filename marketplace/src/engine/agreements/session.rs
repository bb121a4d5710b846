//! The commands to agreements, in somebody's name.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    agreement::{
        Agreement, AgreementCommand, Proposal, Suggestion,
        chain::{Call, Hash},
        receipt::SignedReceipt,
    },
    engine::Session,
    error::Error,
    ids::AgreementId,
    money::Money,
};

impl Session<'_> {
    /// Proposes a usage agreement, as its buyer (PG-02).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn propose_agreement(self, proposal: Proposal) -> Result<Arc<Agreement>, Error> {
        let proposal = Box::new(proposal);
        self.agree(None, AgreementCommand::Propose { id: AgreementId(Uuid::nil()), proposal }).await
    }

    /// Accepts a proposal, as its seller, naming the seller's own account on the rail where it needs one
    /// (PG-03).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn accept_agreement(
        self,
        agreement: AgreementId,
        account: Option<String>,
    ) -> Result<Arc<Agreement>, Error> {
        self.agree(Some(agreement), AgreementCommand::Accept { account }).await
    }

    /// Rejects a proposal, as its seller, perhaps with what would do instead (PG-03).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn reject_agreement(
        self,
        agreement: AgreementId,
        reason: impl Into<String>,
        suggestion: Option<Suggestion>,
    ) -> Result<Arc<Agreement>, Error> {
        let (reason, suggestion) = (reason.into(), suggestion.map(Box::new));
        self.agree(Some(agreement), AgreementCommand::Reject { reason, suggestion }).await
    }

    /// Takes a proposal back before it is accepted, as its buyer (PG-03).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn cancel_agreement(
        self,
        agreement: AgreementId,
        reason: impl Into<String>,
    ) -> Result<Arc<Agreement>, Error> {
        self.agree(Some(agreement), AgreementCommand::Cancel { reason: reason.into() }).await
    }

    /// Has the money of an accepted agreement reserved, as its buyer; again after a decline (PG-04). Where
    /// the answer's status is still `accepted`, the rail is at it: see `activation` (PG-05).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn activate_agreement(self, agreement: AgreementId) -> Result<Arc<Agreement>, Error> {
        self.agree(Some(agreement), AgreementCommand::Activate).await
    }

    /// Records calls, as the seller or as the operator who meters (PG-07). `after` is the last call that
    /// was recorded before, as far as the caller knows: if there is another by now, nothing is recorded.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn record_usage(
        self,
        agreement: AgreementId,
        calls: Vec<Call>,
        after: Option<Hash>,
    ) -> Result<Arc<Agreement>, Error> {
        self.agree(Some(agreement), AgreementCommand::RecordUsage { calls, after }).await
    }

    /// Hands in a receipt, as a party or an operator: the one of most units counts (PG-19).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn submit_receipt(self, agreement: AgreementId, receipt: SignedReceipt) -> Result<Arc<Agreement>, Error> {
        let receipt = Box::new(receipt);
        self.agree(Some(agreement), AgreementCommand::SubmitReceipt { receipt }).await
    }

    /// Lets the seller have what was used, at once, as the buyer (PG-07).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn complete_agreement(self, agreement: AgreementId) -> Result<Arc<Agreement>, Error> {
        self.agree(Some(agreement), AgreementCommand::Complete).await
    }

    /// Starts the challenge window, as either party (PG-09).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn close_agreement(self, agreement: AgreementId) -> Result<Arc<Agreement>, Error> {
        self.agree(Some(agreement), AgreementCommand::Close).await
    }

    /// Has what time made final carried out, as either party, without waiting for the platform's workers
    /// (PG-09).
    ///
    /// # Errors
    /// [`Error`]; [`Rejection::NotFinal`](crate::error::Rejection::NotFinal)
    pub async fn finalize_agreement(self, agreement: AgreementId) -> Result<Arc<Agreement>, Error> {
        self.agree(Some(agreement), AgreementCommand::Finalize).await
    }

    /// Disputes what is recorded or received, as either party.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn dispute_agreement(
        self,
        agreement: AgreementId,
        reason: impl Into<String>,
    ) -> Result<Arc<Agreement>, Error> {
        self.agree(Some(agreement), AgreementCommand::Dispute { reason: reason.into() }).await
    }

    /// Decides a dispute, as an operator: what the seller has earned, before the fee.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn rule_agreement(
        self,
        agreement: AgreementId,
        earned: Money,
        reason: impl Into<String>,
    ) -> Result<Arc<Agreement>, Error> {
        self.agree(Some(agreement), AgreementCommand::Rule { earned, reason: reason.into() }).await
    }

    async fn agree(self, id: Option<AgreementId>, command: AgreementCommand) -> Result<Arc<Agreement>, Error> {
        self.market.command_agreement(id, command, self.call()).await
    }
}
