//! Every rule of a wallet, as one pure function.

use super::{Payout, PayoutPurpose, SavedAddress, Wallet, WalletCommand, WalletEvent, withheld};
use crate::{
    actor::Actor,
    agent::AgentStatus,
    clock::Timestamp,
    error::Rejection,
    ids::{InstructionId, OwnerId},
    ledger::{Account, LedgerError, Movement, RevenueKind, TransferKind, available},
    money::Money,
    policy::{Policy, Range, Switch, WithdrawalPolicy},
    rail::{Capability, Custody, Instruction, Order, Outcome, RailProfile, Receipt},
    text,
};

/// An address's length, in characters.
const ADDRESS: Range<u32> = Range { min: 1, max: 200 };

/// What a decision may look at besides the wallet and the command.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The present moment.
    pub now: Timestamp,
    /// Who gives the command.
    pub actor: &'a Actor,
    /// Who is behind the agent, where agents are kept here.
    pub owner: Option<OwnerId>,
    /// Where the agent is in its life, where agents are kept here.
    pub standing: Option<AgentStatus>,
    /// The newest policy.
    pub policy: &'a Policy,
    /// The rail that wallets lie with.
    pub rail: &'a RailProfile,
    /// What the agent may spend.
    pub available: Money,
    /// What the agent owes; nothing or more.
    pub debt: Money,
}

/// What a command does: plain data, written in one transaction or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The wallet as it will be.
    pub wallet: Wallet,
    /// What happened, in order.
    pub events: Vec<WalletEvent>,
    /// What moves in the ledger.
    pub movement: Movement,
    /// What the rail is asked to do now.
    pub instruction: Option<Instruction>,
}

/// Decides a command.
///
/// # Errors
/// The [`Rejection`] of the first rule that refuses.
pub fn decide(wallet: &Wallet, command: &WalletCommand, ctx: &Context<'_>) -> Result<Decision, Rejection> {
    authorize(wallet, command, ctx)?;
    in_standing(wallet, command, ctx)?;
    let mut draft = Draft {
        wallet: wallet.clone(),
        command: command.name(),
        events: Vec::new(),
        movement: Movement::new(),
        instruction: None,
        ctx,
    };
    match command {
        WalletCommand::SetAddress { address } => draft.set_address(address)?,
        WalletCommand::Withdraw { amount } => draft.withdraw(*amount)?,
        WalletCommand::Panic => draft.panic()?,
        WalletCommand::PayOut => draft.pay_out()?,
        WalletCommand::RecordOutcome { instruction, outcome } => draft.record_outcome(instruction, outcome)?,
        WalletCommand::RecordAccountReady => draft.account_ready()?,
        WalletCommand::RecordKept { asked_at } => draft.kept(*asked_at)?,
    }
    let Draft { wallet, events, movement, instruction, .. } = draft;
    Ok(Decision { wallet, events, movement, instruction })
}

/// Who may give which command to this wallet. Where the money goes is fixed for some of them, so that
/// operators may give those in the agent's place.
fn authorize(wallet: &Wallet, command: &WalletCommand, ctx: &Context<'_>) -> Result<(), Rejection> {
    let own = *ctx.actor == Actor::Agent(wallet.agent)
        || matches!(ctx.actor, Actor::Owner(owner) if ctx.owner == Some(*owner));
    let operator = matches!(ctx.actor, Actor::Operator(_));
    let (may, allowed) = match command {
        WalletCommand::SetAddress { .. } | WalletCommand::Withdraw { .. } => (own, "the agent or its owner"),
        WalletCommand::Panic | WalletCommand::PayOut => (own || operator, "the agent, its owner or an operator"),
        WalletCommand::RecordOutcome { .. } | WalletCommand::RecordAccountReady | WalletCommand::RecordKept { .. } => {
            (*ctx.actor == Actor::Rail(ctx.rail.id), "the wallet's rail")
        }
    };
    match may {
        true => Ok(()),
        false => Err(Rejection::WrongActor { command: command.name(), allowed, actor: ctx.actor.clone() }),
    }
}

/// A stopped agent moves nothing by itself. One that is not active yet may have back what it sent.
fn in_standing(wallet: &Wallet, command: &WalletCommand, ctx: &Context<'_>) -> Result<(), Rejection> {
    use AgentStatus::{Active, AwaitingDeposit, AwaitingFee, PendingVerification};
    let allowed: &[AgentStatus] = match (command, ctx.actor) {
        (
            WalletCommand::RecordOutcome { .. } | WalletCommand::RecordAccountReady | WalletCommand::RecordKept { .. },
            _,
        )
        | (_, Actor::Operator(_)) => &AgentStatus::ALL,
        (WalletCommand::SetAddress { .. } | WalletCommand::Withdraw { .. }, _) => &[Active],
        (WalletCommand::Panic | WalletCommand::PayOut, _) => {
            &[PendingVerification, AwaitingFee, AwaitingDeposit, Active]
        }
    };
    match ctx.standing.filter(|status| !allowed.contains(status)) {
        None => Ok(()),
        Some(status) => {
            let (command, agent, allowed) = (command.name(), wallet.agent, allowed.to_vec());
            Err(Rejection::WrongAgentStatus { command, agent, status, allowed })
        }
    }
}

/// Whether a text can be an address. Whether it is one, the rail knows.
pub(super) fn check_address(field: &'static str, address: &str) -> Result<(), Rejection> {
    text::line(field, address, ADDRESS)?;
    match address.contains(char::is_whitespace) {
        true => Err(Rejection::Form { field, form: "without spaces" }),
        false => Ok(()),
    }
}

/// A decision in the making.
#[derive(Clone)]
struct Draft<'a> {
    wallet: Wallet,
    command: &'static str,
    events: Vec<WalletEvent>,
    movement: Movement,
    instruction: Option<Instruction>,
    ctx: &'a Context<'a>,
}

impl<'a> Draft<'a> {
    fn withdrawals(&self) -> Result<&'a WithdrawalPolicy, Rejection> {
        let offered = self.ctx.policy.wallet.as_ref().and_then(|wallet| wallet.withdrawals.as_ref());
        offered.ok_or(Rejection::NotOffered { what: "withdrawals" })
    }

    /// The first address is good at once; a changed one cools down (JP-25).
    fn set_address(&mut self, address: &str) -> Result<(), Rejection> {
        let cool_down = self.withdrawals()?.address_cool_down;
        check_address("withdrawal address", address)?;
        let (agent, now) = (self.wallet.agent, self.ctx.now);
        let saved = SavedAddress { address: address.into(), since: now };
        let before = match &self.wallet.address {
            Some(before) if before.address == address => return Ok(()),
            before => before.clone(),
        };
        self.wallet.address = Some(saved);
        let address = address.into();
        self.events.push(match before {
            None => WalletEvent::AddressSet { agent, address },
            Some(before) => {
                let cools_until = now + cool_down.delta();
                self.wallet.cools_until = Some(cools_until);
                WalletEvent::AddressChanged { agent, address, before: before.address, cools_until }
            }
        });
        Ok(())
    }

    fn withdraw(&mut self, amount: Money) -> Result<(), Rejection> {
        let policy = *self.withdrawals()?;
        let Some(to) = self.wallet.address.as_ref().map(|saved| saved.address.clone()) else {
            return Err(Rejection::Missing { field: "withdrawal address" });
        };
        if let Some(next) = self.wallet.cools_until.filter(|until| self.ctx.now < *until) {
            return Err(Rejection::TooSoon { command: self.command, next });
        }
        let fee = Money::new(policy.fee, self.ctx.policy.currency);
        fee.plus(amount)?;
        let Range { min, max } = self.ctx.rail.amounts;
        let least = policy.min.max(min.saturating_add(policy.fee));
        let most = max.saturating_add(policy.fee);
        self.in_range(amount, least, most)?;
        let left = self.repay_debt()?;
        if left.minor() < amount.minor() {
            let account = available(self.wallet.agent);
            return Err(LedgerError::Overdraft { account, needed: amount, available: left }.into());
        }
        self.send(PayoutPurpose::Withdrawal, amount, fee, Some(to))
    }

    /// Past any cool-down, without a fee and without a least amount but the rail's own (JP-27).
    fn panic(&mut self) -> Result<(), Rejection> {
        if self.withdrawals()?.panic == Switch::Off {
            return Err(Rejection::NotOffered { what: "a panic" });
        }
        let Some(to) = self.wallet.emergency.as_ref().map(|saved| saved.address.clone()) else {
            return Err(Rejection::Missing { field: "emergency address: no deposit has come from outside yet" });
        };
        self.send_everything(PayoutPurpose::Panic, Some(to))
    }

    fn pay_out(&mut self) -> Result<(), Rejection> {
        self.must_be_per_hold()?;
        self.send_everything(PayoutPurpose::Earnings, None)
    }

    fn must_be_per_hold(&self) -> Result<(), Rejection> {
        let (command, rail, needed) = (self.command, self.ctx.rail, Custody::PerHold);
        match rail.custody == needed {
            true => Ok(()),
            false => Err(Rejection::WrongRail { command, rail: rail.id, needed }),
        }
    }

    /// What the rail kept because there was no account leaves for it now.
    fn account_ready(&mut self) -> Result<(), Rejection> {
        self.must_be_per_hold()?;
        self.wallet.ready_at = Some(self.ctx.now);
        self.pay_out_by_itself();
        Ok(())
    }

    /// A share is here. If the account became ready after the rail was asked for it, that was told too early for
    /// this share, and is not told again.
    fn kept(&mut self, asked_at: Timestamp) -> Result<(), Rejection> {
        self.must_be_per_hold()?;
        if self.wallet.ready_at.is_some_and(|ready_at| ready_at >= asked_at) {
            self.pay_out_by_itself();
        }
        Ok(())
    }

    /// Pays out by the rules that hold for the agent's own word. What one of them refuses stays where it is.
    fn pay_out_by_itself(&mut self) {
        let mut paid = self.clone();
        let allowed = in_standing(&self.wallet, &WalletCommand::PayOut, self.ctx);
        if allowed.and_then(|()| paid.pay_out()).is_ok() {
            *self = paid;
        }
    }

    /// Sends what is there, as far as the rail takes it at once: the rest stays, for the next time.
    fn send_everything(&mut self, purpose: PayoutPurpose, to: Option<String>) -> Result<(), Rejection> {
        let left = self.repay_debt()?;
        let Range { min, max } = self.ctx.rail.amounts;
        let amount = Money::new(left.minor().min(max), left.currency());
        self.in_range(amount, min.max(1), max)?;
        self.send(purpose, amount, Money::zero(amount.currency()), to)
    }

    fn in_range(&self, amount: Money, min: i64, max: i64) -> Result<(), Rejection> {
        match (min..=max).contains(&amount.minor()) {
            true => Ok(()),
            false => {
                let (currency, actual) = (amount.currency(), amount.minor());
                Err(Rejection::Amount { field: "amount", currency, min, max, actual })
            }
        }
    }

    /// What the agent owes comes first; what is left then.
    fn repay_debt(&mut self) -> Result<Money, Rejection> {
        let (agent, now) = (self.wallet.agent, withheld(self.ctx.available, self.ctx.debt)?);
        self.movement.transfer(available(agent), Account::Debt(agent), now, TransferKind::DebtRepaid)?;
        Ok(self.ctx.available.minus(now)?)
    }

    /// Writes down what the rail is asked to pay: the amount without the fee.
    fn send(&mut self, purpose: PayoutPurpose, amount: Money, fee: Money, to: Option<String>) -> Result<(), Rejection> {
        let (rail, agent) = (self.ctx.rail, self.wallet.agent);
        if !rail.can(Capability::Payout) {
            return Err(Rejection::Unsupported { rail: rail.id, capability: Capability::Payout });
        }
        let (max, actual) = (Wallet::PAYOUTS, self.wallet.payouts.len());
        if actual >= max as usize {
            return Err(Rejection::TooMany { field: "payouts on their way", max, actual });
        }
        self.movement.transfer(available(agent), Account::Pending(agent), amount, TransferKind::Withdrawal)?;
        let contract = self.wallet.id.0;
        let instruction = InstructionId::derive(contract, self.wallet.instructions);
        self.wallet.instructions += 1;
        let order = Order::Payout { agent, destination: to.clone(), amount: amount.minus(fee)? };
        self.instruction = Some(Instruction { id: instruction, contract, order, answer: None });
        let asked_at = self.ctx.now;
        self.wallet.payouts.push(Payout { instruction, purpose, amount, fee, to: to.clone(), asked_at });
        self.events.push(WalletEvent::PayoutRequested { agent, instruction, purpose, amount, fee, to });
        Ok(())
    }

    fn record_outcome(&mut self, instruction: &Instruction, outcome: &Outcome) -> Result<(), Rejection> {
        let (agent, id) = (self.wallet.agent, instruction.id);
        let place = self.wallet.payouts.iter().position(|payout| payout.instruction == id);
        let place = place.ok_or_else(|| Rejection::NotFound { what: "payout on its way", id: id.to_string() })?;
        match outcome {
            Outcome::Pending { .. } => {}
            Outcome::NeedsAction(action) => {
                let mut action = action.clone();
                action.payload.clear(); // the party's alone
                self.events.push(WalletEvent::ActionRequired { agent, instruction: id, action });
            }
            Outcome::Done(receipt) => {
                instruction.check(receipt)?;
                let payout = self.wallet.payouts.remove(place);
                self.paid_out(&payout, receipt)?;
            }
            Outcome::Declined(decline) => {
                let Payout { amount, .. } = self.wallet.payouts.remove(place);
                let back = TransferKind::WithdrawalReturned;
                self.movement.transfer(Account::Pending(agent), available(agent), amount, back)?;
                let decline = decline.clone();
                self.events.push(WalletEvent::PayoutFailed { agent, instruction: id, amount, decline });
            }
        }
        Ok(())
    }

    /// The money has left; what it cost the agent is the platform's now, and what it cost the platform
    /// is booked.
    fn paid_out(&mut self, payout: &Payout, receipt: &Receipt) -> Result<(), Rejection> {
        let (agent, rail) = (self.wallet.agent, self.ctx.rail.id);
        let pending = Account::Pending(agent);
        let (fees, kind) = (Account::Revenue(RevenueKind::Withdrawals), TransferKind::WithdrawalFee);
        self.movement.transfer(pending, Account::Rail(rail), receipt.amount, TransferKind::Payout)?;
        self.movement.transfer(pending, fees, payout.fee, kind)?;
        self.movement.rail_cost(rail, receipt.cost)?;
        self.events.push(WalletEvent::PaidOut {
            agent,
            instruction: payout.instruction,
            amount: receipt.amount,
            fee: payout.fee,
            reference: receipt.reference.clone(),
        });
        Ok(())
    }
}
