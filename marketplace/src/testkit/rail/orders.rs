//! The cases about single instructions.

use futures::{future::join_all, poll};

use super::{
    Case, Fault,
    drive::{Kind, Kit, Process, Step, Stop, fund, instruction, settle},
};
use crate::{
    ids::InstructionId,
    money::Money,
    rail::{Capability, Cursor, Custody, Instruction, Landing, Leg, Order, Outcome, Party, RailErrorKind, Receipt},
};

/// How many requests for one instruction are under way at once.
const AT_ONCE: usize = 8;
/// How far an `execute` gets before it is dropped, in polls.
const DROPPED_AFTER: u32 = 8;

pub(super) async fn run(kit: &mut Kit<'_>, cases: &mut Vec<Case>) {
    for kind in Kind::ALL {
        macro_rules! case {
            ($name:literal, $body:expr) => {
                let end = match kit.lacks(kind) {
                    Some(reason) => Err(Stop::NotApplicable(reason)),
                    None => $body.await,
                };
                cases.push(kit.verdict(format!("{}: {}", kind.word(), $name), end));
            };
        }
        case!("the happy path, every amount and division", happy(kit, kind));
        case!("the same instruction twice", twice(kit, kind));
        case!("twice at once, in two processes", at_once(kit, kind));
        case!("the same id with another order", another_order(kit, kind));
        case!("never executed", never(kit, kind));
        case!("never sent", ends_done(kit, kind, Fault::NotSent));
        case!("busy", ends_done(kit, kind, Fault::Busy));
        case!("the answer lost before the effect", ends_done(kit, kind, Fault::LostBefore));
        case!("the answer lost after the effect", lost_after(kit, kind));
        case!("dropped in the middle", dropped(kit, kind));
        case!("declined", ends_declined(kit, kind, Fault::Declined));
        case!("pending, then done", ends_done(kit, kind, Fault::PendingThenDone));
        case!("pending, then declined", ends_declined(kit, kind, Fault::PendingThenDeclined));
        case!("needs action, then done", needs_action(kit, kind));
        case!("restarted between every two steps", restarted(kit, kind));
        case!("another amount is noticed", noticed(kit, kind, Fault::OtherAmount));
        case!("another currency is noticed", noticed(kit, kind, Fault::OtherCurrency));
        case!("another instruction is noticed", noticed(kit, kind, Fault::OtherInstruction));
        case!("other legs are noticed", noticed(kit, kind, Fault::OtherLegs));
        let end = unsupported(kit, kind).await;
        cases.push(kit.verdict(format!("{}: refused where unsupported", kind.word()), end));
    }
}

async fn happy(kit: &mut Kit<'_>, kind: Kind) -> Result<(), Stop> {
    let amounts = [kit.money(3), kit.money(10_007), kit.money(1_234_567)];
    for amount in amounts {
        match kind {
            Kind::Fund => {
                let instruction = fund(&kit.harness.contract().await, amount);
                moves(kit, instruction).await?;
            }
            Kind::Payout => {
                let instruction = kit.payout(amount).await;
                moves(kit, instruction).await?;
            }
            Kind::Reverse => {
                let paid = kit.paid(amount).await?;
                let rest = paid.to_worker.minor() - 1;
                moves(kit, paid.reverse(kit.exactly(1))).await?;
                if rest > 0 {
                    let whole = paid.reverse(kit.exactly(rest));
                    moves(kit, Instruction { id: InstructionId::derive(whole.contract, 6), ..whole }).await?;
                }
            }
            Kind::Refund => {
                let paid = kit.paid(amount).await?;
                moves(kit, paid.refund(amount)).await?;
            }
            Kind::Settle => {
                for shares in divisions(amount.minor(), kit.profile.can(Capability::Split)) {
                    let (parties, receipt) = kit.funded(amount).await?;
                    let to = [Party::Worker(parties.worker), Party::Platform, Party::Buyer(parties.buyer)];
                    let legs = to.into_iter().zip(shares).filter(|(_, minor)| *minor > 0);
                    let legs = legs.map(|(to, minor)| Leg { to, amount: kit.exactly(minor) }).collect();
                    moves(kit, settle(&parties, &receipt, legs)).await?;
                }
            }
        }
    }
    Ok(())
}

/// Every way to give all of `minor` to some of three parties: evenly, and with one getting nearly all.
fn divisions(minor: i64, split: bool) -> Vec<[i64; 3]> {
    let mut all = Vec::new();
    for subset in 1u32..8 {
        let members: Vec<usize> = (0..3).filter(|i| subset & (1 << i) != 0).collect();
        let others = i64::try_from(members.len()).map_or(0, |n| n - 1);
        if others > 0 && !split {
            continue;
        }
        for favourite in &members {
            for small in [1, minor / (others + 1)] {
                let mut shares = [0; 3];
                members.iter().for_each(|member| shares[*member] = small);
                shares[*favourite] = minor - small * others;
                if !all.contains(&shares) {
                    all.push(shares);
                }
            }
        }
    }
    all
}

/// Carries an instruction out and follows its money through the holdings.
async fn moves(kit: &mut Kit<'_>, mut instruction: Instruction) -> Result<(), Stop> {
    let hold = match &instruction.order {
        Order::Fund { hold, .. } | Order::Settle { hold, .. } => Some(*hold),
        Order::Payout { .. } | Order::Reverse { .. } | Order::Refund { .. } => None,
    };
    let (before, _) = kit.holds(hold).await?;
    let outcome = kit.drive(&mut instruction, Process::Lives, Step::Execute).await?;
    let Outcome::Done(receipt) = &outcome else {
        return Err(Stop::Broke(format!("nothing is wrong with it, yet {outcome:?}")));
    };
    kit.ended(&instruction, &outcome).await?;
    let (after, held) = kit.holds(hold).await?;
    let expected = before + change(&instruction.order, receipt);
    kit.check(after == expected, || {
        format!("holdings went from {before} to {after} instead of {expected} with {receipt:?}")
    })?;
    let full = match &instruction.order {
        Order::Fund { amount, .. } => held.is_none() || held == Some(amount.minor()),
        _ => held.unwrap_or_default() == 0,
    };
    kit.check(full, || format!("the hold is said to hold {held:?} after {receipt:?}"))
}

/// What an effect does to the holdings, in minor units.
fn change(order: &Order, receipt: &Receipt) -> i64 {
    let moved = match order {
        Order::Fund { amount, .. } => amount.minor(),
        Order::Payout { amount, .. } | Order::Refund { amount, .. } => -amount.minor(),
        Order::Reverse { amount, .. } => amount.minor(),
        Order::Settle { .. } => {
            let left = receipt.legs.iter().filter(|leg| leg.landing == Landing::Outside);
            -left.map(|leg| leg.amount.minor()).sum::<i64>()
        }
    };
    moved - receipt.cost.map_or(0, Money::minor)
}

async fn twice(kit: &mut Kit<'_>, kind: Kind) -> Result<(), Stop> {
    let mut instruction = kit.prepare(kind).await?;
    let first = kit.drive(&mut instruction, Process::Lives, Step::Execute).await?;
    let second = kit.drive(&mut instruction, Process::Restarts, Step::Execute).await?;
    kit.check(first == second, || format!("first {first:?}, then {second:?}"))?;
    kit.ended(&instruction, &second).await
}

async fn at_once(kit: &mut Kit<'_>, kind: Kind) -> Result<(), Stop> {
    let mut instruction = kit.prepare(kind).await?;
    let rails = [kit.harness.rail().await, kit.harness.rail().await];
    let answers = join_all((0..AT_ONCE).map(|i| rails[i % 2].execute(&instruction))).await;
    let ends: Vec<Outcome> = answers.into_iter().flatten().filter(Outcome::is_final).collect();
    let outcome = kit.drive(&mut instruction, Process::Lives, Step::Lookup).await?;
    for end in ends {
        kit.check(end == outcome, || format!("one call was told {end:?}, another {outcome:?}"))?;
    }
    done(kit, &instruction, &outcome).await
}

async fn another_order(kit: &mut Kit<'_>, kind: Kind) -> Result<(), Stop> {
    let mut first = kit.prepare(kind).await?;
    let outcome = kit.drive(&mut first, Process::Lives, Step::Execute).await?;
    let mut other = kit.prepare(kind).await?;
    other.id = first.id;
    let rail = kit.harness.rail().await;
    let answer = rail.execute(&other).await;
    let refused = matches!(&answer, Err(error) if error.kind() == RailErrorKind::Refused);
    kit.check(refused, || format!("the id of another order was taken: {answer:?}"))?;
    done(kit, &first, &outcome).await
}

async fn never(kit: &mut Kit<'_>, kind: Kind) -> Result<(), Stop> {
    let mut instruction = kit.prepare(kind).await?;
    for _ in 0..3 {
        let found = kit.harness.rail().await.lookup(&instruction).await;
        kit.check(matches!(found, Ok(None)), || format!("never executed, but lookup says {found:?}"))?;
    }
    let times = kit.harness.times(&instruction).await;
    kit.check(times == 0, || "looking up took effect".into())?;
    let outcome = kit.drive(&mut instruction, Process::Lives, Step::Lookup).await?;
    done(kit, &instruction, &outcome).await
}

async fn ends_done(kit: &mut Kit<'_>, kind: Kind, fault: Fault) -> Result<(), Stop> {
    let mut instruction = kit.prepare(kind).await?;
    kit.harness.arrange(fault).await?;
    let outcome = kit.drive(&mut instruction, Process::Lives, Step::Execute).await?;
    done(kit, &instruction, &outcome).await
}

async fn ends_declined(kit: &mut Kit<'_>, kind: Kind, fault: Fault) -> Result<(), Stop> {
    let mut instruction = kit.prepare(kind).await?;
    kit.harness.arrange(fault).await?;
    let outcome = kit.drive(&mut instruction, Process::Lives, Step::Execute).await?;
    kit.check(matches!(outcome, Outcome::Declined(_)), || format!("declined outside, but {outcome:?}"))?;
    kit.ended(&instruction, &outcome).await?;
    // The engine's next attempt has an id of its own, and nothing stands in its way.
    let mut next = Instruction { id: InstructionId::derive(instruction.contract, 6), answer: None, ..instruction };
    let outcome = kit.drive(&mut next, Process::Lives, Step::Execute).await?;
    done(kit, &next, &outcome).await
}

async fn lost_after(kit: &mut Kit<'_>, kind: Kind) -> Result<(), Stop> {
    let mut instruction = kit.prepare(kind).await?;
    kit.harness.arrange(Fault::LostAfter).await?;
    let rail = kit.harness.rail().await;
    let told = kit.execute(&rail, &instruction).await?;
    let times = kit.harness.times(&instruction).await;
    kit.check(times <= 1, || format!("one call took effect {times} times"))?;
    // What has taken effect can be found; only a world that is not sure yet may still say nothing.
    if times == 1 {
        let found = kit.harness.rail().await.lookup(&instruction).await;
        kit.check(matches!(found, Ok(Some(_))), || format!("it took effect, but lookup says {found:?}"))?;
    }
    let step = if told.is_some() { Step::Execute } else { Step::Lookup };
    let outcome = kit.drive(&mut instruction, Process::Restarts, step).await?;
    done(kit, &instruction, &outcome).await
}

async fn dropped(kit: &mut Kit<'_>, kind: Kind) -> Result<(), Stop> {
    for polls in 1..=DROPPED_AFTER {
        let mut instruction = kit.prepare(kind).await?;
        let rail = kit.harness.rail().await;
        {
            let mut call = rail.execute(&instruction);
            for _ in 0..polls {
                if poll!(&mut call).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let outcome = kit.drive(&mut instruction, Process::Restarts, Step::Lookup).await?;
        done(kit, &instruction, &outcome).await?;
    }
    Ok(())
}

async fn needs_action(kit: &mut Kit<'_>, kind: Kind) -> Result<(), Stop> {
    let mut instruction = kit.prepare(kind).await?;
    kit.harness.arrange(Fault::NeedsAction).await?;
    let rail = kit.harness.rail().await;
    let mut asked = kit.execute(&rail, &instruction).await?;
    for _ in 0..3 {
        let Some(Outcome::NeedsAction(action)) = &asked else {
            return Err(Stop::Broke(format!("a party has to act, but {asked:?}")));
        };
        kit.check(!action.kind.is_empty(), || "a party has to do nothing known".into())?;
        let times = kit.harness.times(&instruction).await;
        kit.check(times == 0, || "it took effect before the party acted".into())?;
        asked = rail.lookup(&instruction).await.map_err(|e| Stop::Broke(format!("lookup: {e}")))?;
    }
    let outcome = kit.drive(&mut instruction, Process::Restarts, Step::Lookup).await?;
    done(kit, &instruction, &outcome).await
}

async fn restarted(kit: &mut Kit<'_>, kind: Kind) -> Result<(), Stop> {
    let faults = [Fault::LostBefore, Fault::LostAfter, Fault::PendingThenDone, Fault::NeedsAction];
    let mut instruction = kit.prepare(kind).await?;
    let outcome = kit.drive(&mut instruction, Process::Restarts, Step::Execute).await?;
    done(kit, &instruction, &outcome).await?;
    for fault in faults {
        let mut instruction = kit.prepare(kind).await?;
        if kit.harness.arrange(fault).await.is_ok() {
            let outcome = kit.drive(&mut instruction, Process::Restarts, Step::Execute).await?;
            done(kit, &instruction, &outcome).await?;
        }
    }
    Ok(())
}

/// What the world did otherwise than asked must be in the receipt, for the engine to see.
async fn noticed(kit: &mut Kit<'_>, kind: Kind, fault: Fault) -> Result<(), Stop> {
    let mut instruction = kit.prepare(kind).await?;
    kit.harness.arrange(fault).await?;
    let outcome = kit.drive(&mut instruction, Process::Lives, Step::Execute).await?;
    let Outcome::Done(receipt) = &outcome else {
        return Err(Stop::Broke(format!("the world did something else, but {outcome:?}")));
    };
    let found = instruction.check(receipt);
    kit.check(found.is_err(), || format!("the world did something else, but the receipt is {receipt:?}"))?;
    let later = kit.harness.rail().await.lookup(&instruction).await;
    kit.check(matches!(&later, Ok(Some(later)) if *later == outcome), || format!("{outcome:?}, later {later:?}"))
}

async fn unsupported(kit: &mut Kit<'_>, kind: Kind) -> Result<(), Stop> {
    let parties = kit.harness.contract().await;
    let (contract, amount) = (parties.contract, kit.amount());
    let half = Leg { to: Party::Worker(parties.worker), amount: kit.exactly(amount.minor() / 2) };
    let rest = Leg { to: Party::Platform, amount: kit.exactly(amount.minor() - half.amount.minor()) };
    let split_only = kind == Kind::Settle && kit.lacks(kind).is_none() && !kit.profile.can(Capability::Split);
    let order = match kind {
        _ if kit.lacks(kind).is_none() && !split_only => {
            return Err(Stop::NotApplicable("the rail supports it".into()));
        }
        Kind::Fund => fund(&parties, amount).order,
        Kind::Settle => {
            let funding = if split_only { kit.funded(amount).await?.1.reference } else { "none".into() };
            Order::Settle { hold: contract.into(), funding, legs: vec![half, rest] }
        }
        Kind::Payout => Order::Payout { agent: parties.worker, destination: parties.destination, amount },
        Kind::Reverse => Order::Reverse { hold: contract.into(), leg: "none".into(), agent: parties.worker, amount },
        Kind::Refund => Order::Refund { hold: contract.into(), funding: "none".into(), payer: parties.buyer, amount },
    };
    let instruction = instruction(contract, 7, order);
    let rail = kit.harness.rail().await;
    let answer = rail.execute(&instruction).await;
    let refused = matches!(&answer, Err(error) if error.kind() == RailErrorKind::Unsupported);
    kit.check(refused, || format!("the profile does not allow it, but {answer:?}"))?;
    let times = kit.harness.times(&instruction).await;
    kit.check(times == 0, || format!("unsupported, but it took effect {times} times"))?;
    if kit.profile.custody == Custody::Internal {
        let found = rail.lookup(&instruction).await;
        let refused = matches!(&found, Err(error) if error.kind() == RailErrorKind::Unsupported);
        kit.check(refused, || format!("nothing is outside, but lookup says {found:?}"))?;
        let seen = rail.observe(&Cursor::default()).await;
        let refused = matches!(&seen, Err(error) if error.kind() == RailErrorKind::Unsupported);
        kit.check(refused, || format!("nothing is outside, but observe says {seen:?}"))?;
    }
    Ok(())
}

async fn done(kit: &mut Kit<'_>, instruction: &Instruction, outcome: &Outcome) -> Result<(), Stop> {
    kit.check(matches!(outcome, Outcome::Done(_)), || format!("it should be done, but {outcome:?}"))?;
    kit.ended(instruction, outcome).await
}
