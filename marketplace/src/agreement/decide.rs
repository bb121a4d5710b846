//! Every rule of an agreement's life, as one pure function.

use super::{
    ActivationStatus, Agreement, AgreementCommand, AgreementEvent, AgreementStatus, AgreementTerms, CloseCause,
    ExpiryCause, Proposal, SettlementStatus, Suggestion, Timers, Usage,
    chain::{self, Call, CallProof, Hash},
    receipt::{ReceiptSigner, ReceiptVerifiers, SignedReceipt},
};
use crate::{
    actor::Actor,
    clock::Timestamp,
    error::Rejection,
    hold::{CONTESTED, Hold, Returns, Spendable, pays_a_worker},
    ids::AgreementId,
    ledger::Movement,
    money::{Money, Rate},
    policy::{AgreementPolicy, Bearer, Choice, Policy, PolicyVersion, Presence, Range, Screening, Span},
    rail::{Capability, Custody, Instruction, RailProfile},
    store::Kept as _,
    text,
};

/// The length of a service's or an account's name, in characters.
const NAME: Range<u32> = Range { min: 1, max: 200 };

/// What a decision may look at besides the agreement and the command.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The present moment.
    pub now: Timestamp,
    /// Who gives the command.
    pub actor: &'a Actor,
    /// The policy: the agreement's own, or the newest for one that is being proposed.
    pub policy: &'a Policy,
    /// The policy's number.
    pub version: PolicyVersion,
    /// The agreement's rail.
    pub rail: &'a RailProfile,
    /// The tier of the seller whom a proposal names.
    pub seller_tier: &'a str,
    /// Who checks receipts.
    pub verifiers: &'a ReceiptVerifiers,
    /// What the seller owes, taken from what it earns before that becomes available.
    pub owed: Option<Money>,
    /// What the parties may spend; looked at only by what takes money back.
    pub spendable: Spendable,
}

/// What a command does: plain data, written in one transaction or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The agreement as it will be.
    pub agreement: Agreement,
    /// What happened, in order.
    pub events: Vec<AgreementEvent>,
    /// What moves in the ledger.
    pub movement: Movement,
    /// What the rail is asked to do, and from when on.
    pub instructions: Vec<(Instruction, Timestamp)>,
    /// The calls that were recorded, each in its place of the chain.
    pub proofs: Vec<CallProof>,
}

impl Decision {
    /// Whether the seller gets something that a debt could be kept from.
    pub(crate) fn pays_the_seller(&self) -> bool {
        pays_a_worker(&self.movement)
    }
}

/// Decides a command.
///
/// `agreement` is `None` exactly for [`AgreementCommand::Propose`].
///
/// # Errors
/// The [`Rejection`] of the first rule that refuses.
pub fn decide(
    agreement: Option<&Agreement>,
    command: &AgreementCommand,
    ctx: &Context<'_>,
) -> Result<Decision, Rejection> {
    let agreement = match (agreement, command) {
        (None, AgreementCommand::Propose { id, proposal }) => return propose(*id, proposal, ctx),
        (Some(agreement), _) if command.legal_in().contains(&agreement.status) => agreement,
        (Some(agreement), _) => {
            let (command, status, allowed) = (command.name(), agreement.status, command.legal_in().to_vec());
            return Err(Rejection::WrongAgreementStatus { command, status, allowed });
        }
        (None, _) => return Err(Rejection::NotFound { what: "agreement", id: String::new() }),
    };
    authorize(agreement, command, ctx.actor)?;
    if agreement.frozen.is_some() && !command.is_a_report() {
        return Err(Rejection::WrongHold { command: command.name(), state: CONTESTED });
    }
    in_time(agreement, command, ctx.now)?;
    let mut draft = Draft::of(agreement.clone(), command.name(), ctx)?;
    match command {
        AgreementCommand::Propose { .. } => unreachable!("proposing is legal in no status"),
        AgreementCommand::Accept { account } => draft.accept(account.as_deref())?,
        AgreementCommand::Reject { reason, suggestion } => draft.reject(reason, suggestion.as_deref())?,
        AgreementCommand::Cancel { reason } => draft.cancel(reason)?,
        AgreementCommand::Activate => draft.activate()?,
        AgreementCommand::RecordUsage { calls, after } => draft.record_usage(calls, *after)?,
        AgreementCommand::SubmitReceipt { receipt } => draft.submit_receipt(receipt)?,
        AgreementCommand::Complete => draft.complete()?,
        AgreementCommand::Close => draft.close()?,
        AgreementCommand::Finalize => draft.finalize_on_demand()?,
        AgreementCommand::Dispute { reason } => draft.dispute(reason)?,
        AgreementCommand::Rule { earned, reason } => draft.rule(*earned, reason)?,
        AgreementCommand::Tick => draft.tick()?,
        AgreementCommand::RecordOutcome { instruction, outcome } => draft.record_outcome(instruction, outcome)?,
        AgreementCommand::RecordHoldExpired => draft.record_hold_expired()?,
        AgreementCommand::RecordHoldSettled { reference, legs } => draft.record_hold_settled(reference, legs)?,
        AgreementCommand::RecordEscrow { news } => draft.record_escrow(news)?,
        AgreementCommand::RecordChargeback { chargeback } => draft.record_chargeback(chargeback)?,
    }
    Ok(draft.finish())
}

/// Who may give which command to this agreement.
fn authorize(agreement: &Agreement, command: &AgreementCommand, actor: &Actor) -> Result<(), Rejection> {
    let buyer = actor.agent() == Some(agreement.buyer);
    let seller = actor.agent() == Some(agreement.seller);
    let operator = matches!(actor, Actor::Operator(_));
    let (may, allowed) = match command {
        AgreementCommand::Propose { .. } => (actor.agent().is_some(), "an agent"),
        AgreementCommand::Accept { .. } | AgreementCommand::Reject { .. } => (seller, "the agreement's seller"),
        AgreementCommand::Cancel { .. } | AgreementCommand::Activate | AgreementCommand::Complete => {
            (buyer, "the agreement's buyer")
        }
        AgreementCommand::RecordUsage { .. } => (seller || operator, "the agreement's seller or an operator"),
        AgreementCommand::SubmitReceipt { .. } => {
            (buyer || seller || operator, "a party to the agreement or an operator")
        }
        AgreementCommand::Close | AgreementCommand::Finalize | AgreementCommand::Dispute { .. } => {
            (buyer || seller, "a party to the agreement")
        }
        AgreementCommand::Rule { .. } => (operator, "an operator"),
        AgreementCommand::Tick => (matches!(actor, Actor::Timer), "a timer"),
        AgreementCommand::RecordOutcome { .. }
        | AgreementCommand::RecordHoldExpired
        | AgreementCommand::RecordHoldSettled { .. }
        | AgreementCommand::RecordEscrow { .. }
        | AgreementCommand::RecordChargeback { .. } => (*actor == Actor::Rail(agreement.rail), "the agreement's rail"),
    };
    match may {
        true => Ok(()),
        false => Err(Rejection::WrongActor { command: command.name(), allowed, actor: actor.clone() }),
    }
}

/// What time has decided stands, however late its timer fires: a party cannot undo it meanwhile by a
/// command that would come out differently.
fn in_time(agreement: &Agreement, command: &AgreementCommand, now: Timestamp) -> Result<(), Rejection> {
    let Timers { answer_by, activate_by, expires_at, hold_until, .. } = agreement.timers;
    let deadline = match command {
        AgreementCommand::Accept { .. } | AgreementCommand::Reject { .. } | AgreementCommand::Cancel { .. } => {
            answer_by
        }
        AgreementCommand::Activate => activate_by,
        AgreementCommand::RecordUsage { .. } => earliest([expires_at, agreement.final_at(), hold_until]),
        AgreementCommand::SubmitReceipt { .. }
        | AgreementCommand::Close
        | AgreementCommand::Dispute { .. }
        | AgreementCommand::Rule { .. } => earliest([agreement.final_at(), hold_until]),
        AgreementCommand::Propose { .. }
        | AgreementCommand::Complete
        | AgreementCommand::Finalize
        | AgreementCommand::Tick
        | AgreementCommand::RecordOutcome { .. }
        | AgreementCommand::RecordHoldExpired
        | AgreementCommand::RecordHoldSettled { .. }
        | AgreementCommand::RecordEscrow { .. }
        | AgreementCommand::RecordChargeback { .. } => None,
    };
    match deadline.filter(|deadline| *deadline <= now) {
        Some(deadline) => Err(Rejection::TooLate { command: command.name(), deadline, now }),
        None => Ok(()),
    }
}

pub(super) fn earliest<const N: usize>(moments: [Option<Timestamp>; N]) -> Option<Timestamp> {
    moments.into_iter().flatten().min()
}

fn section(policy: &Policy) -> Result<&AgreementPolicy, Rejection> {
    policy.agreements.as_ref().ok_or(Rejection::NotOffered { what: "usage agreements" })
}

/// PG-02.
fn propose(id: AgreementId, proposal: &Proposal, ctx: &Context<'_>) -> Result<Decision, Rejection> {
    const COMMAND: &str = "propose";
    let policy = section(ctx.policy)?;
    let Some(buyer) = ctx.actor.agent() else {
        return Err(Rejection::WrongActor { command: COMMAND, allowed: "an agent", actor: ctx.actor.clone() });
    };
    if proposal.seller == buyer {
        return Err(Rejection::SelfDealing { agent: buyer });
    }
    proposal.service.as_ref().map_or(Ok(()), |service| text::line("service", service, NAME))?;
    proposal.account.as_ref().map_or(Ok(()), |account| text::line("account", account, NAME))?;
    text::line("unit", &proposal.unit, policy.unit)?;
    text::json("document", &proposal.document, policy.document_bytes)?;
    check_receipt_signer(proposal.receipt_signer.as_ref(), policy, ctx)?;
    check_rail(policy, ctx.rail)?;
    let answer_within = chosen("answer_within", proposal.answer_within, policy.proposal)?;
    let terms = agreed(proposal, policy, ctx)?;
    let answer_by = ctx.now + answer_within.delta();
    let event = AgreementEvent::Proposed {
        buyer,
        seller: proposal.seller,
        quantity: terms.quantity,
        unit: terms.unit.clone(),
        unit_price: terms.unit_price,
        deposit: terms.deposit,
        answer_by,
    };
    let agreement = Agreement {
        id,
        buyer,
        seller: proposal.seller,
        status: AgreementStatus::Proposed,
        rail: ctx.rail.id,
        policy: ctx.version,
        terms,
        hold: Hold::default(),
        returns: Returns::default(),
        frozen: None,
        activation: None,
        settlement: None,
        closes_at: None,
        arrived: None,
        infrastructure_fee: None,
        usage: Usage::default(),
        receipt: None,
        earned: None,
        proposed_at: ctx.now,
        timers: Timers { answer_by: Some(answer_by), ..Timers::default() },
    };
    let mut draft = Draft::of(agreement, COMMAND, ctx)?;
    draft.events.push(event);
    Ok(draft.finish())
}

/// What the rail has to be able to do.
pub(super) fn check_rail(policy: &AgreementPolicy, rail: &RailProfile) -> Result<(), Rejection> {
    let wallets = rail.custody == Custody::NonCustodial;
    let screened = wallets && policy.screening == Screening::Required;
    let needed = [(rail.custody.is_per_hold(), Capability::Split), (screened, Capability::Screen)];
    match needed.into_iter().find(|(needed, capability)| *needed && !rail.can(*capability)) {
        Some((_, capability)) => Err(Rejection::Unsupported { rail: rail.id, capability }),
        None => Ok(()),
    }
}

fn check_receipt_signer(
    signer: Option<&ReceiptSigner>,
    policy: &AgreementPolicy,
    ctx: &Context<'_>,
) -> Result<(), Rejection> {
    match signer {
        Some(ReceiptSigner { scheme, key }) => {
            let checked = ctx.verifiers.of(scheme).and_then(|verifier| verifier.check_key(key));
            checked.map_err(|reason| Rejection::BadReceiptSigner { reason })
        }
        None if policy.receipts == Presence::Required => Err(Rejection::Missing { field: "receipt_signer" }),
        None => Ok(()),
    }
}

/// The terms of a proposal, with what is to be reserved.
fn agreed(proposal: &Proposal, policy: &AgreementPolicy, ctx: &Context<'_>) -> Result<AgreementTerms, Rejection> {
    check_quantity(proposal.quantity, policy)?;
    check_unit_price(proposal.unit_price, policy, ctx)?;
    let (fees, document) = (&ctx.policy.fees, serde_json::to_string(&proposal.document).unwrap_or_default());
    let mut terms = AgreementTerms {
        service: proposal.service.clone(),
        unit: proposal.unit.clone(),
        quantity: proposal.quantity,
        unit_price: proposal.unit_price,
        bearer: fees.bearer,
        rate: fees.rate_of(ctx.seller_tier)?,
        deposit: Money::zero(ctx.policy.currency),
        expiry: ctx.now + chosen("term", proposal.term, policy.term)?.delta(),
        challenge_window: chosen("challenge_window", proposal.challenge_window, policy.challenge_window)?,
        receipt_signer: proposal.receipt_signer.clone(),
        buyer_account: proposal.account.clone(),
        seller_account: None,
        document: Hash::of(document.as_bytes()),
    };
    let total = terms.worth(terms.quantity)?;
    in_range("quantity times unit_price", total, policy.total)?;
    terms.deposit = match terms.bearer {
        Bearer::Worker => total,
        Bearer::Buyer => total.plus(terms.fee(total)?)?,
    };
    in_range("deposit", terms.deposit, ctx.rail.amounts)?;
    let by_contract = ctx.rail.custody == Custody::NonCustodial && terms.receipt_signer.is_some();
    if by_contract && terms.bearer == Bearer::Buyer && terms.rate != Rate::ZERO {
        let reason =
            "the contract takes the fee out of what receipts earn, and the policy has the buyer bear it".into();
        return Err(Rejection::BadReceiptSigner { reason });
    }
    Ok(terms)
}

fn check_quantity(quantity: i64, policy: &AgreementPolicy) -> Result<(), Rejection> {
    let Range { min, max } = policy.quantity;
    match policy.quantity.contains(quantity) {
        true => Ok(()),
        false => Err(Rejection::Number { field: "quantity", min, max, actual: quantity }),
    }
}

fn check_unit_price(price: Money, policy: &AgreementPolicy, ctx: &Context<'_>) -> Result<(), Rejection> {
    Money::zero(ctx.policy.currency).plus(price)?;
    in_range("unit_price", price, policy.unit_price)?;
    match price.minor() % policy.unit_price_step {
        0 => Ok(()),
        _ => Err(Rejection::NotMultiple { field: "unit_price", of: policy.unit_price_step, actual: price.minor() }),
    }
}

fn in_range(field: &'static str, amount: Money, Range { min, max }: Range<i64>) -> Result<(), Rejection> {
    match (min..=max).contains(&amount.minor()) && amount.is_positive() {
        true => Ok(()),
        false => Err(Rejection::Amount { field, currency: amount.currency(), min, max, actual: amount.minor() }),
    }
}

fn chosen(field: &'static str, span: Option<Span>, choice: Choice<Span>) -> Result<Span, Rejection> {
    let (actual, Range { min, max }) = (span.unwrap_or(choice.default), choice.allowed);
    match choice.allowed.contains(actual) {
        true => Ok(actual),
        false => Err(Rejection::Time { field, min, max, actual }),
    }
}

/// A decision in the making.
pub(super) struct Draft<'a> {
    pub(super) agreement: Agreement,
    pub(super) command: &'static str,
    pub(super) events: Vec<AgreementEvent>,
    pub(super) movement: Movement,
    pub(super) instructions: Vec<(Instruction, Timestamp)>,
    pub(super) proofs: Vec<CallProof>,
    pub(super) policy: &'a AgreementPolicy,
    pub(super) ctx: &'a Context<'a>,
}

impl<'a> Draft<'a> {
    fn of(agreement: Agreement, command: &'static str, ctx: &'a Context<'a>) -> Result<Self, Rejection> {
        let policy = section(ctx.policy)?;
        let (events, instructions, proofs) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { agreement, command, events, movement: Movement::new(), instructions, proofs, policy, ctx })
    }

    fn finish(self) -> Decision {
        let Self { agreement, events, movement, instructions, proofs, .. } = self;
        Decision { agreement, events, movement, instructions, proofs }
    }

    fn accept(&mut self, account: Option<&str>) -> Result<(), Rejection> {
        account.map_or(Ok(()), |account| text::line("account", account, NAME))?;
        let activate_by = (self.ctx.now + self.policy.activation_within.delta()).min(self.agreement.terms.expiry);
        self.agreement.terms.seller_account = account.map(Into::into);
        self.agreement.status = AgreementStatus::Accepted;
        self.agreement.timers = Timers { activate_by: Some(activate_by), ..Timers::default() };
        self.events.push(AgreementEvent::Accepted { activate_by });
        Ok(())
    }

    fn reject(&mut self, reason: &str, suggestion: Option<&Suggestion>) -> Result<(), Rejection> {
        text::prose("reason", reason, self.policy.reason)?;
        if let Some(Suggestion { quantity, unit_price, term, note }) = suggestion {
            quantity.map_or(Ok(()), |quantity| check_quantity(quantity, self.policy))?;
            unit_price.map_or(Ok(()), |price| check_unit_price(price, self.policy, self.ctx))?;
            chosen("term", *term, self.policy.term)?;
            text::prose("note", note, self.policy.reason)?;
        }
        self.end(AgreementStatus::Rejected);
        let suggestion = suggestion.cloned().map(Box::new);
        self.events.push(AgreementEvent::Rejected { reason: reason.into(), suggestion });
        Ok(())
    }

    fn cancel(&mut self, reason: &str) -> Result<(), Rejection> {
        text::prose("reason", reason, self.policy.reason)?;
        self.end(AgreementStatus::Cancelled);
        self.events.push(AgreementEvent::Cancelled { reason: reason.into() });
        Ok(())
    }

    /// PG-07: never past the quantity, nor any call of a record that would be.
    fn record_usage(&mut self, calls: &[Call], after: Option<Hash>) -> Result<(), Rejection> {
        self.must_be_open()?;
        let most = self.policy.calls;
        if calls.is_empty() {
            return Err(Rejection::Missing { field: "calls" });
        }
        if calls.len() > most as usize {
            return Err(Rejection::TooMany { field: "calls", max: most, actual: calls.len() });
        }
        let mut head = self.agreement.head();
        if let Some(expected) = after.filter(|after| *after != head.hash) {
            return Err(Rejection::ChainMoved { expected, actual: head.hash });
        }
        let (before, quantity) = (self.agreement.usage.units, self.agreement.terms.quantity);
        let mut total = before;
        for call in calls {
            if call.units < 1 {
                return Err(Rejection::Number { field: "units", min: 1, max: quantity, actual: call.units });
            }
            total = total.saturating_add(call.units);
            if total > quantity {
                return Err(Rejection::OverQuantity { units: total, quantity });
            }
            let proof = chain::extend(self.agreement.id, head, call);
            head = chain::Link { number: proof.number, hash: proof.hash };
            self.proofs.push(proof);
        }
        let part = self.agreement.usage.parts + 1;
        self.agreement.usage = Usage { units: total, calls: head.number, parts: part, head: head.hash };
        let (calls, units) = (calls.len() as u32, total - before);
        self.events.push(AgreementEvent::UsageRecorded { part, calls, units, total, head: head.hash });
        Ok(())
    }

    /// PG-19: also while the challenge window runs, a receipt of more units supersedes what counted.
    fn submit_receipt(&mut self, receipt: &SignedReceipt) -> Result<(), Rejection> {
        let Some(ReceiptSigner { scheme, key }) = &self.agreement.terms.receipt_signer else {
            return Err(Rejection::NotOffered { what: "receipts: the agreement names no receipt signer" });
        };
        let (units, quantity) = (receipt.units, self.agreement.terms.quantity);
        if units > quantity {
            return Err(Rejection::OverQuantity { units, quantity });
        }
        let counted = self.agreement.receipt.as_ref().map_or(0, |receipt| receipt.units);
        if units <= counted {
            return Err(Rejection::ReceiptNotNewer { units, counted });
        }
        let verifier = self.ctx.verifiers.of(scheme);
        let verified = verifier.and_then(|verifier| verifier.verify(&self.agreement, key, receipt));
        verified.map_err(|reason| Rejection::BadReceipt { reason })?;
        let earned = self.agreement.terms.worth(units)?;
        self.agreement.receipt = Some(receipt.clone());
        self.events.push(AgreementEvent::ReceiptSubmitted { units, earned, proof: receipt.proof });
        Ok(())
    }

    fn complete(&mut self) -> Result<(), Rejection> {
        let units = self.agreement.admitted_units();
        let earned = self.agreement.terms.worth(units)?;
        self.conclude(Some(units), earned, AgreementStatus::Completed)
    }

    /// PG-09: a close never moves the end further away than expiry alone has put it.
    fn close(&mut self) -> Result<(), Rejection> {
        self.must_decide_here()?;
        self.must_be_open()?;
        let cause = match self.ctx.actor.agent() == Some(self.agreement.buyer) {
            true => CloseCause::Buyer,
            false => CloseCause::Seller,
        };
        self.start_closing(cause, self.ctx.now + self.agreement.terms.challenge_window.delta());
        Ok(())
    }

    pub(super) fn start_closing(&mut self, cause: CloseCause, at: Timestamp) {
        let final_at = self.agreement.final_at().map_or(at, |latest| latest.min(at));
        self.closing_until(final_at);
        self.events.push(AgreementEvent::CloseInitiated { cause, final_at });
    }

    /// The challenge window runs until then; who ends it is the contract outside, or our timer.
    fn closing_until(&mut self, final_at: Timestamp) {
        self.agreement.settlement = Some(SettlementStatus::Closing);
        self.agreement.timers.expires_at = None;
        match self.decides_outside() {
            true => self.agreement.closes_at = Some(final_at),
            false => self.agreement.timers.final_at = Some(final_at),
        }
    }

    fn finalize_on_demand(&mut self) -> Result<(), Rejection> {
        self.must_decide_here()?;
        match self.agreement.final_at() {
            Some(final_at) if final_at > self.ctx.now => Err(Rejection::NotFinal { final_at }),
            _ => self.finalize(),
        }
    }

    /// Time has decided: what is proven is earned.
    fn finalize(&mut self) -> Result<(), Rejection> {
        let units = self.agreement.proven_units();
        let earned = self.agreement.terms.worth(units)?;
        match earned.is_zero() {
            true => self.conclude(Some(units), earned, AgreementStatus::Expired),
            false => self.conclude(Some(units), earned, AgreementStatus::Completed),
        }
    }

    /// Where a contract outside holds the money its clock runs on; elsewhere the operator has the policy's
    /// time, and nobody gains by disputing early.
    fn dispute(&mut self, reason: &str) -> Result<(), Rejection> {
        let Some(terms) = self.policy.disputes else {
            return Err(Rejection::NotOffered { what: "disputes about agreements" });
        };
        text::prose("reason", reason, self.policy.reason)?;
        let Some(by) = self.ctx.actor.agent() else { return Err(self.holding()?.wrong()) };
        let stands = self.agreement.final_at();
        let rule_by = match (self.ctx.rail.custody, self.agreement.settlement, stands) {
            (Custody::NonCustodial, _, Some(stands)) => stands,
            (_, Some(SettlementStatus::Closing), Some(stands)) => {
                stands.max(self.ctx.now + terms.ruling_within.delta())
            }
            _ => self.ctx.now + terms.ruling_within.delta(),
        };
        let rule_by = self.agreement.timers.hold_until.map_or(rule_by, |until| until.min(rule_by));
        self.agreement.status = AgreementStatus::Disputed;
        self.closing_until(rule_by);
        self.events.push(AgreementEvent::Disputed { by, reason: reason.into(), rule_by });
        Ok(())
    }

    fn rule(&mut self, earned: Money, reason: &str) -> Result<(), Rejection> {
        text::prose("reason", reason, self.policy.reason)?;
        let most = self.agreement.terms.worth(self.agreement.terms.quantity)?;
        most.minus(earned)?; // of the same currency
        if !(0..=most.minor()).contains(&earned.minor()) {
            let (currency, max, actual) = (most.currency(), most.minor(), earned.minor());
            return Err(Rejection::Amount { field: "earned", currency, min: 0, max, actual });
        }
        self.events.push(AgreementEvent::Ruled { earned, reason: reason.into() });
        self.conclude(None, earned, AgreementStatus::Completed)
    }

    fn tick(&mut self) -> Result<(), Rejection> {
        let (now, next) = (self.ctx.now, self.agreement.due_at());
        let Some(at) = next.filter(|at| *at <= now) else { return Err(Rejection::NothingDue { next }) };
        let Timers { answer_by, activate_by, expires_at, .. } = self.agreement.timers;
        match Some(at) {
            due if due == answer_by => self.expire(ExpiryCause::Unanswered),
            due if due == activate_by => self.expire(ExpiryCause::NotActivated),
            due if due == expires_at => {
                let latest = at + self.agreement.terms.challenge_window.delta();
                self.start_closing(CloseCause::Expiry, latest);
            }
            _ => self.finalize()?,
        }
        Ok(())
    }

    /// Ends an agreement in which nothing was earned, whose money is nowhere or with its payer.
    pub(super) fn expire(&mut self, cause: ExpiryCause) {
        let refunded = match cause {
            ExpiryCause::HoldExpired | ExpiryCause::Chargeback => self.agreement.terms.deposit,
            ExpiryCause::Unanswered | ExpiryCause::NotActivated | ExpiryCause::NothingUsed => {
                Money::zero(self.ctx.policy.currency)
            }
        };
        self.end(AgreementStatus::Expired);
        self.events.push(AgreementEvent::Expired { cause, refunded });
    }

    pub(super) fn end(&mut self, status: AgreementStatus) {
        self.agreement.status = status;
        self.agreement.frozen = None;
        self.agreement.timers = Timers::default();
    }

    /// The money is reserved: units may be used from now on.
    pub(super) fn activated(&mut self, hold_until: Option<Timestamp>) {
        // Money that the contract divides by itself needs nobody to save it.
        let hold_until = hold_until.filter(|_| !self.decides_outside());
        let (expires_at, deposit) = (self.agreement.terms.expiry, self.agreement.terms.deposit);
        self.agreement.status = AgreementStatus::Active;
        self.agreement.activation = Some(ActivationStatus::Confirmed);
        self.agreement.settlement = Some(SettlementStatus::Open);
        self.agreement.timers = Timers { expires_at: Some(expires_at), hold_until, ..Timers::default() };
        self.events.push(AgreementEvent::Activated { deposit, expires_at });
    }

    fn must_be_open(&self) -> Result<(), Rejection> {
        match (self.agreement.settlement, self.agreement.final_at()) {
            (Some(SettlementStatus::Closing), Some(final_at)) => {
                Err(Rejection::AlreadyClosing { command: self.command, final_at })
            }
            _ => Ok(()),
        }
    }
}
