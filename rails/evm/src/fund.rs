//! Funding a hold by the payer's signature (PG-04, PG-05).

use alloy_primitives::{
    Address, B256, Bytes, U256,
    aliases::{U40, U96, U120},
    keccak256,
};
use alloy_sol_types::{SolCall, SolStruct};
use sha2::{Digest, Sha256};
use tradepost::{
    ids::{AgentId, HoldId, InstructionId},
    money::Money,
    rail::{Action, Decline, HoldTerms, Instruction, Order, Outcome, Party},
};

use crate::{
    abi::{
        Agreement, BuyerActivationIntent, Escrow, Permit, ReceiveWithAuthorization, SettlementTerms, SignedPermit,
        Token, stage,
    },
    ask::{Answer, Ask, Call, Choice},
    error::EvmError,
    fees::Fee,
    hold::{Funding, Offer},
    incident::Incident,
    rail::EvmRail,
    relay::Sent,
    sign::{Message, Signable, split},
};

/// Lanes of agreements that are funded from an allowance carry this bit.
const INTENT_LANE: U96 = U96::from_limbs([0, 1 << 31]);

/// A payer, and what it is to pay for.
struct Wanted<'a> {
    hold: HoldId,
    payer: AgentId,
    payee: AgentId,
    buyer: Address,
    seller: Address,
    amount: Money,
    terms: &'a HoldTerms,
}

impl EvmRail {
    pub(crate) async fn fund(&self, instruction: &Instruction) -> Result<Outcome, EvmError> {
        let Order::Fund { hold, payer, amount, terms } = &instruction.order else {
            return Err(EvmError::Refused("not an order to fund".into()));
        };
        self.check_amount(*amount)?;
        self.keep_order(instruction.id, &instruction.order).await?;
        if self.hold(*hold).await?.is_none_or(|note| note.funding(instruction.id).is_none()) {
            match self.wanted(*hold, *payer, *amount, terms).await? {
                Ok(wanted) => self.offer(instruction.id, &wanted).await?,
                Err(decline) => self.decline_at_once(instruction.id, *hold, *payer, decline).await?,
            }
        }
        if let (Some(answer), Some(Outcome::NeedsAction(_))) =
            (&instruction.answer, self.find_fund(instruction.id, *hold).await?)
        {
            self.take_fund_answer(instruction.id, *hold, &Answer::parse(answer)?).await?;
        }
        let found = self.find_fund(instruction.id, *hold).await?;
        found.ok_or_else(|| EvmError::Unknown { what: "funding", id: instruction.id.to_string() })
    }

    /// Where a funding stands. Reading may decline it: when its time has passed on a chain that counts, the
    /// payer's signature is worth nothing any more.
    pub(crate) async fn find_fund(&self, id: InstructionId, hold: HoldId) -> Result<Option<Outcome>, EvmError> {
        let Some(note) = self.hold(hold).await? else { return Ok(None) };
        let Some(funding) = note.funding(id).cloned() else { return Ok(None) };
        if let Some(funded) = note.funded.filter(|funded| funded.receipt.instruction == id) {
            return Ok(Some(Outcome::Done(funded.receipt)));
        }
        if let Some(decline) = funding.declined {
            return Ok(Some(Outcome::Declined(decline)));
        }
        if self.settled_time().await? >= funding.until {
            if let Some(outcome) = self.unnoticed(id, hold, &funding).await? {
                return Ok(Some(outcome));
            }
            let message =
                format!("the payer's {} seconds to fund it have passed", self.config.signing_window.as_seconds());
            return self.decline_fund(id, hold, "not_funded_in_time", message).await.map(Some);
        }
        let Some(work) = &funding.work else {
            let next = self.show_nonce(id, hold, note.fee.as_ref()).await?;
            let payload = self.fund_ask(hold, &funding, next).await?.payload();
            let (who, kind) = (Party::Buyer(funding.payer), "sign_funding".into());
            return Ok(Some(Outcome::NeedsAction(Action { who, kind, payload })));
        };
        Ok(Some(Outcome::Pending { reference: self.reference(id, work).await? }))
    }

    /// What the contract or the relayer knows of a funding whose time is over and no page has told: the node may have
    /// kept a log back, and who sent an intent may have died before noting it.
    async fn unnoticed(&self, id: InstructionId, hold: HoldId, funding: &Funding) -> Result<Option<Outcome>, EvmError> {
        for offer in &funding.offers {
            if self.status_now(&offer.terms).await?.status != stage::NONE {
                return Ok(Some(match self.take_in_unseen(hold, offer.agreement).await? {
                    Some(receipt) => Outcome::Done(receipt),
                    None => Outcome::Pending { reference: offer.agreement.to_string() }, // its block does not count yet
                }));
            }
            let until = offer.terms.expiry.to();
            for choice in ["erc2612_permit", "prior_allowance"] {
                let work = format!("fund/{id}/{choice}");
                if offer.intent.is_some() && funding.until < until && self.relayer.find(&work).await?.is_some() {
                    self.note_intent(id, hold, until, &work).await?;
                    return Ok(Some(Outcome::Pending { reference: self.reference(id, &work).await? }));
                }
            }
        }
        Ok(None)
    }

    /// What the relayer's transaction for an instruction is called.
    pub(crate) async fn reference(&self, id: InstructionId, work: &str) -> Result<String, EvmError> {
        Ok(match self.relayer.find(work).await? {
            Some(Sent::UnderWay { transaction, .. } | Sent::Lost { transaction }) => transaction.to_string(),
            Some(Sent::Mined { transaction, succeeded: true, .. }) => transaction.to_string(),
            Some(Sent::Mined { transaction, succeeded: false, .. }) => {
                // Somebody else may have relayed the same, or still may until the signature's time is over.
                self.tell(&Incident::Failed { instruction: id, transaction });
                transaction.to_string()
            }
            None => "sent by the party".into(),
        })
    }

    async fn decline_fund(
        &self,
        id: InstructionId,
        hold: HoldId,
        code: &str,
        message: String,
    ) -> Result<Outcome, EvmError> {
        let decline = Decline { code: code.into(), message };
        let (note, ()) = self
            .change_hold(hold, |note| {
                let funded = note.funded.as_ref().is_some_and(|funded| funded.receipt.instruction == id);
                if let Some(funding) = note.fundings.iter_mut().find(|funding| funding.id == id && !funded) {
                    funding.declined.get_or_insert_with(|| decline.clone());
                }
            })
            .await?;
        match (note.funded, note.fundings.iter().find(|funding| funding.id == id).and_then(|one| one.declined.clone()))
        {
            (_, Some(decline)) => Ok(Outcome::Declined(decline)),
            (Some(funded), None) => Ok(Outcome::Done(funded.receipt)),
            (None, None) => Err(EvmError::Unknown { what: "funding", id: id.to_string() }),
        }
    }

    async fn decline_at_once(
        &self,
        id: InstructionId,
        hold: HoldId,
        payer: AgentId,
        decline: Decline,
    ) -> Result<(), EvmError> {
        let funding = Funding {
            id,
            payer,
            payee: payer,
            offers: Vec::new(),
            until: 0,
            work: None,
            declined: Some(decline),
            shown: Vec::new(),
        };
        self.change_hold(hold, |note| note.fundings.push(funding.clone())).await.map(drop)
    }

    fn check_amount(&self, amount: Money) -> Result<(), EvmError> {
        let range = self.config.amounts;
        if amount.currency() != self.config.currency || !range.contains(amount.minor()) {
            let allowed = format!("allowed are {} to {} {}", range.min, range.max, self.config.currency);
            return Err(EvmError::Terms { field: "amount", value: amount.to_string(), allowed });
        }
        Ok(())
    }

    /// Who is to pay whom, if both can take part.
    async fn wanted<'a>(
        &self,
        hold: HoldId,
        payer: AgentId,
        amount: Money,
        terms: &'a HoldTerms,
    ) -> Result<Result<Wanted<'a>, Decline>, EvmError> {
        let decline = |code: &str, message: String| Ok(Err(Decline { code: code.into(), message }));
        let Some(payee) = terms.payee else { return decline("no_payee", "nobody may earn it yet".into()) };
        let buyer = match self.wallet_named(payer, terms.payer_account.as_deref()).await? {
            Ok(buyer) => buyer,
            Err(none) => return Ok(Err(none)),
        };
        let seller = match self.wallet_named(payee, terms.payee_account.as_deref()).await? {
            Ok(seller) => seller,
            Err(none) => return Ok(Err(none)),
        };
        if buyer == seller {
            return decline("same_wallet", format!("payer and payee have the same wallet, {buyer}"));
        }
        if let Some(listed) = self.screened(&[buyer, seller]).await? {
            return decline("wallet_listed", format!("{listed} may not take part"));
        }
        Ok(Ok(Wanted { hold, payer, payee, buyer, seller, amount, terms }))
    }

    /// The first wallet that may not take part. When that cannot be found out, nobody may (PG-16).
    pub(crate) async fn screened(&self, wallets: &[Address]) -> Result<Option<Address>, EvmError> {
        let Some(screen) = &self.screen else { return Ok(None) };
        for wallet in wallets {
            if screen.is_listed(*wallet).await? {
                self.tell(&Incident::Listed { wallet: *wallet });
                return Ok(Some(*wallet));
            }
        }
        Ok(None)
    }

    /// Works out the agreements that the payer may fund, and writes them down before anybody signs.
    async fn offer(&self, id: InstructionId, wanted: &Wanted<'_>) -> Result<(), EvmError> {
        let now = self.chain.head().await?.time();
        let until = now + u64::from(self.config.signing_window.as_seconds());
        let plain = Offer::new(self.terms(wanted, now, id)?, None);
        let by_intent = self.by_intent(id, &plain.terms).await?;
        let mut plain = plain;
        plain.terms.lane = U96::from(self.take_lane(wanted.buyer, wanted.hold).await?);
        let plain = Offer::new(plain.terms, None);
        for offer in [&plain, &by_intent] {
            self.keep_agreement(offer.agreement, wanted.hold).await?;
        }
        let funding = Funding {
            id,
            payer: wanted.payer,
            payee: wanted.payee,
            offers: vec![plain, by_intent],
            until,
            work: None,
            declined: None,
            shown: Vec::new(),
        };
        let fee = wanted.terms.infrastructure_fee;
        let fee = fee.map(|amount| self.fee_of(amount, wanted.buyer, &funding.offers)).transpose()?;
        let already = |note: &mut crate::hold::Hold| {
            // Of two processes one offers; a hold is funded once.
            let mut funding = funding.clone();
            if note.funded.is_some() {
                let message = "the hold is funded already".into();
                funding.declined = Some(Decline { code: "funded_before".into(), message });
            }
            if note.funding(id).is_none() {
                if note.funded.is_none() {
                    note.fee.clone_from(&fee);
                }
                note.fundings.push(funding);
            }
        };
        self.change_hold(wanted.hold, already).await.map(drop)
    }

    fn terms(&self, wanted: &Wanted<'_>, now: u64, id: InstructionId) -> Result<Agreement, EvmError> {
        let terms = wanted.terms;
        let refuse = |field, value: String, allowed: &str| EvmError::Terms { field, value, allowed: allowed.into() };
        let deposit = u128::try_from(wanted.amount.minor()).unwrap_or_default();
        let quantity = u128::from(terms.quantity);
        let unit_price = match terms.unit_price {
            Some(price) => u128::try_from(price.minor()).unwrap_or_default(),
            None => deposit.checked_div(quantity).unwrap_or_default(),
        };
        if quantity == 0 || unit_price == 0 || quantity.checked_mul(unit_price).is_none_or(|price| price > deposit) {
            let value = format!("{quantity} × {unit_price}");
            return Err(refuse("quantity × price", value, "more than nothing, and at most the deposit"));
        }
        let window = terms.challenge_window.unwrap_or(self.config.challenge_window).as_seconds();
        let by_rail = now + u64::from(self.config.hold_lives.as_seconds().saturating_sub(window));
        let expiry = match terms.expires_at {
            Some(at) => u64::try_from(at.timestamp()).unwrap_or_default(),
            None => by_rail,
        };
        if expiry <= now + u64::from(self.config.signing_window.as_seconds()) {
            return Err(refuse("expires_at", expiry.to_string(), "later than the payer has to sign"));
        }
        let receipt_signer = terms
            .receipt_signer
            .as_deref()
            .map(|text| text.parse::<Address>().map_err(|_| refuse("receipt_signer", text.into(), "an address")));
        let ceiling = terms.fee_ceiling.share() * rust_decimal::Decimal::from(10_000);
        let max_fee_bps = u16::try_from(ceiling.ceil().mantissa()).unwrap_or(10_000).min(10_000);
        let salt = keccak256(id.0.as_bytes());
        let document = terms
            .document
            .as_deref()
            .map(|text| text.parse::<B256>().map_err(|_| refuse("document", text.into(), "64 hex digits")));
        let document = document.transpose()?.unwrap_or_default();
        Ok(Agreement {
            buyer: wanted.buyer,
            expiry: U40::saturating_from(expiry),
            challengeWindow: window,
            seller: wanted.seller,
            maxFeeBps: max_fee_bps,
            token: self.config.token,
            quantity: terms.quantity,
            deposit: U120::saturating_from(deposit),
            unitPrice: U120::saturating_from(unit_price),
            receiptSigner: receipt_signer.transpose()?.unwrap_or_default(),
            arbiter: self.arbiter.as_ref().map(|arbiter| arbiter.address()).unwrap_or_default(),
            feeReceiver: if max_fee_bps == 0 { Address::ZERO } else { self.relayer.address() },
            lane: U96::ZERO,
            termsHash: keccak256([document.0, salt.0].concat()),
        })
    }

    /// The same terms as the intent that existing clients sign.
    async fn by_intent(&self, id: InstructionId, terms: &Agreement) -> Result<Offer, EvmError> {
        let extra = SettlementTerms {
            receiptSigner: terms.receiptSigner,
            arbiter: terms.arbiter,
            feeReceiver: terms.feeReceiver,
            maxFeeBps: terms.maxFeeBps,
            documentHash: terms.termsHash,
        };
        let intent = BuyerActivationIntent {
            agreementKey: keccak256(id.0.as_bytes()),
            platformAgreementIdHash: B256::from_slice(&Sha256::digest(id.0.as_bytes())),
            buyer: terms.buyer,
            seller: terms.seller,
            token: terms.token,
            quantity: U256::from(terms.quantity),
            pricePerUnit: U256::from(terms.unitPrice),
            depositAmount: U256::from(terms.deposit),
            challengeWindowSeconds: U256::from(terms.challengeWindow),
            serviceHash: B256::ZERO,
            termsHash: extra.eip712_hash_struct(),
            expiry: U256::from(terms.expiry),
            nonce: self.next_nonces(1).await?,
            salt: keccak256(id.0.as_bytes()),
        };
        let digest = Signable::new(self.config.activation_domain(), intent.clone()).digest();
        let lane = INTENT_LANE | U96::from_be_slice(&digest[20..]);
        let terms = Agreement { lane, termsHash: digest, ..terms.clone() };
        Ok(Offer::new(terms, Some(Box::new((intent, extra)))))
    }

    /// The payer's nonce at the token, from which the fee's permit counts on; kept, for the payer may sign later.
    async fn show_nonce(&self, id: InstructionId, hold: HoldId, fee: Option<&Fee>) -> Result<U256, EvmError> {
        let Some(fee) = fee else { return Ok(U256::ZERO) };
        let next = self.token_nonce(fee.payer).await?;
        self.change_hold(hold, |note| {
            let funding = note.fundings.iter_mut().find(|funding| funding.id == id);
            if let Some(funding) = funding.filter(|funding| !funding.shown.contains(&next)) {
                funding.shown.push(next);
            }
        })
        .await?;
        Ok(next)
    }

    /// What the payer is asked for; `next` is what [`EvmRail::show_nonce`] said.
    async fn fund_ask(&self, hold: HoldId, funding: &Funding, next: U256) -> Result<Ask, EvmError> {
        let fee = self.hold(hold).await?.and_then(|note| note.fee);
        let mut choices = Vec::new();
        for offer in &funding.offers {
            let terms = &offer.terms;
            let name = |name: &str, sign: Vec<Signable>, direct: Option<Call>| {
                let fee = fee.as_ref().map(|fee| self.fee_permit(fee, next + permits_in(&sign)));
                let (name, agreement, terms) = (name.into(), offer.agreement, terms.clone());
                Choice { name, agreement, terms, sign, fee, direct }
            };
            let Some(intent) = &offer.intent else {
                let message = self.authorization(offer, funding.until);
                choices.push(name("eip3009", vec![message], None));
                continue;
            };
            let (intent, extra) = &**intent;
            let activation = Signable::new(self.config.activation_domain(), intent.clone());
            let permit = self.permit(terms.buyer, U256::from(terms.deposit), funding.until).await?;
            let by_sender =
                Escrow::createAndFundCall { intent: intent.clone(), extra: extra.clone(), permit: no_permit() };
            choices.push(name("erc2612_permit", vec![activation.clone(), permit], None));
            let direct = self.call(terms.buyer, by_sender.abi_encode());
            choices.push(name("prior_allowance", vec![activation], Some(direct)));
        }
        let signer = funding.offers.first().map(|offer| offer.terms.buyer).unwrap_or_default();
        Ok(Ask { instruction: funding.id, hold, signer, until: funding.until, choices })
    }

    fn authorization(&self, offer: &Offer, until: u64) -> Signable {
        let message = ReceiveWithAuthorization {
            from: offer.terms.buyer,
            to: self.config.escrow,
            value: U256::from(offer.terms.deposit),
            validAfter: U256::ZERO,
            validBefore: U256::from(until),
            nonce: offer.agreement,
        };
        Signable::new(self.config.token_domain(), message)
    }

    async fn permit(&self, owner: Address, value: U256, until: u64) -> Result<Signable, EvmError> {
        let nonce = self.token_nonce(owner).await?;
        let message = Permit { owner, spender: self.config.escrow, value, nonce, deadline: U256::from(until) };
        Ok(Signable::new(self.config.token_domain(), message))
    }

    pub(crate) async fn token_nonce(&self, owner: Address) -> Result<U256, EvmError> {
        self.chain.read(self.config.token, &Token::noncesCall { owner }, None).await
    }

    pub(crate) fn call(&self, from: Address, data: Vec<u8>) -> Call {
        Call { chain_id: self.config.chain_id, from, to: self.config.escrow, data: data.into() }
    }

    async fn take_fund_answer(&self, id: InstructionId, hold: HoldId, answer: &Answer) -> Result<(), EvmError> {
        let note = self.hold(hold).await?.unwrap_or_default();
        let Some(funding) = note.funding(id) else { return Ok(()) };
        let (choice, signatures, fee) = match answer {
            Answer::Refused { reason } => {
                let reason: String = reason.chars().take(500).collect();
                return self.decline_fund(id, hold, "refused_by_payer", reason).await.map(drop);
            }
            Answer::Sent => return self.note_work(id, hold, "direct").await,
            Answer::Signed { choice, signatures, fee } => (choice, signatures, fee),
        };
        let newest = funding.shown.last().copied().unwrap_or_default();
        let ask = self.fund_ask(hold, funding, newest).await?;
        let chosen = ask.choices.iter().find(|one| one.name == *choice);
        let chosen = chosen.ok_or_else(|| EvmError::Unknown { what: "choice", id: choice.clone() })?;
        self.check_signed(&chosen.sign, signatures, ask.signer).await?;
        // A wallet contract allows the transfer instead.
        if let Some(owed) = note.fee.as_ref()
            && !self.chain.has_code(owed.payer).await?
        {
            let counted = |shown: &U256| self.fee_permit(owed, *shown + permits_in(&chosen.sign));
            let permits: Vec<Signable> = funding.shown.iter().rev().map(counted).collect();
            self.take_fee_permit(hold, &permits, fee.as_ref()).await?;
        }
        if let Some(listed) = self.screened(&[chosen.terms.buyer, chosen.terms.seller]).await? {
            let message = format!("{listed} may not take part");
            return self.decline_fund(id, hold, "wallet_listed", message).await.map(drop);
        }
        let offer = funding.offers.iter().find(|offer| offer.agreement == chosen.agreement);
        let offer = offer.ok_or_else(|| EvmError::Unknown { what: "offer", id: choice.clone() })?;
        let data = self.funding_call(offer, funding.until, chosen, signatures)?;
        let work = format!("fund/{id}/{choice}");
        match self.relayer.submit(&work, self.config.escrow, data).await {
            Ok(_) if offer.intent.is_some() => {
                // An intent has no deadline of its own: once it is out, it is good until the agreement expires.
                self.note_intent(id, hold, offer.terms.expiry.to(), &work).await
            }
            Ok(_) => self.note_work(id, hold, &work).await,
            // Nothing was sent, so that nobody else has the payer's signature.
            Err(EvmError::Reverted(revert)) if revert.is_short() || self.is_short(offer).await? => {
                self.decline_fund(id, hold, "insufficient_funds", revert.to_string()).await.map(drop)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the payer's balance does not reach.
    async fn is_short(&self, offer: &Offer) -> Result<bool, EvmError> {
        let call = Token::balanceOfCall { owner: offer.terms.buyer };
        Ok(self.chain.read(self.config.token, &call, None).await? < U256::from(offer.terms.deposit))
    }

    async fn note_intent(&self, id: InstructionId, hold: HoldId, until: u64, work: &str) -> Result<(), EvmError> {
        let extend = |note: &mut crate::hold::Hold| {
            let funding = note.fundings.iter_mut().find(|funding| funding.id == id);
            funding.into_iter().for_each(|funding| (funding.until, funding.work) = (until, Some(work.into())));
        };
        self.change_hold(hold, extend).await.map(drop)
    }

    async fn note_work(&self, id: InstructionId, hold: HoldId, work: &str) -> Result<(), EvmError> {
        self.change_hold(hold, |note| {
            if let Some(funding) = note.fundings.iter_mut().find(|funding| funding.id == id) {
                funding.work = Some(work.into());
            }
        })
        .await
        .map(drop)
    }

    fn funding_call(
        &self,
        offer: &Offer,
        until: u64,
        chosen: &Choice,
        signatures: &[Bytes],
    ) -> Result<Bytes, EvmError> {
        let signature = signatures.first().cloned().unwrap_or_default();
        let Some(intent) = &offer.intent else {
            let valid_before = U256::from(until);
            let call = Escrow::fundCall { terms: offer.terms.clone(), validBefore: valid_before, signature };
            return Ok(call.abi_encode().into());
        };
        let permit = match signatures.get(1).zip(chosen.sign.get(1)) {
            Some((signature, message)) => signed_permit(message, signature)?,
            None => no_permit(),
        };
        let (intent, extra) = (**intent).clone();
        Ok(Escrow::createAndFundBuyerAuthorizedCall { intent, extra, permit, signature }.abi_encode().into())
    }

    /// Signatures of a key are checked here, with what does not match; a wallet that is a contract decides on
    /// chain, where the simulation asks it.
    pub(crate) async fn check_signed(
        &self,
        messages: &[Signable],
        signatures: &[Bytes],
        signer: Address,
    ) -> Result<(), EvmError> {
        if messages.len() != signatures.len() {
            let what = format!("{} signatures are needed, {} were given", messages.len(), signatures.len());
            return Err(EvmError::Answer(what));
        }
        if self.chain.has_code(signer).await? {
            return Ok(());
        }
        for (message, signature) in messages.iter().zip(signatures) {
            let checked = message.check(signature, signer);
            checked.map_err(|problem| EvmError::Signature { what: message.name(), problem })?;
        }
        Ok(())
    }
}

pub(crate) fn signed_permit(message: &Signable, signature: &[u8]) -> Result<SignedPermit, EvmError> {
    let Message::Permit(permit) = &message.message else {
        return Err(EvmError::Answer("a permit is to be signed".into()));
    };
    let parts = split(signature).ok_or_else(|| EvmError::Answer("a permit needs a key's signature".into()))?;
    let (v, r, s) = parts;
    Ok(SignedPermit { value: permit.value, deadline: permit.deadline, v, r, s })
}

/// How many of the messages are permits: the fee's permit is used after them.
fn permits_in(sign: &[Signable]) -> U256 {
    U256::from(sign.iter().filter(|one| matches!(one.message, Message::Permit(_))).count())
}

fn no_permit() -> SignedPermit {
    SignedPermit { value: U256::ZERO, deadline: U256::ZERO, v: 0, r: B256::ZERO, s: B256::ZERO }
}
