//! What the rail writes on Stripe's objects to find them again, and the keys of its requests.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use stripe_types::{RangeBoundsTs, RangeQueryTs};
use tradepost::{
    clock::Timestamp,
    ids::{HoldId, InstructionId},
    rail::Instruction,
};
use uuid::Uuid;

/// How long an idempotency key certainly lives, in seconds: Stripe keeps it for 24 hours at least.
const KEY_LIVES: i64 = 23 * 3600;
/// How far clocks may be apart, in seconds.
const CLOCKS_DIFFER: i64 = 300;
/// How much older than its contract an object of it is looked for, in seconds.
const LOOK_BACK: i64 = 86_400;

pub(crate) const INSTRUCTION: &str = "tradepost_instruction";
pub(crate) const HOLD: &str = "tradepost_hold";
pub(crate) const AGENT: &str = "tradepost_agent";
/// The worker for whom a share of a charge is kept.
pub(crate) const KEPT_FOR: &str = "tradepost_kept_for";
/// The name that a payout from a worker's account was given.
pub(crate) const PAYOUT: &str = "tradepost_payout";
/// What a payment in another currency is worth in the rail's, and what was asked for it, in minor units.
pub(crate) const WORTH: &str = "tradepost_worth";
pub(crate) const PRESENTED: &str = "tradepost_presented";
const ORDER: &str = "tradepost_order";
const LEG: &str = "tradepost_leg";

/// The marks of everything that an instruction makes.
pub(crate) fn of(instruction: &Instruction) -> HashMap<String, String> {
    HashMap::from([(INSTRUCTION.into(), instruction.id.to_string()), (ORDER.into(), digest(instruction))])
}

/// The marks of one leg's object.
pub(crate) fn of_leg(instruction: &Instruction, leg: usize) -> HashMap<String, String> {
    let mut marks = of(instruction);
    marks.insert(LEG.into(), leg.to_string());
    marks
}

/// The mark on a charge that a leg stays in the platform's balance. At most 40 characters.
pub(crate) fn held(instruction: &Instruction, leg: usize) -> String {
    format!("held_{leg}_{}", instruction.id.0.simple())
}

/// The mark on what an instruction would have undone that it was refused, and why. At most 40 characters.
pub(crate) fn refused(instruction: &Instruction) -> String {
    format!("refused_{}", instruction.id.0.simple())
}

/// Which instruction an object belongs to.
pub(crate) fn instruction(marks: &HashMap<String, String>) -> Option<InstructionId> {
    marks.get(INSTRUCTION)?.parse().ok()
}

/// Which hold an object belongs to.
pub(crate) fn hold(marks: &HashMap<String, String>) -> Option<HoldId> {
    marks.get(HOLD)?.parse().ok()
}

/// Which leg an object is of.
pub(crate) fn leg(marks: &HashMap<String, String>) -> Option<usize> {
    marks.get(LEG)?.parse().ok()
}

/// Whether an object of this instruction was made for the same order.
pub(crate) fn same_order(marks: &HashMap<String, String>, instruction: &Instruction) -> bool {
    marks.get(ORDER).is_none_or(|order| *order == digest(instruction))
}

/// What tells two orders apart.
fn digest(instruction: &Instruction) -> String {
    let order = format!("{:?}", instruction.order);
    hex::encode(&Sha256::digest(order)[..16])
}

/// What ties the charge, the transfers and the payouts of a hold together.
pub(crate) fn hold_group(hold: HoldId) -> String {
    format!("hold-{hold}")
}

/// What a payout is found by.
pub(crate) fn payout_group(instruction: InstructionId) -> String {
    format!("payout-{instruction}")
}

/// The key of a request. A key replays what its first request was answered, also a failure; the next
/// generation is used only when it is proved that the one before moved nothing.
pub(crate) fn key(instruction: &Instruction, step: &str, generation: u32) -> String {
    format!("{}-{step}-{generation}", instruction.id)
}

/// Whether every key that this instruction ever used is still kept by Stripe, so that repeating a
/// request is safe without looking first. No instruction is older than its contract, whose id tells
/// when it was made; of a contract whose id does not, nothing is known.
pub(crate) fn keys_are_kept(instruction: &Instruction, now: Timestamp) -> bool {
    let age = made_at(instruction.contract).map(|made| now.timestamp() - made);
    age.is_some_and(|age| (-CLOCKS_DIFFER..KEY_LIVES).contains(&age))
}

/// Where to begin to look for a contract's objects.
pub(crate) fn since(instruction: &Instruction, now: Timestamp) -> Option<RangeQueryTs> {
    let made = made_at(instruction.contract).filter(|made| *made <= now.timestamp() + CLOCKS_DIFFER)?;
    Some(from(made - LOOK_BACK))
}

/// Everything since a moment, in seconds since 1970.
pub(crate) fn from(seconds: i64) -> RangeQueryTs {
    RangeQueryTs::Bounds(RangeBoundsTs { gt: None, gte: Some(seconds), lt: None, lte: None })
}

/// When an id was made, in seconds since 1970.
fn made_at(id: Uuid) -> Option<i64> {
    let made = id.get_timestamp().filter(|_| id.get_version_num() == 7)?;
    i64::try_from(made.to_unix().0).ok()
}
