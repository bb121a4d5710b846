//! What several validators come to, as a pure function.

use super::{Answer, Consensus, Report, Verdict};
use crate::{
    money::Rate,
    policy::{self, ValidationPolicy},
    text,
};

/// The longest reasoning of a report, in characters.
const REASONING: usize = 2000;

/// What the answers come to (VP-18). A validator passes a delivery from the policy's threshold on. Where
/// those that did not answer could still turn it, nobody can tell.
pub fn judge(answers: Vec<Answer>, policy: &ValidationPolicy) -> Report {
    let asked = policy.validators;
    let needed = match policy.consensus {
        policy::Consensus::All => asked,
        policy::Consensus::Majority => asked / 2 + 1,
        policy::Consensus::Any => 1,
    };
    let Consensus { passed, failed, .. } = count(&answers, policy.threshold);
    let unavailable = asked.saturating_sub(passed).saturating_sub(failed);
    let verdict = if passed >= needed {
        Verdict::Passed
    } else if passed + unavailable >= needed {
        Verdict::Unavailable
    } else {
        Verdict::Failed
    };
    Report { verdict, answers }
}

fn count(answers: &[Answer], threshold: Rate) -> Consensus {
    answers.iter().fold(Consensus::default(), |mut counts, answer| {
        match &answer.said {
            Ok(opinion) if opinion.confidence >= threshold => counts.passed += 1,
            Ok(_) => counts.failed += 1,
            Err(_) => counts.unavailable += 1,
        }
        counts
    })
}

impl Report {
    /// How many said what, by the policy's threshold.
    pub fn consensus(&self, policy: &ValidationPolicy) -> Consensus {
        count(&self.answers, policy.threshold)
    }

    /// The least sure opinion; nothing where there was none.
    pub fn confidence(&self) -> Option<Rate> {
        self.answers.iter().filter_map(|answer| answer.said.as_ref().ok()).map(|opinion| opinion.confidence).min()
    }

    /// What everybody said, a line each.
    pub fn reasoning(&self) -> String {
        let line = |answer: &Answer| match &answer.said {
            Ok(opinion) => format!("{}: {}", answer.validator, opinion.reasoning),
            Err(reason) => format!("{}: unavailable: {reason}", answer.validator),
        };
        let lines: Vec<String> = self.answers.iter().map(line).collect();
        let shown: Vec<String> = lines.iter().map(|line| text::shown(line, REASONING)).collect();
        shown.join("\n").chars().take(REASONING).collect()
    }
}
