//! What is to go wrong.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{ids::InstructionId, rail::Landing};

/// How the world treats an instruction. The default is the happy path.
///
/// The answer is that of one call, the rest stays with the instruction from the first call that
/// reaches the world on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script {
    /// What becomes of the answer to this call.
    pub answer: Answer,
    /// What becomes of the instruction.
    pub course: Course,
    /// What its receipts say that is not true.
    pub lie: Option<Lie>,
    /// Where the agents' legs of a settled hold land; the platform's lands where its custody says.
    pub landing: Landing,
    /// What the world charges for it, in minor units; a non-custodial one takes nothing from holds.
    pub cost: u32,
}

impl Default for Script {
    fn default() -> Self {
        Self { answer: Answer::Arrives, course: Course::Straight, lie: None, landing: Landing::Outside, cost: 0 }
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is answered.
    Arrives,
    /// The request never left, and that is known.
    NotSent,
    /// The world is busy for so long, and did nothing.
    Busy(Duration),
    /// The world refuses, and did nothing.
    Refused,
    /// The request is lost on its way, and nobody knows.
    LostBefore,
    /// The request took effect; the answer is lost.
    LostAfter,
}

/// What becomes of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// It takes effect at once, if the money is there.
    Straight,
    /// It is declined.
    Declined,
    /// It is under way until it has been looked up this often, then ends.
    Pending(u32, Ending),
    /// It waits until the instruction carries an answer, then ends.
    NeedsAction(Ending),
}

/// How an instruction ends that did not go straight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It takes effect.
    Done,
    /// It is declined.
    Declined,
}

/// What a receipt says that is not true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// One minor unit more was moved.
    Amount,
    /// It was another currency.
    Currency,
    /// It was another instruction.
    Instruction,
    /// The last leg was not there; for an order without legs, there was one.
    Legs,
}

impl Lie {
    /// Every lie.
    pub const ALL: [Self; 4] = [Self::Amount, Self::Currency, Self::Instruction, Self::Legs];
}

/// How often what goes wrong, in thousandths of all calls or instructions. The default is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chances {
    /// [`Answer::NotSent`], of calls.
    pub not_sent: u32,
    /// [`Answer::Busy`] for a tenth of a second, of calls.
    pub busy: u32,
    /// [`Answer::LostBefore`], of calls.
    pub lost_before: u32,
    /// [`Answer::LostAfter`], of calls.
    pub lost_after: u32,
    /// [`Course::Declined`], of instructions.
    pub declined: u32,
    /// [`Course::Pending`] for one to four lookups, of instructions; one in eight is then declined.
    pub pending: u32,
    /// [`Course::NeedsAction`], of instructions; one in eight is then declined.
    pub needs_action: u32,
    /// One of [`Lie::ALL`], of instructions.
    pub lie: u32,
    /// [`Landing::Held`], of instructions.
    pub held: u32,
    /// The most that an instruction costs, in minor units.
    pub cost_up_to: u32,
}

impl Chances {
    /// What happens to the `attempt`-th call about an instruction (or about none; lookups count down
    /// from the largest number). It depends on nothing else, so that the order in which tasks come to
    /// the world changes nothing about an instruction.
    pub(super) fn roll(&self, seed: u64, about: Option<InstructionId>, attempt: u32) -> Script {
        let (high, low) = about.map_or((0, 0), |id| id.0.as_u64_pair());
        let mut calls = StdRng::seed_from_u64(seed ^ high.rotate_left(17) ^ low ^ (u64::from(attempt) << 32));
        let mut script = Script { answer: self.answer(&mut calls), ..Script::default() };
        if about.is_none() {
            return script;
        }
        let mut life = StdRng::seed_from_u64(seed ^ high ^ low.rotate_left(31) ^ u64::MAX);
        script.course = self.course(&mut life);
        if chance(&mut life, self.lie) {
            script.lie = Some(Lie::ALL[life.random_range(0..Lie::ALL.len())]);
        }
        if chance(&mut life, self.held) {
            script.landing = Landing::Held;
        }
        script.cost = life.random_range(0..=self.cost_up_to);
        script
    }

    fn answer(&self, rng: &mut StdRng) -> Answer {
        let answers = [
            (self.not_sent, Answer::NotSent),
            (self.busy, Answer::Busy(Duration::from_millis(100))),
            (self.lost_before, Answer::LostBefore),
            (self.lost_after, Answer::LostAfter),
        ];
        pick(rng, &answers).unwrap_or(Answer::Arrives)
    }

    fn course(&self, rng: &mut StdRng) -> Course {
        let ending = if rng.random_range(0..8) == 0 { Ending::Declined } else { Ending::Done };
        let courses = [
            (self.declined, Course::Declined),
            (self.pending, Course::Pending(rng.random_range(1..=4), ending)),
            (self.needs_action, Course::NeedsAction(ending)),
        ];
        pick(rng, &courses).unwrap_or(Course::Straight)
    }
}

fn chance(rng: &mut StdRng, thousandths: u32) -> bool {
    rng.random_range(0..1000) < thousandths
}

fn pick<T: Copy>(rng: &mut StdRng, weighted: &[(u32, T)]) -> Option<T> {
    let mut drawn = rng.random_range(0..1000);
    for (thousandths, choice) in weighted {
        if drawn < *thousandths {
            return Some(*choice);
        }
        drawn -= thousandths;
    }
    None
}

/// In which order the world tells what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disorder {
    /// Once each, oldest first.
    #[default]
    None,
    /// Each page begins with some of what was told before, tells some things twice, and is shuffled.
    RepeatedAndShuffled,
}
