//! The arbiter and the validators of a world: right, wrong, unsure, slow, silent, broken, as the seed has it.

use async_trait::async_trait;
use rand::Rng;
use rust_decimal::Decimal;

use super::stage::Stage;
use crate::{
    dispute::{Arbiter, Award, Case, Judgement, NoJudgement},
    money::Rate,
    validation::{Opinion, Submission, Validator},
};

/// Judges by the stage's dice, and takes its time.
pub(super) struct Judge {
    pub(super) stage: Stage,
}

#[async_trait]
impl Arbiter for Judge {
    async fn judge(&self, case: &Case) -> Result<Judgement, NoJudgement> {
        self.stage.think().await;
        let said = self.say();
        self.stage.act().auditor.judged(case.dispute.id, said.as_ref().ok());
        // It breaks down without the noise that a panic makes on standard error.
        said.unwrap_or_else(|Broken| std::panic::resume_unwind(Box::new("the arbiter broke down")))
    }
}

/// The arbiter panics.
struct Broken;

impl Judge {
    fn say(&self) -> Result<Result<Judgement, NoJudgement>, Broken> {
        let mut act = self.stage.act();
        let rng = &mut act.rng;
        let mut share =
            |from: i64, to: i64| Rate::new(Decimal::new(rng.random_range(from..=to), 4)).unwrap_or(Rate::ZERO);
        let (split, confidence) = (share(0, 10_000), share(6_000, 10_000));
        let award = match rng.random_range(0..4) {
            0 => Award::Buyer,
            1 => Award::Worker,
            2 => Award::Split { to_worker: Rate::new(Decimal::new(5, 1)).unwrap_or(Rate::ZERO) },
            _ => Award::Split { to_worker: split },
        };
        let mut reasoning = "It was agreed so.".to_owned();
        let because = || "the world says so".to_owned();
        match rng.random_range(0..20) {
            0 => return Err(Broken),
            1 => return Ok(Err(NoJudgement::Declined { reason: because() })),
            2..5 => return Ok(Err(NoJudgement::Unavailable { reason: because() })),
            5 => reasoning = "x".repeat(10_001),
            6 => reasoning = "\u{202e}".into(),
            _ => {}
        }
        Ok(Ok(Judgement { award, confidence, reasoning }))
    }
}

/// One of a world's validators.
pub(super) struct Checker {
    pub(super) name: &'static str,
    pub(super) stage: Stage,
}

#[async_trait]
impl Validator for Checker {
    fn name(&self) -> &str {
        self.name
    }

    async fn validate(&self, _work: &Submission) -> Result<Opinion, String> {
        self.stage.think().await;
        let (mood, share) = {
            let rng = &mut self.stage.act().rng;
            (rng.random_range(0..12), rng.random_range(0..=10_000))
        };
        match mood {
            0 => std::panic::resume_unwind(Box::new("the validator broke down")),
            1 | 2 => Err("I am not at home".into()),
            _ => {
                let confidence = Rate::new(Decimal::new(share, 4)).unwrap_or(Rate::ZERO);
                Ok(Opinion { confidence, reasoning: "so it looks".into() })
            }
        }
    }
}

impl Stage {
    /// Somebody takes time to think, and now and then the process dies meanwhile.
    async fn think(&self) {
        let thinks = self.act().rng.random_range(0..4);
        for _ in 0..thinks {
            drop(self.pause().await);
        }
        let dies = {
            let mut act = self.act();
            let chance = act.faults.crash_at_rail;
            act.happens(chance)
        };
        if dies {
            self.die().await
        }
    }
}
