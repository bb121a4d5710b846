//! Following the chain, and the story that `observe` tells of it.
//!
//! # Protocol
//!
//! Only blocks with enough others on top are read, so that what is told is not undone. The story is a chain of
//! pages, each written under a key of its own before the one before it points to it: that step publishes it,
//! and of several processes one wins. A page never changes again, so a cursor (the key of the last page read)
//! leads to the same observations for ever. What a page tells is kept in the holds' notes before it is
//! published; a process that dies in between is repeated, and says the same under the same ids.

use alloy_primitives::{B256, Bytes, U256, keccak256};
use serde::{Deserialize, Serialize};
use tradepost::{
    agreement::{chain::Hash, receipt::SignedReceipt},
    ids::{HoldId, InstructionId},
    rail::{
        Cursor, EscrowNews, Landing, Leg, LegReceipt, Observation, ObservationBody, Observations, Outcome, Party,
        Receipt,
    },
};

use crate::{
    abi::{Agreement, Escrow, EscrowStatus, stage},
    chain::{Block, Log},
    error::EvmError,
    hold::{End, Funded, Funding, Hold, Offer},
    incident::Incident,
    notes,
    rail::{EvmRail, SHARDS},
    receipts::signature_in,
    standing::{Phase, Standing},
};

/// The page before the first.
const ROOT: &str = "root";
/// How many blocks' hashes are remembered, to find out how deep a reorg went.
const MARKS: usize = 64;

/// After how many seconds a hold whose logs do not add up is looked at again.
const LOOK_AGAIN: u64 = 600;
/// A node that does not know a transaction has forgotten it, if so many blocks came after.
const FORGOTTEN: u64 = 1_000;

/// Up to where the chain was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stand {
    /// The last page.
    page: String,
    /// The last block read.
    block: u64,
    /// Blocks read, newest last, the last one among them.
    marks: Vec<(u64, B256)>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Page {
    items: Vec<Observation>,
    next: Option<String>,
}

/// The holds that the contract has, and when each is final if nobody does anything.
type Open = Vec<(HoldId, u64)>;

impl EvmRail {
    /// Reads on: what happened since, once its blocks count.
    pub(crate) async fn read_chain(&self) -> Result<(), EvmError> {
        let found = self.chain.id().await?;
        if found != self.config.chain_id {
            return Err(EvmError::WrongChain { found, configured: self.config.chain_id });
        }
        let head = self.chain.head().await?;
        let target = head.number().saturating_sub(self.config.confirmations);
        let (text, stand) = self.stand().await?;
        let stand = self.back_to_the_chain(stand).await?;
        let to = target.min(stand.block.saturating_add(self.config.blocks_at_once));
        if to <= stand.block {
            return Ok(());
        }
        let Some(block) = self.chain.block(to).await? else { return Ok(()) }; // the node lags
        let logs = self.chain.logs(self.config.escrow, stand.block + 1, to, None).await?;
        if self.chain.block(to).await?.is_none_or(|now| now.hash != block.hash) {
            return Err(EvmError::Contradiction(format!("block {to} changed while it was read")));
        }
        let mut items = self.news(&logs, &stand, &block).await?;
        let fees = self.follow_fees(&block).await?;
        let told: Vec<HoldId> = fees.iter().map(|(hold, _)| *hold).collect();
        items.extend(fees.into_iter().map(|(_, item)| item));
        let mut next = stand.clone();
        if !items.is_empty() {
            let Some(page) = self.publish(&stand.page, items).await? else { return Ok(()) };
            next.page = page;
            self.close_fees(&told).await?;
        }
        next.block = to;
        next.marks.push((to, block.hash));
        if next.marks.len() > MARKS {
            next.marks.remove(0);
        }
        let next = serde_json::to_string(&next).map_err(|e| EvmError::Refused(e.to_string()))?;
        self.memory.swap("chain", text.as_deref(), &next).await?;
        Ok(())
    }

    /// The newest block that was read.
    pub(crate) async fn read_up_to(&self) -> Result<u64, EvmError> {
        Ok(self.stand().await?.1.block)
    }

    /// The time of the newest block that counts.
    pub(crate) async fn settled_time(&self) -> Result<u64, EvmError> {
        let (_, stand) = self.stand().await?;
        Ok(self.chain.block(stand.block).await?.map_or(0, |block| block.time()))
    }

    pub(crate) async fn story(&self, after: &Cursor) -> Result<Observations, EvmError> {
        let at = if after.0.is_empty() { ROOT } else { &after.0 };
        let page: Page = notes::read(&*self.memory, &page_key(at)).await?.unwrap_or_default();
        let Some(next) = page.next else { return Ok(Observations { items: Vec::new(), next: after.clone() }) };
        let page: Option<Page> = notes::read(&*self.memory, &page_key(&next)).await?;
        let page = page.ok_or_else(|| EvmError::Unreadable { key: page_key(&next), why: "it is gone".into() })?;
        Ok(Observations { items: page.items, next: Cursor(next) })
    }

    async fn stand(&self) -> Result<(Option<String>, Stand), EvmError> {
        let text = self.memory.get("chain").await?;
        let begin = || Stand { page: ROOT.into(), block: self.config.first_block.saturating_sub(1), marks: Vec::new() };
        let read = |text: &String| serde_json::from_str(text);
        let unreadable =
            |error: serde_json::Error| EvmError::Unreadable { key: "chain".into(), why: error.to_string() };
        let mut stand = text.as_ref().map(read).transpose().map_err(unreadable)?.unwrap_or_else(begin);
        // Pages that were published by one that died before it could say so.
        while let Some(Page { next: Some(next), .. }) = notes::read(&*self.memory, &page_key(&stand.page)).await? {
            stand.page = next;
        }
        Ok((text, stand))
    }

    /// A reorg deeper than what counts: goes back to the newest block that is still there.
    async fn back_to_the_chain(&self, mut stand: Stand) -> Result<Stand, EvmError> {
        let read = stand.block;
        while let Some((number, hash)) = stand.marks.last().copied() {
            match self.chain.block(number).await? {
                Some(block) if block.hash == hash => break,
                Some(_) => drop(stand.marks.pop()),
                // The node is behind; that proves nothing.
                None => return Ok(Stand { block: read, ..stand }),
            }
            stand.block = stand.marks.last().map_or(self.config.first_block.saturating_sub(1), |(number, _)| *number);
        }
        if stand.block < read {
            self.tell(&Incident::DeepReorg { read, back_to: stand.block });
            for (hold, _) in self.all_open_holds().await? {
                self.change_hold(hold, |note| {
                    note.standing = note.standing.take().filter(|standing| standing.block <= stand.block);
                })
                .await?;
            }
        }
        Ok(stand)
    }

    /// What happened in the blocks just read; kept in the holds' notes.
    async fn news(&self, logs: &[Log], stand: &Stand, block: &Block) -> Result<Vec<Observation>, EvmError> {
        let (mut items, mut touched, mut ours) = (Vec::new(), Vec::<HoldId>::new(), Vec::new());
        for log in logs {
            let Some(agreement) = log.agreement() else { continue };
            let Some(hold) = self.hold_of(agreement).await? else { continue }; // somebody else's
            if log.read::<Escrow::Funded>().is_some() {
                items.extend(self.take_in_funding(hold, agreement, log).await?);
            }
            items.extend(self.statement(hold, agreement, log).await?);
            ours.push((hold, log));
            if !touched.contains(&hold) {
                touched.push(hold);
            }
        }
        for (hold, final_at) in self.all_open_holds().await? {
            if final_at <= block.time() && !touched.contains(&hold) {
                touched.push(hold);
            }
        }
        for hold in touched {
            let Some(note) = self.hold(hold).await? else { continue };
            let end = match note.end {
                Some(end) => Some(end),
                None => match self.take_in_end(hold, &note, &ours, stand, block).await {
                    // What the node cannot say of one keeps no other waiting.
                    Err(error @ (EvmError::Node(_) | EvmError::Contradiction(_) | EvmError::Reverted(_))) => {
                        tracing::warn!(%hold, %error, "a hold is looked at again");
                        self.look_again(hold, block.time()).await?;
                        None
                    }
                    end => end?,
                },
            };
            match end {
                Some(end) if end.at > stand.block => items.push(end.observation),
                // Told in a page before: no money of it moves in the books any more.
                Some(_) => self.close_hold(hold).await?,
                None => {}
            }
        }
        items.extend(self.arrivals(&ours).await?);
        Ok(items)
    }

    /// A receipt that the contract took, or a close (PG-09, PG-19).
    async fn statement(&self, hold: HoldId, agreement: B256, log: &Log) -> Result<Option<Observation>, EvmError> {
        let (receipt, close) = (log.read::<Escrow::ReceiptSubmitted>(), log.read::<Escrow::CloseInitiated>());
        if receipt.is_none() && close.is_none() {
            return Ok(None);
        }
        let Some(funded) = self.funded_by(hold, agreement).await? else { return Ok(None) };
        let (id, news) = match (receipt, close) {
            (Some(receipt), _) => {
                let input = self.input_of(log).await?;
                let signature = signature_in(&input, agreement, receipt.units, receipt.proof);
                let signature = signature.map(|signature| signature.to_string()).unwrap_or_default();
                let units = receipt.units.saturating_to::<i64>();
                let receipt = SignedReceipt { units, proof: Hash(receipt.proof.0), signature };
                (format!("receipt/{agreement}/{units}"), EscrowNews::Receipt(receipt))
            }
            (None, Some(close)) => {
                let (payer, payee) = funded.parties;
                let by = if close.by == funded.terms.seller { Party::Worker(payee) } else { Party::Buyer(payer) };
                let final_at = close.finalAt.saturating_to::<i64>();
                let Some(final_at) = chrono::DateTime::from_timestamp(final_at, 0) else { return Ok(None) };
                (format!("closing/{agreement}"), EscrowNews::Closing { by, final_at })
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Observation { id, body: ObservationBody::Escrow { hold, news } }))
    }

    /// What a log's transaction was sent with; nothing where it is old and the node does not know any more.
    async fn input_of(&self, log: &Log) -> Result<Bytes, EvmError> {
        let (hash, block) = (log.transaction_hash, log.place().0);
        match self.chain.input(hash).await? {
            Some(input) => Ok(input),
            None if self.chain.head().await?.number() > block.saturating_add(FORGOTTEN) => Ok(Bytes::new()),
            // A node that lags: a receipt must not be told without its signature.
            None => Err(EvmError::Contradiction(format!("{hash} has a log that counts, but is not there"))),
        }
    }

    /// What reached the parties' own wallets, unless an instruction's receipt says it.
    async fn arrivals(&self, logs: &[(HoldId, &Log)]) -> Result<Vec<Observation>, EvmError> {
        let mut items: Vec<Observation> = Vec::new();
        for (hold, log) in logs {
            let (paid, withdrew) = (log.read::<Escrow::SellerPaid>(), log.read::<Escrow::BuyerWithdrew>());
            let Some(agreement) = log.agreement().filter(|_| paid.is_some() || withdrew.is_some()) else { continue };
            let Some(funded) = self.funded_by(*hold, agreement).await? else { continue };
            let end = self.hold(*hold).await?.and_then(|note| note.end);
            if end.is_some_and(|end| end.by.is_some()) {
                continue;
            }
            let (payer, payee) = funded.parties;
            let shares = [
                (Party::Worker(payee), paid.as_ref().map(|paid| paid.toSeller)),
                (Party::Platform, paid.as_ref().map(|paid| paid.fee)),
                (Party::Buyer(payer), withdrew.map(|withdrew| withdrew.amount)),
            ];
            for (to, amount) in shares {
                let minor = amount.and_then(|amount| i64::try_from(amount.saturating_to::<u128>()).ok());
                let Some(minor) = minor.filter(|minor| *minor > 0) else { continue };
                let reference = log.transaction_hash.to_string();
                let before = format!("paid/{agreement}/{reference}/");
                let number = items.iter().filter(|item| item.id.starts_with(&before)).count();
                let news = EscrowNews::Paid { to, amount: self.config.money(minor), reference };
                let body = ObservationBody::Escrow { hold: *hold, news };
                items.push(Observation { id: format!("{before}{number}"), body });
            }
        }
        Ok(items)
    }

    async fn funded_by(&self, hold: HoldId, agreement: B256) -> Result<Option<Funded>, EvmError> {
        let funded = self.hold(hold).await?.and_then(|note| note.funded);
        Ok(funded.filter(|funded| funded.agreement == agreement))
    }

    /// The contract has a deposit.
    async fn take_in_funding(&self, hold: HoldId, agreement: B256, log: &Log) -> Result<Option<Observation>, EvmError> {
        let (_, funded) = self
            .change_hold(hold, |note| {
                let block = log.place().0;
                if let Some(funded) = &mut note.funded {
                    if funded.agreement != agreement {
                        return None;
                    }
                    // Told before; a reorg may have put it into another block.
                    funded.block = block;
                    return Some(funded.clone());
                }
                let waits = |one: &&Funding| one.offers.iter().any(|offer| offer.agreement == agreement);
                let funding = note.fundings.iter().find(waits).filter(|funding| funding.declined.is_none())?;
                let offer = funding.offers.iter().find(|offer| offer.agreement == agreement)?;
                let funded = self.funded(funding, offer, block)?;
                (note.funded, note.standing) = (Some(funded.clone()), Some(Standing::at(block.saturating_sub(1))));
                Some(funded)
            })
            .await?;
        let Some(funded) = funded else {
            self.tell(&Incident::LateFunding { hold, agreement });
            return Ok(None);
        };
        let final_at = funded.terms.expiry.to::<u64>() + u64::from(funded.terms.challengeWindow);
        self.open_hold(hold, final_at).await?;
        if self.hold(hold).await?.is_some_and(|note| note.fee.is_some()) {
            self.open_fee(hold).await?;
        }
        Ok(Some(outcome("funded", agreement, funded.receipt.instruction, funded.receipt)))
    }

    /// A deposit that the contract has and no page has told of, for the node kept its log back.
    pub(crate) async fn take_in_unseen(&self, hold: HoldId, agreement: B256) -> Result<Option<Receipt>, EvmError> {
        let mut last = self.read_up_to().await?;
        while last >= self.config.first_block && last > 0 {
            let first = last.saturating_sub(self.config.blocks_at_once.saturating_sub(1)).max(self.config.first_block);
            let logs = self.chain.logs(self.config.escrow, first, last, Some(agreement)).await?;
            if let Some(log) = logs.iter().find(|log| log.read::<Escrow::Funded>().is_some()) {
                self.take_in_funding(hold, agreement, log).await?;
                self.look_again(hold, 0).await?;
                let funded = self.funded_by(hold, agreement).await?;
                return Ok(funded.map(|funded| funded.receipt));
            }
            last = first.saturating_sub(1);
        }
        Ok(None)
    }

    /// The hold's name outside is its agreement's id, which receipts are signed for.
    fn funded(&self, funding: &Funding, offer: &Offer, block: u64) -> Option<Funded> {
        let terms = offer.terms.clone();
        let amount = self.config.money(i64::try_from(terms.deposit.to::<u128>()).ok()?);
        let final_at = terms.expiry.to::<i64>() + i64::from(terms.challengeWindow);
        let receipt = Receipt {
            instruction: funding.id,
            reference: offer.agreement.to_string(),
            amount,
            legs: Vec::new(),
            cost: None,
            hold_expires_at: chrono::DateTime::from_timestamp(final_at, 0),
        };
        let parties = (funding.payer, funding.payee);
        Some(Funded { agreement: offer.agreement, terms, parties, block, receipt })
    }

    /// Whether a hold has ended, and how.
    async fn take_in_end(
        &self,
        hold: HoldId,
        note: &Hold,
        logs: &[(HoldId, &Log)],
        stand: &Stand,
        block: &Block,
    ) -> Result<Option<End>, EvmError> {
        let Some(funded) = &note.funded else { return Ok(None) };
        // What another process has read beyond this page is not of this page.
        let noted = note.standing.clone().filter(|noted| noted.block <= stand.block);
        let mut standing = self.standing(noted, funded, stand.block).await?;
        let its_own = |log: &&Log| log.agreement() == Some(funded.agreement);
        standing.read(logs.iter().map(|(_, log)| *log).filter(its_own), block.number());
        if !standing.funded {
            return Ok(None); // a deep reorg undid the deposit
        }
        let mut shares = None;
        if standing.phase(&funded.terms, block.time()) == Phase::Final {
            shares = self.shares(funded, &standing).await?;
            if shares.is_none() {
                // A node that has not told everything may do so when it is asked again.
                standing = self.standing(None, funded, block.number()).await?;
                shares = self.shares(funded, &standing).await?;
            }
            if shares.is_none() {
                self.tell(&Incident::DoesNotAddUp { hold, agreement: funded.agreement });
                self.look_again(hold, block.time() + LOOK_AGAIN).await?;
                return Ok(None);
            }
        }
        let transaction = standing.transaction.map(|transaction| transaction.to_string());
        let reference = transaction.unwrap_or_else(|| funded.receipt.reference.clone());
        let (note, end) = self
            .change_hold(hold, |note| {
                if note.standing.as_ref().is_none_or(|noted| noted.block < standing.block) {
                    note.standing = Some(standing.clone());
                }
                if note.end.is_none() {
                    note.end = shares.map(|shares| self.end(hold, note, shares, &reference, block.number()));
                }
                note.end.clone()
            })
            .await?;
        // Another process may know of a close already.
        let newest = note.standing.unwrap_or(standing);
        if let (None, Phase::Undecided { final_at }) = (&end, newest.phase(&funded.terms, block.time())) {
            self.open_hold(hold, final_at).await?;
        }
        Ok(end)
    }

    /// Who gets what of an agreement that is final; `None` if its logs do not come to the deposit, or not to what the
    /// contract says was earned: then the node has kept one back.
    async fn shares(&self, funded: &Funded, standing: &Standing) -> Result<Option<[i64; 3]>, EvmError> {
        let Some(shares) = standing.shares(&funded.terms) else { return Ok(None) };
        let now = self.status_now(&funded.terms).await?;
        Ok(match now.status {
            stage::OPEN | stage::CLOSING => {
                let what = format!("{} is final in a block that counts, and not in the newest", funded.agreement);
                return Err(EvmError::Contradiction(what));
            }
            // Settled, and its lane used again.
            stage::NONE => Some(shares),
            _ => Some(shares).filter(|_| now.earned == U256::from(standing.earned)),
        })
    }

    /// A hold is read anew by the first page from a time on.
    async fn look_again(&self, hold: HoldId, at: u64) -> Result<(), EvmError> {
        self.change_hold(hold, |note| note.standing = None).await?;
        self.open_hold(hold, at).await
    }

    /// Where a hold stands on the blocks read so far: as noted, or else as the chain tells it anew.
    pub(crate) async fn standing(
        &self,
        noted: Option<Standing>,
        funded: &Funded,
        read: u64,
    ) -> Result<Standing, EvmError> {
        if let Some(noted) = noted {
            return Ok(noted);
        }
        let mut standing = Standing::at(funded.block.saturating_sub(1));
        standing.read(&self.logs_of(funded.agreement, funded.block, read).await?, read);
        Ok(standing)
    }

    /// What the contract logged of an agreement.
    pub(crate) async fn logs_of(&self, agreement: B256, from: u64, to: u64) -> Result<Vec<Log>, EvmError> {
        let (mut logs, mut from) = (Vec::new(), from);
        while from <= to {
            let last = to.min(from.saturating_add(self.config.blocks_at_once.saturating_sub(1)));
            logs.extend(self.chain.logs(self.config.escrow, from, last, Some(agreement)).await?);
            from = last + 1;
        }
        Ok(logs)
    }

    fn end(&self, hold: HoldId, note: &Hold, shares: [i64; 3], reference: &str, at: u64) -> End {
        let agreement = note.funded.as_ref().map(|funded| funded.agreement).unwrap_or_default();
        let asked = note
            .settlings
            .iter()
            .rev()
            .find(|settling| settling.declined.is_none() && by_party(&settling.legs) == shares);
        if let Some(settling) = asked {
            let landed = |leg: &Leg| {
                let (to, amount, landing) = (leg.to, leg.amount, Landing::Outside);
                LegReceipt { to, amount, landing, reference: reference.into() }
            };
            let receipt = Receipt {
                instruction: settling.id,
                reference: reference.into(),
                amount: self.config.money(shares.iter().sum()),
                legs: settling.legs.iter().map(landed).collect(),
                cost: None,
                hold_expires_at: None,
            };
            let observation = outcome("settled", agreement, settling.id, receipt.clone());
            return End { by: Some(settling.id), at, observation, receipt: Some(receipt) };
        }
        let body = match (shares, note.funded.as_ref().map(|funded| funded.parties)) {
            ([0, 0, _], _) | (_, None) => ObservationBody::HoldExpired { hold },
            ([seller, fees, back], Some((payer, payee))) => {
                let legs = [(Party::Worker(payee), seller), (Party::Platform, fees), (Party::Buyer(payer), back)];
                let legs = legs.into_iter().filter(|(_, minor)| *minor > 0);
                let legs = legs.map(|(to, minor)| Leg { to, amount: self.config.money(minor) }).collect();
                ObservationBody::HoldSettled { hold, reference: reference.into(), legs }
            }
        };
        End { by: None, at, observation: Observation { id: format!("ended/{agreement}"), body }, receipt: None }
    }

    pub(crate) async fn status_at(&self, terms: &Agreement, block: u64) -> Result<EscrowStatus, EvmError> {
        let call = Escrow::statusOfCall { terms: terms.clone() };
        self.chain.read(self.config.escrow, &call, Some(block)).await
    }

    /// Where an agreement stands in the newest block.
    pub(crate) async fn status_now(&self, terms: &Agreement) -> Result<EscrowStatus, EvmError> {
        let call = Escrow::statusOfCall { terms: terms.clone() };
        self.chain.read(self.config.escrow, &call, None).await
    }

    /// Writes a page and publishes it after another; `None` if somebody else published one there.
    async fn publish(&self, after: &str, items: Vec<Observation>) -> Result<Option<String>, EvmError> {
        let text = serde_json::to_string(&items).map_err(|e| EvmError::Refused(e.to_string()))?;
        let name = hex::encode(&keccak256(format!("{after}/{text}"))[..16]);
        notes::change(&*self.memory, &page_key(&name), |before: Option<Page>| {
            Ok((before.is_none().then(|| Page { items: items.clone(), next: None }), ()))
        })
        .await?;
        notes::change(&*self.memory, &page_key(after), |before: Option<Page>| {
            let mut page = before.unwrap_or_default();
            if page.next.is_some() {
                return Ok((None, None));
            }
            page.next = Some(name.clone());
            Ok((Some(page), Some(name.clone())))
        })
        .await
    }

    pub(crate) async fn all_open_holds(&self) -> Result<Open, EvmError> {
        let mut open = Open::new();
        for shard in 0..SHARDS {
            open.extend(self.open_holds(shard).await?);
        }
        Ok(open)
    }

    async fn open_holds(&self, shard: u8) -> Result<Open, EvmError> {
        Ok(notes::read(&*self.memory, &format!("open/{shard}")).await?.unwrap_or_default())
    }

    async fn open_hold(&self, hold: HoldId, final_at: u64) -> Result<(), EvmError> {
        let key = format!("open/{}", crate::rail::shard_of(hold));
        notes::change(&*self.memory, &key, |before: Option<Open>| {
            let mut open = before.unwrap_or_default();
            match open.iter_mut().find(|(one, _)| *one == hold) {
                Some((_, at)) => *at = final_at,
                None => open.push((hold, final_at)),
            }
            Ok((Some(open), ()))
        })
        .await
    }

    async fn close_hold(&self, hold: HoldId) -> Result<(), EvmError> {
        let key = format!("open/{}", crate::rail::shard_of(hold));
        notes::change(&*self.memory, &key, |before: Option<Open>| {
            let mut open = before.unwrap_or_default();
            open.retain(|(one, _)| *one != hold);
            Ok((Some(open), ()))
        })
        .await
    }
}

/// What seller, platform and buyer get, in minor units.
pub(crate) fn by_party(legs: &[Leg]) -> [i64; 3] {
    let mut shares = [0i64; 3];
    for leg in legs {
        let share = match leg.to {
            Party::Worker(_) => &mut shares[0],
            Party::Platform => &mut shares[1],
            Party::Buyer(_) => &mut shares[2],
        };
        *share = share.saturating_add(leg.amount.minor());
    }
    shares
}

fn outcome(what: &str, agreement: B256, instruction: InstructionId, receipt: Receipt) -> Observation {
    let body = ObservationBody::Outcome { instruction, outcome: Outcome::Done(receipt) };
    Observation { id: format!("{what}/{agreement}"), body }
}

fn page_key(page: &str) -> String {
    format!("page/{page}")
}
