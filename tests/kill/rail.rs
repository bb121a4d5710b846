//! A rail whose world outside is a file: what is in it has happened, whoever was killed when.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tradepost::{
    ids::{HoldId, InstructionId, RailId},
    money::{Currency, Money},
    policy::Range,
    rail::{
        Capability, Cursor, Custody, Holdings, Instruction, Landing, LegReceipt, Observation, Observations, Order,
        Outcome, Party, Push, RailError, RailErrorKind, RailProfile, Receipt, SettlementRail,
    },
};

/// See the module.
pub(crate) struct FileRail {
    profile: RailProfile,
    world: Mutex<World>,
}

struct World {
    file: File,
    effects: HashMap<InstructionId, Effect>,
    holds: HashMap<HoldId, Money>,
    /// The platform's shares.
    kept: i64,
}

/// Something that happened: a line of the file.
#[derive(Clone, Serialize, Deserialize)]
struct Effect {
    instruction: Instruction,
    receipt: Receipt,
}

impl FileRail {
    /// The name of the rail.
    pub(crate) const ID: RailId = RailId::new("file");

    /// Reads what has happened. A last line that was cut off has not.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        let mut world = World { file, effects: HashMap::new(), holds: HashMap::new(), kept: 0 };
        for line in text[..whole].lines() {
            world.remember(serde_json::from_str(line)?);
        }
        let profile = RailProfile {
            id: Self::ID,
            currency: Currency::EUR,
            custody: Custody::PerHold,
            capabilities: vec![Capability::Split],
            amounts: Range { min: 1, max: 1_000_000_000 },
            hold_expiry: None,
            reversible_for: None,
        };
        Ok(Self { profile, world: Mutex::new(world) })
    }

    fn world(&self) -> Result<MutexGuard<'_, World>, RailError> {
        self.world.lock().map_err(|_| RailError::new(RailErrorKind::Unknown, "the file could not be written"))
    }
}

impl World {
    fn remember(&mut self, effect: Effect) {
        match &effect.instruction.order {
            Order::Fund { hold, amount, .. } => drop(self.holds.insert(*hold, *amount)),
            Order::Settle { hold, legs, .. } => {
                self.holds.remove(hold);
                let kept = legs.iter().filter(|leg| leg.to == Party::Platform);
                self.kept += kept.map(|leg| leg.amount.minor()).sum::<i64>();
            }
            Order::Payout { .. } | Order::Reverse { .. } | Order::Refund { .. } => {} // refused before
        }
        self.effects.insert(effect.instruction.id, effect);
    }

    /// Lets it happen: from the moment the line is on the disk it has.
    fn carry_out(&mut self, instruction: &Instruction) -> std::io::Result<Receipt> {
        let legs = match &instruction.order {
            Order::Settle { legs, .. } => legs.as_slice(),
            _ => &[],
        };
        let reference = format!("line-{}", self.effects.len());
        let leg = |leg: &tradepost::rail::Leg| LegReceipt {
            to: leg.to,
            amount: leg.amount,
            landing: if leg.to == Party::Platform { Landing::Held } else { Landing::Outside },
            reference: reference.clone(),
        };
        let receipt = Receipt {
            instruction: instruction.id,
            legs: legs.iter().map(leg).collect(),
            reference: reference.clone(),
            amount: instruction.order.amount(),
            cost: None,
            hold_expires_at: None,
        };
        let effect = Effect { instruction: instruction.clone(), receipt: receipt.clone() };
        let mut line = serde_json::to_string(&effect)?;
        line.push('\n');
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()?;
        self.remember(effect);
        Ok(receipt)
    }

    fn may(&self, order: &Order) -> Result<(), RailError> {
        let fits = match order {
            Order::Fund { hold, .. } => !self.holds.contains_key(hold),
            Order::Settle { hold, .. } => self.holds.get(hold) == Some(&order.amount()),
            Order::Payout { .. } | Order::Reverse { .. } | Order::Refund { .. } => false,
        };
        if fits { Ok(()) } else { Err(RailError::new(RailErrorKind::Refused, "the hold is not so")) }
    }
}

#[async_trait]
impl SettlementRail for FileRail {
    fn profile(&self) -> &RailProfile {
        &self.profile
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        let mut world = self.world()?;
        if let Some(before) = world.effects.get(&instruction.id) {
            return Ok(Outcome::Done(before.receipt.clone()));
        }
        world.may(&instruction.order)?;
        let unknown = |e| RailError::new(RailErrorKind::Unknown, "the file could not be written").caused_by(e);
        world.carry_out(instruction).map(Outcome::Done).map_err(unknown)
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        let world = self.world()?;
        Ok(world.effects.get(&instruction.id).map(|effect| Outcome::Done(effect.receipt.clone())))
    }

    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError> {
        Ok(Observations { items: Vec::new(), next: after.clone() })
    }

    fn receive(&self, _push: &Push) -> Result<Vec<Observation>, RailError> {
        Err(RailError::new(RailErrorKind::Unsupported, "a file sends nothing"))
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        let world = self.world()?;
        let holds: Vec<_> = world.holds.iter().map(|(hold, amount)| (*hold, *amount)).collect();
        let total = holds.iter().map(|(_, amount)| amount.minor()).sum::<i64>() + world.kept;
        Ok(Holdings { total: Money::new(total, Currency::EUR), holds })
    }
}
