//! The scripted rail's own promises: the truth it keeps, its seeds, its faults.

use tradepost::{
    ids::InstructionId,
    money::{Currency, Money},
    rail::{Custody, Instruction, Landing, Leg, Order, Outcome, Party, RailError, RailErrorKind, SettlementRail},
    testkit::{Books, Chances, Effects, OutsideWorld, Script, ScriptedRail},
};

use super::harness::Scripted;

const TROUBLE: Chances = Chances {
    not_sent: 50,
    busy: 50,
    lost_before: 50,
    lost_after: 50,
    declined: 50,
    pending: 150,
    needs_action: 100,
    lie: 20,
    held: 100,
    cost_up_to: 3,
};

/// A settlement of a fresh hold, funded without trouble.
fn settlement(fund: &Instruction, funding: String, worker: Party) -> Instruction {
    let Order::Fund { hold, amount, .. } = &fund.order else { panic!("{fund:?}") };
    let fee = Money::new(amount.minor() / 7, amount.currency());
    let legs = vec![
        Leg { to: worker, amount: Money::new(amount.minor() - fee.minor(), amount.currency()) },
        Leg { to: Party::Platform, amount: fee },
    ];
    let order = Order::Settle { hold: *hold, funding, legs };
    Instruction { id: InstructionId::derive(fund.contract, 1), contract: fund.contract, order, answer: None }
}

/// What the engine does with an instruction, in short.
async fn finish(rail: &ScriptedRail, instruction: &mut Instruction) -> Outcome {
    let mut look = false;
    for _ in 0..200 {
        let answer = match look {
            true => rail.lookup(instruction).await,
            false => rail.execute(instruction).await.map(Some),
        };
        match answer {
            Ok(Some(outcome)) if outcome.is_final() => return outcome,
            Ok(Some(Outcome::NeedsAction(_))) => (instruction.answer, look) = (Some("yes".into()), false),
            Ok(Some(_)) => look = true,
            Ok(None) => look = false,
            Err(error) => look |= error.kind() == RailErrorKind::Unknown,
        }
    }
    panic!("no end of {instruction:?}");
}

async fn run(seed: u64, jobs: i64) -> (Vec<Outcome>, Books, OutsideWorld) {
    let scripted = Scripted::new(Custody::PerHold, Currency::EUR);
    scripted.world.seeded(seed, TROUBLE);
    let rail = scripted.scripted_rail();
    let mut outcomes = Vec::new();
    for job in 0..jobs {
        let mut fund = scripted.fund(1000 + job);
        let funded = finish(&rail, &mut fund).await;
        let times = scripted.world.effects(fund.id).times;
        assert_eq!(times, u32::from(matches!(funded, Outcome::Done(_))), "seed {seed}: {funded:?}");
        if let Outcome::Done(receipt) = &funded {
            let mut settle = settlement(&fund, receipt.reference.clone(), Party::Worker(scripted.agent()));
            let settled = finish(&rail, &mut settle).await;
            let times = scripted.world.effects(settle.id).times;
            assert_eq!(times, u32::from(matches!(settled, Outcome::Done(_))), "seed {seed}: {settled:?}");
            outcomes.push(settled);
        }
        outcomes.push(funded);
    }
    let books = scripted.world.books();
    (outcomes, books, scripted.world)
}

#[tokio::test]
async fn the_same_seed_gives_the_same_run_and_the_books_add_up() {
    for seed in 0..20 {
        let (outcomes, books, world) = run(seed, 200).await;
        let (again, books_again, _) = run(seed, 200).await;
        assert_eq!((&outcomes, books), (&again, books_again));
        assert_ne!(outcomes, run(seed + 1000, 200).await.0);
        assert_eq!(books.came_in, books.in_holds + books.free + books.went_out + books.costs, "seed {seed}");
        let everybody: i128 = world.everybody_outside().iter().map(|(_, minor)| minor).sum();
        assert_eq!(everybody + world.platform_outside(), books.went_out - books.came_in, "seed {seed}");
        let declined = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Declined(_)));
        assert!(declined && books.costs > 0 && books.free > 0, "seed {seed} is too kind: {books:?}");
    }
}

/// What goes wrong with an instruction does not depend on what others do meanwhile.
#[tokio::test]
async fn a_seed_says_the_same_about_an_instruction_in_any_order() {
    async fn answers(order: impl Iterator<Item = usize>) -> Vec<(InstructionId, String)> {
        let scripted = Scripted::new(Custody::PerHold, Currency::EUR);
        scripted.world.seeded(5, TROUBLE);
        let (rail, instructions) = (scripted.scripted_rail(), [1; 100].map(|minor| scripted.fund(minor)));
        let mut told = Vec::new();
        for i in order {
            let answer: Result<Outcome, RailError> = rail.execute(&instructions[i]).await;
            let word = match answer {
                Ok(Outcome::Done(_)) => "done".into(),
                Ok(Outcome::Pending { .. }) => "pending".into(),
                Ok(Outcome::NeedsAction(_)) => "needs action".into(),
                Ok(Outcome::Declined(_)) => "declined".into(),
                Err(e) => e.to_string(),
            };
            told.push((instructions[i].id, word));
        }
        told.sort();
        told
    }
    let forwards = answers(0..100).await;
    assert_eq!(forwards, answers((0..100).rev()).await);
    assert!(forwards.iter().any(|(_, word)| word == "pending") && forwards.iter().any(|(_, word)| word == "done"));
}

#[tokio::test]
async fn the_world_declines_what_the_money_does_not_allow() {
    let scripted = Scripted::new(Custody::PerHold, Currency::EUR);
    let rail = scripted.scripted_rail();
    let code =
        |outcome: Outcome| if let Outcome::Declined(decline) = outcome { decline.code } else { format!("{outcome:?}") };
    let worker = Party::Worker(scripted.agent());

    let mut fund = scripted.fund(700);
    let Outcome::Done(receipt) = finish(&rail, &mut fund).await else { panic!("not funded") };
    let Order::Fund { hold, .. } = fund.order else { panic!("{fund:?}") };
    assert_eq!(scripted.world.hold(hold), Some(Money::new(700, Currency::EUR)));

    let again = Instruction { id: InstructionId::derive(fund.contract, 9), ..fund.clone() };
    assert_eq!(code(finish(&rail, &mut again.clone()).await), "hold_exists");

    let good = settlement(&fund, receipt.reference, worker);
    let mut number = 10;
    let mut tried = |change: &dyn Fn(&mut Vec<Leg>, &mut String)| {
        let mut bad = good.clone();
        number += 1;
        bad.id = InstructionId::derive(fund.contract, number);
        if let Order::Settle { legs, funding, .. } = &mut bad.order {
            change(legs, funding);
        }
        bad
    };
    let mut short = tried(&|legs, _| legs.truncate(1));
    let mut other = tried(&|_, funding| *funding = "effect-999".into());
    let mut negative = tried(&|legs, _| {
        legs[0].amount = Money::new(701, Currency::EUR);
        legs[1].amount = Money::new(-1, Currency::EUR);
    });
    let mut dollars = tried(&|legs, _| legs.iter_mut().for_each(|leg| leg.amount = Money::new(1, Currency::USDC)));
    assert_eq!(code(finish(&rail, &mut short).await), "legs_do_not_add_up");
    assert_eq!(code(finish(&rail, &mut other).await), "no_such_funding");
    assert_eq!(code(finish(&rail, &mut negative).await), "legs_do_not_add_up");
    assert_eq!(code(finish(&rail, &mut dollars).await), "wrong_currency");
    assert_eq!(scripted.world.hold(hold), Some(Money::new(700, Currency::EUR)), "none of them moved anything");

    let mut payout = good.clone();
    payout.id = InstructionId::derive(fund.contract, 90);
    payout.order = Order::Payout { agent: scripted.agent(), destination: None, amount: Money::new(1, Currency::EUR) };
    assert_eq!(code(finish(&rail, &mut payout).await), "insufficient_funds", "what is in holds is nobody's to pay out");
}

#[tokio::test]
async fn legs_land_where_the_script_says_and_the_truth_knows() {
    let scripted = Scripted::new(Custody::PerHold, Currency::EUR);
    scripted.world.always(Script { landing: Landing::Held, cost: 2, ..Script::default() });
    let (rail, agent) = (scripted.scripted_rail(), scripted.agent());
    let mut fund = scripted.fund(700);
    let Outcome::Done(receipt) = finish(&rail, &mut fund).await else { panic!("not funded") };
    assert_eq!(receipt.cost, Some(Money::new(2, Currency::EUR)));
    let mut settle = settlement(&fund, receipt.reference, Party::Worker(agent));
    let Outcome::Done(receipt) = finish(&rail, &mut settle).await else { panic!("not settled") };
    assert!(receipt.legs.iter().all(|leg| leg.landing == Landing::Held));
    let truth = Effects { times: 1, amount: Some(Money::new(700, Currency::EUR)), legs: receipt.legs };
    assert_eq!(scripted.world.effects(settle.id), truth);
    assert_eq!(scripted.world.books(), Books { came_in: 700, in_holds: 0, free: 696, went_out: 0, costs: 4 });
    assert_eq!(rail.holdings().await.unwrap().total.minor(), 696);
    assert_eq!(scripted.world.outside(agent), 0);

    let order = Order::Payout { agent, destination: None, amount: Money::new(600, Currency::EUR) };
    let mut payout =
        Instruction { id: InstructionId::derive(fund.contract, 2), contract: fund.contract, order, answer: None };
    assert!(matches!(finish(&rail, &mut payout).await, Outcome::Done(_)));
    assert_eq!(scripted.world.outside(agent), 600);
}

#[tokio::test]
async fn a_cursor_of_another_world_is_refused() {
    let scripted = Scripted::new(Custody::Pooled, Currency::USDC);
    for cursor in ["7", "-1", "tomorrow", "18446744073709551615"] {
        let error = scripted.scripted_rail().observe(&tradepost::rail::Cursor(cursor.into())).await.unwrap_err();
        assert_eq!(error.kind(), RailErrorKind::Refused, "{cursor}");
    }
}
