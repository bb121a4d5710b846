//! What the world knows and a test may ask.

use crate::{
    ids::{AgentId, HoldId, InstructionId},
    money::{Currency, Money},
    rail::{ChargebackStage, Cursor, LegReceipt},
};

use super::{
    script::{Answer, Chances, Disorder, Script},
    world::{Happening, OutsideWorld},
};

/// What an instruction truly did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effects {
    /// How often it took effect: once, unless it has not yet or the rail is broken.
    pub times: u32,
    /// What was moved each time; `None` for an instruction that the world never heard of.
    pub amount: Option<Money>,
    /// Where each leg went.
    pub legs: Vec<LegReceipt>,
}

/// All the world's money in minor units of its currency. At any moment
/// `came_in = in_holds + free + went_out + costs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// What payers and depositors brought.
    pub came_in: i128,
    /// What is held for contracts.
    pub in_holds: i128,
    /// What is held besides: deposits, shares that landed with the rail.
    pub free: i128,
    /// What left for the parties' own accounts.
    pub went_out: i128,
    /// What the world charged.
    pub costs: i128,
}

/// What tests arrange and ask.
impl OutsideWorld {
    /// Treats the next new instruction as `script` says; several wait in line. A script whose answer
    /// keeps the instruction from the world is used up and says nothing about the next call.
    pub fn next(&self, script: Script) {
        self.lock().scripts.push_back(script);
    }

    /// Treats every instruction as `script` says that nothing else was said about.
    pub fn always(&self, script: Script) {
        self.lock().otherwise = script;
    }

    /// Fails the next lookup, observation or question for holdings as `answer` says; several wait in
    /// line.
    pub fn next_read(&self, answer: Answer) {
        self.lock().reads.push_back(answer);
    }

    /// Draws from `seed` what goes wrong, for everything that no script was put in line for.
    pub fn seeded(&self, seed: u64, chances: Chances) {
        self.lock().plan = Some((seed, chances));
    }

    /// Tells observations and pushes in this order from now on.
    pub fn disorder(&self, disorder: Disorder) {
        self.lock().disorder = disorder;
    }

    /// Brings money in for an agent.
    pub fn deposit(&self, agent: AgentId, amount: Money, source: impl Into<String>) {
        self.lock().deposit(agent, amount, source.into());
    }

    /// Tells that an agent's own account takes money.
    pub fn account_ready(&self, agent: AgentId) {
        self.lock().story.push(Happening::Ready(agent));
    }

    /// Gives a hold up now, whatever its expiry is. Without such a hold nothing happens.
    pub fn expire(&self, hold: HoldId) {
        self.lock().expire(hold);
    }

    /// Lets a payer's bank take a hold's payment back, or decide about it: whether there was anything to
    /// take or to decide.
    pub fn charge_back(&self, hold: HoldId, stage: ChargebackStage) -> bool {
        self.lock().charge_back(hold, stage)
    }

    /// Lets an instruction that took effect take effect again, as a broken rail would. [`Books`] no
    /// longer add up then.
    pub fn repeat(&self, instruction: InstructionId) {
        self.lock().repeat(instruction);
    }

    /// What an instruction truly did.
    pub fn effects(&self, instruction: InstructionId) -> Effects {
        self.lock().effects(instruction)
    }

    /// All the money.
    pub fn books(&self) -> Books {
        self.lock().vault.books
    }

    /// What is held for a contract.
    pub fn hold(&self, hold: HoldId) -> Option<Money> {
        self.lock().vault.holds.get(&hold).map(|held| held.amount)
    }

    /// What an agent has outside, taken and given by this rail, in minor units: deposits and funding
    /// count down, refunds, shares and payouts up.
    pub fn outside(&self, agent: AgentId) -> i128 {
        self.lock().vault.outside.get(&agent).copied().unwrap_or_default()
    }

    /// Every agent's balance outside, as [`outside`](Self::outside) has it, by agent.
    pub fn everybody_outside(&self) -> Vec<(AgentId, i128)> {
        self.lock().vault.outside.iter().map(|(agent, minor)| (*agent, *minor)).collect()
    }

    /// What the platform has outside, in minor units: its shares of non-custodial holds.
    pub fn platform_outside(&self) -> i128 {
        self.lock().vault.platform_outside
    }

    /// How often an instruction's outcome was asked for or an instruction executed, in all.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Where the world's story ends now.
    pub fn end(&self) -> Cursor {
        Cursor(self.lock().story.len().to_string())
    }

    /// The world's currency.
    pub fn currency(&self) -> Currency {
        self.lock().vault.currency
    }
}
