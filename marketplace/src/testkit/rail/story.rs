//! The cases about what happens outside: observations, pushes, deposits, expiries.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;

use super::{
    Case,
    drive::{Kind, Kit, PATIENCE, Process, Step, Stop, settle},
};
use crate::{
    ids::HoldId,
    money::Money,
    rail::{
        Capability, Chargeback, ChargebackStage, Cursor, Custody, Instruction, Leg, Observation, ObservationBody,
        Outcome, Party, Push, RailErrorKind,
    },
};

pub(super) async fn run(kit: &mut Kit<'_>, cases: &mut Vec<Case>) {
    macro_rules! case {
        ($name:literal, $body:expr) => {
            let end = $body.await;
            cases.push(kit.verdict($name, end));
        };
    }
    case!("observe: cursors repeat what they told", cursors(kit));
    case!("observe: deposits, once each", deposits(kit));
    case!("observe: a hold is given up", expiry(kit));
    case!("observe: a chargeback of a hold is won", charged_back(kit, Payment::Held, ChargebackStage::Won));
    case!("observe: a chargeback of a hold is lost", charged_back(kit, Payment::Held, ChargebackStage::Lost));
    case!("observe: a chargeback after payout is won", charged_back(kit, Payment::PaidOut, ChargebackStage::Won));
    case!("observe: a chargeback after payout is lost", charged_back(kit, Payment::PaidOut, ChargebackStage::Lost));
    case!("receive: pushes, repeated and out of order", pushes(kit));
    case!("receive: forged pushes", forged(kit));
    case!("receive: refused where unsupported", no_pushes(kit));
    case!("holdings: asking changes nothing", holdings(kit));
}

/// Every event by its id. The same id must always be the same event.
async fn story(kit: &mut Kit<'_>) -> Result<BTreeMap<String, ObservationBody>, Stop> {
    let mut events = BTreeMap::new();
    for (_, items) in kit.walk(&Cursor::default()).await? {
        for item in items {
            tell(kit, &mut events, item)?;
        }
    }
    Ok(events)
}

fn tell(kit: &mut Kit<'_>, events: &mut BTreeMap<String, ObservationBody>, item: Observation) -> Result<(), Stop> {
    let Observation { id, body } = item;
    kit.check(!id.is_empty(), || format!("an event without an id: {body:?}"))?;
    let known = events.entry(id.clone()).or_insert_with(|| body.clone());
    let same = *known == body;
    kit.check(same, || format!("{id} is told as two events, the second {body:?}"))
}

fn observes(kit: &Kit<'_>) -> Result<(), Stop> {
    match kit.profile.custody {
        Custody::Internal => Err(Stop::NotApplicable("nothing happens outside".into())),
        _ => Ok(()),
    }
}

/// Makes some things happen: one of each order the rail knows.
async fn live(kit: &mut Kit<'_>) -> Result<Vec<(Instruction, Outcome)>, Stop> {
    let mut lived = Vec::new();
    for kind in Kind::ALL {
        if kit.lacks(kind).is_none() {
            let mut instruction = kit.prepare(kind).await?;
            let outcome = kit.drive(&mut instruction, Process::Lives, Step::Execute).await?;
            lived.push((instruction, outcome));
        }
    }
    Ok(lived)
}

async fn cursors(kit: &mut Kit<'_>) -> Result<(), Stop> {
    observes(kit)?;
    let lived = live(kit).await?;
    let pages = kit.walk(&Cursor::default()).await?;
    live(kit).await?;
    let whole = story(kit).await?;
    for (cursor, items) in pages {
        let again = kit.harness.rail().await.observe(&cursor).await;
        let again = again.map_err(|e| Stop::Broke(format!("observe after {:?}: {e}", cursor.0)))?;
        let ids: BTreeSet<&str> = again.items.iter().map(|item| item.id.as_str()).collect();
        for item in &items {
            let repeated = ids.contains(item.id.as_str()) && whole.get(&item.id) == Some(&item.body);
            kit.check(repeated, || format!("{:?} told {item:?} once and not again", cursor.0))?;
        }
        let rest: BTreeSet<String> =
            kit.walk(&cursor).await?.into_iter().flat_map(|(_, items)| items).map(|item| item.id).collect();
        kit.check(rest.iter().all(|id| whole.contains_key(id)), || format!("{:?} leads elsewhere", cursor.0))?;
    }
    for (instruction, outcome) in &lived {
        for body in whole.values() {
            if let ObservationBody::Outcome { instruction: id, outcome: seen } = body
                && *id == instruction.id
                && seen.is_final()
            {
                kit.check(seen == outcome, || format!("{outcome:?} was the end, observed was {seen:?}"))?;
            }
        }
    }
    Ok(())
}

async fn deposits(kit: &mut Kit<'_>) -> Result<(), Stop> {
    observes(kit)?;
    if !kit.profile.can(Capability::Deposit) {
        return Err(Stop::NotApplicable("the profile has no deposits".into()));
    }
    for minor in [3, 10_007, 10_007, 999_983] {
        let amount = kit.money(minor);
        let before = story(kit).await?;
        let (held, _) = kit.holds(None).await?;
        let agent = kit.harness.deposit(amount).await?;
        let mut seen = Vec::new();
        for _ in 0..PATIENCE {
            let told = story(kit).await?;
            let new = told.into_iter().filter(|(id, _)| !before.contains_key(id));
            seen = new.filter(|(_, body)| is_deposit_of(body, agent, amount)).map(|(id, _)| id).collect();
            if !seen.is_empty() {
                break;
            }
            kit.harness.advance().await;
        }
        kit.check(seen.len() == 1, || format!("one deposit of {amount} is told as {seen:?}"))?;
        let (holds, _) = kit.holds(None).await?;
        kit.check(holds == held + amount.minor(), || format!("{amount} came in, holdings went {held} to {holds}"))?;
    }
    Ok(())
}

fn is_deposit_of(body: &ObservationBody, whose: crate::ids::AgentId, what: Money) -> bool {
    matches!(body, ObservationBody::Deposit { agent, amount, .. } if *agent == whose && *amount == what)
}

async fn expiry(kit: &mut Kit<'_>) -> Result<(), Stop> {
    if kit.profile.hold_expiry.is_none() || !kit.profile.custody.is_per_hold() {
        return Err(Stop::NotApplicable("holds live for ever".into()));
    }
    let amount = kit.amount();
    let (parties, receipt) = kit.funded(amount).await?;
    let hold = HoldId(parties.contract);
    let (before, _) = kit.holds(Some(hold)).await?;
    kit.harness.expire(hold).await?;
    let mut told = false;
    for _ in 0..PATIENCE {
        told = story(kit).await?.values().any(|body| *body == ObservationBody::HoldExpired { hold });
        if told {
            break;
        }
        kit.harness.advance().await;
    }
    kit.check(told, || "a hold was given up and nobody was told".into())?;
    let (after, held) = kit.holds(Some(hold)).await?;
    // At least this one: where time is what gives holds up, others may have gone with it.
    kit.check(after <= before - amount.minor() && held.unwrap_or_default() == 0, || {
        format!("{amount} went back, holdings went from {before} to {after}, the hold has {held:?}")
    })?;
    let mut late = settle(&parties, &receipt, vec![Leg { to: Party::Worker(parties.worker), amount }]);
    let outcome = kit.drive(&mut late, Process::Lives, Step::Execute).await?;
    kit.check(matches!(outcome, Outcome::Declined(_)), || format!("there is no hold, but {outcome:?}"))?;
    kit.ended(&late, &outcome).await
}

/// Where a payment is that its bank takes back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Payment {
    Held,
    PaidOut,
}

/// The holdings fall by amount and cost when it is opened, rise by the amount when it is won, and each stage is
/// told once.
async fn charged_back(kit: &mut Kit<'_>, payment: Payment, end: ChargebackStage) -> Result<(), Stop> {
    if kit.profile.reversible_for.is_none() || !kit.profile.custody.is_per_hold() {
        return Err(Stop::NotApplicable("no bank takes a payment back".into()));
    }
    let amount = kit.amount();
    let (parties, funding) = match payment {
        Payment::Held => {
            let (parties, receipt) = kit.funded(amount).await?;
            (parties, Some(receipt))
        }
        Payment::PaidOut => (kit.paid(amount).await?.parties, None),
    };
    let hold = HoldId(parties.contract);
    let (before, _) = kit.holds(None).await?;
    kit.harness.charge_back(hold, ChargebackStage::Opened { evidence_due: None }).await?;
    let opened = stage_of(kit, hold, 1).await?;
    kit.check(matches!(opened.stage, ChargebackStage::Opened { .. }), || format!("opened, but {opened:?}"))?;
    kit.check(opened.amount == amount && !opened.reference.is_empty(), || format!("{amount} was taken: {opened:?}"))?;
    let (contested, _) = kit.holds(None).await?;
    let expected = before - amount.minor() - opened.cost.minor();
    kit.check(contested == expected, || format!("holdings went from {before} to {contested}, not {expected}"))?;
    kit.harness.charge_back(hold, end).await?;
    let ended = stage_of(kit, hold, 2).await?;
    let fits = (ended.stage, &ended.reference, ended.amount) == (end, &opened.reference, amount);
    kit.check(fits, || format!("{end:?} was told as {ended:?}, opened as {opened:?}"))?;
    let back = if end == ChargebackStage::Won { amount.minor() } else { 0 };
    let (after, held) = kit.holds(Some(hold)).await?;
    let expected = contested + back - ended.cost.minor();
    kit.check(after == expected, || format!("holdings went from {contested} to {after}, not {expected}"))?;
    let Some(receipt) = funding else { return Ok(()) };
    let mut late = settle(&parties, &receipt, vec![Leg { to: Party::Worker(parties.worker), amount }]);
    let outcome = kit.drive(&mut late, Process::Lives, Step::Execute).await?;
    let divided = matches!(outcome, Outcome::Done(_));
    kit.check(divided == (end == ChargebackStage::Won), || format!("after {end:?} the division is {outcome:?}"))?;
    kit.check(divided || held.unwrap_or_default() == 0, || format!("lost, and the hold has {held:?}"))?;
    kit.ended(&late, &outcome).await
}

/// The newest stage of a hold's chargeback, when so many are told.
async fn stage_of(kit: &mut Kit<'_>, of: HoldId, count: usize) -> Result<Chargeback, Stop> {
    let mut told: Vec<Chargeback> = Vec::new();
    for _ in 0..PATIENCE {
        let pages = kit.walk(&Cursor::default()).await?;
        let mut seen = BTreeSet::new();
        let new = pages.into_iter().flat_map(|(_, items)| items).filter(|item| seen.insert(item.id.clone()));
        told = new
            .filter_map(|item| match item.body {
                ObservationBody::Chargeback(chargeback) if chargeback.hold == of => Some(chargeback),
                _ => None,
            })
            .collect();
        if told.len() >= count {
            break;
        }
        kit.harness.advance().await;
    }
    kit.check(told.len() == count, || format!("{count} stages are told as {told:?}"))?;
    // An end may be told before the beginning.
    let is_end = |chargeback: &Chargeback| !matches!(chargeback.stage, ChargebackStage::Opened { .. });
    let newest = told.iter().position(is_end).unwrap_or_default();
    Ok(told.swap_remove(newest))
}

async fn some_pushes(kit: &mut Kit<'_>) -> Result<Vec<Push>, Stop> {
    if !kit.profile.can(Capability::Push) {
        return Err(Stop::NotApplicable("the profile has no pushes".into()));
    }
    live(kit).await?;
    for _ in 0..PATIENCE {
        let pushes = kit.harness.pushes().await?;
        if !pushes.is_empty() {
            return Ok(pushes);
        }
        kit.harness.advance().await;
    }
    Err(Stop::Broke("the profile has pushes, but none came".into()))
}

async fn pushes(kit: &mut Kit<'_>) -> Result<(), Stop> {
    let pushes = some_pushes(kit).await?;
    let mut events = story(kit).await?;
    let known = events.len();
    let rail = kit.harness.rail().await;
    for push in pushes.iter().chain(pushes.iter().rev()) {
        let told = rail.receive(push).map_err(|e| Stop::Broke(format!("a true push: {e}")))?;
        for item in told {
            tell(kit, &mut events, item)?;
        }
    }
    kit.check(events.len() == known, || "a push tells an event under an id that observe does not know".into())
}

async fn forged(kit: &mut Kit<'_>) -> Result<(), Stop> {
    let pushes = some_pushes(kit).await?;
    let rail = kit.harness.rail().await;
    for push in pushes.iter().take(10) {
        for (how, forgery) in forgeries(push) {
            let answer = rail.receive(&forgery);
            let seen = matches!(&answer, Err(error) if error.kind() == RailErrorKind::Forged);
            kit.check(seen, || format!("{how}, but {answer:?}"))?;
        }
    }
    Ok(())
}

/// What a forger who has seen a true push could send.
fn forgeries(push: &Push) -> Vec<(&'static str, Push)> {
    let with = |change: fn(&mut Push)| {
        let mut forgery = push.clone();
        change(&mut forgery);
        forgery
    };
    vec![
        ("the last byte was changed", with(|p| p.body.iter_mut().last().into_iter().for_each(|byte| *byte ^= 1))),
        ("a byte was added", with(|p| p.body.push(b' '))),
        ("the body is gone", with(|p| p.body.clear())),
        ("the headers are gone", with(|p| p.headers.clear())),
        ("every header is empty", with(|p| p.headers.iter_mut().for_each(|(_, value)| value.clear()))),
        ("it was kept for ten years", with(|p| p.received_at += TimeDelta::days(3650))),
    ]
}

async fn no_pushes(kit: &mut Kit<'_>) -> Result<(), Stop> {
    if kit.profile.can(Capability::Push) {
        return Err(Stop::NotApplicable("the rail takes pushes".into()));
    }
    let received_at = crate::clock::Timestamp::UNIX_EPOCH;
    let answer = kit.harness.rail().await.receive(&Push { headers: Vec::new(), body: b"{}".to_vec(), received_at });
    let refused = matches!(&answer, Err(error) if error.kind() == RailErrorKind::Unsupported);
    kit.check(refused, || format!("the profile has no pushes, but {answer:?}"))
}

async fn holdings(kit: &mut Kit<'_>) -> Result<(), Stop> {
    let first = kit.holds(None).await?;
    if kit.profile.custody != Custody::Internal {
        story(kit).await?;
    }
    let second = kit.holds(None).await?;
    kit.check(first == second, || format!("asked twice, answered {first:?} and {second:?}"))
}
