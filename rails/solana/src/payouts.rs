//! Accepting withdrawals, and telling what became of them. Nothing is sent here.

use solana_pubkey::Pubkey;
use tradepost::{
    ids::InstructionId,
    rail::{Action, Decline, Instruction, Order, Outcome, Party, RailError, RailErrorKind},
};

use crate::{
    address::{AddressError, AddressWarning, CheckedAddress, TOKEN_2022, parse, token_account},
    chain::Account,
    incident::Incident,
    notes::{Payout, PayoutNote, PayoutState, QUEUE, Queued, Stand},
    rail::SolanaRail,
};

/// What an operator is asked for a withdrawal that is too large to go by itself.
const APPROVE: &str = "approve_withdrawal";

impl SolanaRail {
    /// Checks an address to withdraw to, with what the chain knows of it: show the error, or the
    /// warnings, to whoever types it in. The same check is made again with each withdrawal.
    ///
    /// # Errors
    /// The node's or the memory's failure; inside, why money cannot be sent there.
    pub async fn check_address(&self, text: &str) -> Result<Result<CheckedAddress, AddressError>, RailError> {
        let wallet = match parse(text, &self.treasury, &self.config.mint) {
            Ok(wallet) => wallet,
            Err(error) => return Ok(Err(error)),
        };
        let token_account = token_account(&wallet, &self.config.mint);
        self.agents.refresh(&*self.memory).await?;
        if self.agents.owner_of(&token_account).is_some() {
            return Ok(Err(AddressError::Deposit { address: wallet }));
        }
        let (_, found) = self.chain.accounts(&[wallet, token_account]).await?;
        if let Err(error) = check_found(wallet, token_account, found[0].as_ref(), found[1].as_ref()) {
            return Ok(Err(error));
        }
        let mut warnings = Vec::new();
        if self.config.shared_addresses.contains(&wallet) {
            warnings.push(AddressWarning::Shared);
        }
        if found.iter().all(Option::is_none) {
            warnings.push(AddressWarning::Unused);
        }
        Ok(Ok(CheckedAddress { wallet, token_account, warnings }))
    }

    /// Takes a withdrawal back for which nothing was signed yet: it is declined with the code `cancelled`, and as the
    /// engine learns that, the money returns to the agent's wallet. For an operator, in the place of
    /// [`resolve`](tradepost::engine::Session::resolve): that one tells the books, and this rail's queue would pay all
    /// the same.
    ///
    /// # Errors
    /// [`RailErrorKind::Refused`] when it was signed or paid, or the id was used for another order; otherwise the
    /// memory's failure, after which it may be cancelled or not.
    pub async fn cancel(&self, instruction: &Instruction, reason: &str) -> Result<(), RailError> {
        let id = instruction.id;
        let refused = |what: &str| Err(RailError::new(RailErrorKind::Refused, what));
        let decline = Decline { code: "cancelled".into(), message: reason.into() };
        loop {
            // In this order, as in `find`.
            let stand = Stand::read(&*self.memory).await?;
            let Some(note) = PayoutNote::read(&*self.memory, id).await? else {
                // Whoever is about to accept it finds it declined.
                let payout = Payout { order: instruction.order.clone(), state: PayoutState::Declined(decline.clone()) };
                PayoutNote::begin(&*self.memory, id, &payout).await?;
                continue;
            };
            if note.payout.order != instruction.order {
                return refused("the id was used before, for another order");
            }
            match note.payout.state {
                PayoutState::Declined(_) => return Ok(()),
                PayoutState::Done { .. } => return refused("the withdrawal is paid"),
                PayoutState::Held => {
                    note.write(&*self.memory, id, PayoutState::Declined(decline.clone())).await?;
                }
                PayoutState::Accepted if stand.outgoing.carries(id).is_some() => {
                    return refused("a transaction with the withdrawal was signed: it can still land");
                }
                PayoutState::Accepted => {
                    let mut next = stand.outgoing.clone();
                    next.queue.retain(|queued| queued.id != id);
                    if next.declined.iter().all(|(one, _)| *one != id) {
                        next.declined.push((id, decline.clone()));
                    }
                    if stand.write(&*self.memory, next).await?.is_some() {
                        self.close_declined().await?;
                    }
                }
            }
        }
    }

    pub(crate) async fn accept(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        let Order::Payout { destination, amount, .. } = &instruction.order else {
            return Err(RailError::new(RailErrorKind::Unsupported, "pooled custody: only payouts are made outside"));
        };
        loop {
            let Some(note) = PayoutNote::read(&*self.memory, instruction.id).await? else {
                if amount.currency() != self.config.currency || !self.config.amounts.contains(amount.minor()) {
                    let what = format!("{amount} is not within {:?} of {}", self.config.amounts, self.config.currency);
                    return Err(RailError::new(RailErrorKind::Refused, what));
                }
                let checked = match destination {
                    Some(text) => self.check_address(text).await?,
                    None => Err(AddressError::Missing),
                };
                let large = self.config.approval_above.is_some_and(|most| amount.minor() > most);
                let shared = checked.as_ref().ok().filter(|found| found.warnings.contains(&AddressWarning::Shared));
                let shared = shared.map(|found| found.wallet);
                let state = match checked {
                    Err(error) => PayoutState::Declined(error.decline()),
                    Ok(_) if large => PayoutState::Held,
                    Ok(_) => PayoutState::Accepted,
                };
                let payout = Payout { order: instruction.order.clone(), state };
                if PayoutNote::begin(&*self.memory, instruction.id, &payout).await?
                    && let Some(address) = shared
                {
                    self.tell(&Incident::SharedAddress { instruction: instruction.id, address });
                }
                continue; // read back: another process may have been faster
            };
            if note.payout.order != instruction.order {
                return Err(RailError::new(RailErrorKind::Refused, "the id was used before, for another order"));
            }
            let state = match &note.payout.state {
                PayoutState::Done { .. } | PayoutState::Declined(_) => break,
                PayoutState::Accepted => {
                    self.enqueue(instruction.id, amount.minor()).await?;
                    break;
                }
                PayoutState::Held => match decision(instruction) {
                    None => break,
                    Some(Decision::Approve) => {
                        // The queue first: a held withdrawal in the queue is left alone, an accepted
                        // one that is in no queue would be forgotten.
                        self.enqueue(instruction.id, amount.minor()).await?;
                        PayoutState::Accepted
                    }
                    Some(Decision::Refuse(reason)) => {
                        PayoutState::Declined(Decline { code: "refused_by_operator".into(), message: reason })
                    }
                },
            };
            note.write(&*self.memory, instruction.id, state).await?;
        }
        let found = self.find(instruction).await?;
        found.ok_or_else(|| RailError::new(RailErrorKind::Unknown, "the withdrawal's note has gone"))
    }

    pub(crate) async fn find(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        // In this order: what leaves the one has its end in the other already.
        let stand = Stand::read(&*self.memory).await?;
        let Some(note) = PayoutNote::read(&*self.memory, instruction.id).await? else { return Ok(None) };
        if note.payout.order != instruction.order {
            return Err(RailError::new(RailErrorKind::Refused, "the id was used before, for another order"));
        }
        Ok(match note.payout.state {
            PayoutState::Done { receipt, .. } => Some(Outcome::Done(*receipt)),
            PayoutState::Declined(decline) => Some(Outcome::Declined(decline)),
            PayoutState::Held => Some(Outcome::NeedsAction(approval(instruction))),
            PayoutState::Accepted => {
                stand.outgoing.reference(instruction.id).map(|reference| Outcome::Pending { reference })
            }
        })
    }

    /// Puts a withdrawal into the queue, unless it is on its way already or has been.
    async fn enqueue(&self, id: InstructionId, minor: i64) -> Result<(), RailError> {
        loop {
            let stand = Stand::read(&*self.memory).await?;
            let note = PayoutNote::read(&*self.memory, id).await?;
            let ended = note
                .is_none_or(|note| matches!(note.payout.state, PayoutState::Done { .. } | PayoutState::Declined(_)));
            if ended || stand.outgoing.reference(id).is_some() {
                return Ok(());
            }
            if stand.outgoing.queue.len() >= QUEUE {
                let busy = RailErrorKind::Busy(std::time::Duration::from_secs(5));
                return Err(RailError::new(busy, format!("{QUEUE} withdrawals wait already")));
            }
            let mut next = stand.outgoing.clone();
            next.queue.push(Queued { id, failures: 0, minor, rests_until: 0 });
            if stand.write(&*self.memory, next).await?.is_some() {
                return Ok(());
            }
        }
    }
}

/// Whether money can be sent to a wallet, by what the chain knows of it and of its token account.
pub(crate) fn check_found(
    address: Pubkey,
    account: Pubkey,
    wallet: Option<&Account>,
    tokens: Option<&Account>,
) -> Result<(), AddressError> {
    match wallet.map(|found| found.owner) {
        Some(program) if program == spl_token_interface::ID || program == TOKEN_2022 => {
            return Err(AddressError::TokenAccount { address });
        }
        _ if !address.is_on_curve() => return Err(AddressError::OffCurve { address }),
        Some(program) if program != Pubkey::default() => return Err(AddressError::NotAWallet { address, program }),
        _ => {}
    }
    match tokens.and_then(Account::token) {
        Some(token) if token.is_frozen() => Err(AddressError::Frozen { address, account }),
        Some(token) if token.owner != address => Err(AddressError::GivenAway { address, account, owner: token.owner }),
        _ => Ok(()),
    }
}

enum Decision {
    Approve,
    Refuse(String),
}

/// What the operator said: `approve`, or anything else as the reason why not.
fn decision(instruction: &Instruction) -> Option<Decision> {
    instruction.answer.as_ref().map(|answer| match answer.trim() {
        "approve" => Decision::Approve,
        reason => Decision::Refuse(reason.into()),
    })
}

fn approval(instruction: &Instruction) -> Action {
    let payload = match &instruction.order {
        Order::Payout { agent, destination, amount } => {
            let to = destination.as_deref().unwrap_or_default();
            format!("withdrawal of {amount} by agent {agent} to {to}: answer \"approve\", or why not")
        }
        Order::Fund { .. } | Order::Settle { .. } | Order::Reverse { .. } | Order::Refund { .. } => String::new(),
    };
    Action { who: Party::Platform, kind: APPROVE.into(), payload }
}
