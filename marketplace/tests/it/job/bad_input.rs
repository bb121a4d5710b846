//! What comes in from outside and must not get in: each with the rule, the limit and the value.

use serde_json::{Map, Value, json};
use tradepost::{
    error::Rejection,
    job::{Delivery, JobCommand, JobOrder, JobStatus},
    money::{Currency, Money, MoneyError},
    policy::Span,
    rail::Custody,
};

use crate::support::*;

fn asked(change: impl FnOnce(&mut JobOrder)) -> Result<JobStatus, Rejection> {
    let desk = Desk::new(voxpact(), Custody::Internal);
    let mut order = order(desk.money(10_000));
    change(&mut order);
    desk.ask(&by(buyer()), &post(order)).map(|decision| decision.job.status)
}

fn length(field: &'static str, unit: &'static str, (min, max): (u32, u32), actual: usize) -> Rejection {
    Rejection::Length { field, unit, min, max, actual }
}

#[test]
fn amounts_of_nothing_less_and_too_much() {
    for actual in [0, -1, 499, 10_000_001, i64::MIN, i64::MAX] {
        let refused = Rejection::Amount { field: "amount", currency: Currency::EUR, min: 500, max: 10_000_000, actual };
        assert_eq!(asked(|order| order.amount = Money::new(actual, Currency::EUR)), Err(refused));
    }
}

#[test]
fn a_policy_that_allows_nothing_at_all_still_moves_something() {
    let mut desk = Desk::new(voxpact(), Custody::Internal);
    desk.policy.jobs.amount.min = -10;
    for actual in [0, -1] {
        let answer = desk.ask(&by(buyer()), &post(order(desk.money(actual))));
        assert!(matches!(answer, Err(Rejection::Amount { actual: a, .. }) if a == actual));
    }
}

#[test]
fn an_amount_of_another_currency() {
    let three = Currency::new("EUR", 3).unwrap();
    for found in [Currency::USDC, Currency::CREDIT, three] {
        let refused = Rejection::Money(MoneyError::Mismatch { expected: Currency::EUR, found });
        assert_eq!(asked(|order| order.amount = Money::new(10_000, found)), Err(refused));
    }
}

#[test]
fn an_amount_that_the_rail_cannot_move() {
    let mut desk = Desk::new(just_pay(), Custody::PerHold);
    desk.rail.amounts.max = 1_029_999;
    let refused = Rejection::Amount {
        field: "amount with the fee",
        currency: Currency::USDC,
        min: 1,
        max: 1_029_999,
        actual: 1_030_000,
    };
    assert_eq!(desk.ask(&by(buyer()), &post(order(desk.money(1_000_000)))), Err(refused));
    desk.rail.amounts.max = 1_030_000;
    assert!(desk.ask(&by(buyer()), &post(order(desk.money(1_000_000)))).is_ok());
}

#[test]
fn an_amount_whose_fee_does_not_fit_into_64_bits() {
    let mut desk = Desk::new(just_pay(), Custody::Internal);
    desk.policy.jobs.amount.max = i64::MAX;
    let refused = desk.ask(&by(buyer()), &post(order(desk.money(i64::MAX))));
    assert_eq!(refused, Err(Rejection::Money(MoneyError::Overflow)));
}

#[test]
fn titles_over_the_limit_are_counted_in_characters() {
    for (character, bytes) in [('x', 1), ('\u{e4}', 2), ('\u{4e16}', 3), ('\u{1f600}', 4)] {
        let title = |n: usize| character.to_string().repeat(n);
        assert_eq!(title(500).len(), 500 * bytes);
        assert_eq!(asked(|order| order.title = title(500)), Ok(JobStatus::Funded));
        let refused = length("title", "characters", (5, 500), 501);
        assert_eq!(asked(|order| order.title = title(501)), Err(refused));
    }
}

#[test]
fn characters_that_hide_what_a_text_says() {
    let hidden = [
        '\0', '\u{1}', '\u{7}', '\u{1b}', '\u{7f}', '\u{85}', '\u{9f}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202e}',
        '\u{2066}', '\u{2069}', '\u{feff}',
    ];
    for c in hidden {
        let title = format!("invoice {c}fdp.exe");
        let refused = Rejection::Character { field: "title", character: c.into() };
        assert_eq!(asked(|order| order.title = title), Err(refused));
        let desk = Desk::new(voxpact(), Custody::Internal).posted(10_000);
        let cancel = JobCommand::Cancel { reason: format!("because{c}") };
        let refused = Rejection::Character { field: "reason", character: c.into() };
        assert_eq!(desk.ask(&by(buyer()), &cancel), Err(refused));
    }
    for c in ['\n', '\r', '\t'] {
        let refused = Rejection::Character { field: "title", character: c.into() };
        assert_eq!(asked(|order| order.title = format!("two{c}lines")), Err(refused));
        let desk = Desk::new(voxpact(), Custody::Internal).posted(10_000);
        assert!(desk.ask(&by(buyer()), &JobCommand::Cancel { reason: format!("two{c}lines") }).is_ok());
    }
}

#[test]
fn odd_but_honest_texts_are_kept_as_they_are() {
    let honest = [
        "\u{645}\u{631}\u{62d}\u{628}\u{627}",                // right to left by itself
        "e\u{301}a\u{300}o\u{308}u\u{328}",                   // combining marks
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} family", // joined with ZWJ
        "\u{1d518}\u{1d52b}\u{1d526}\u{1d520}\u{1d52c}",      // outside the basic plane
        "Robert'); DROP TABLE job;--",
        "{{template}} ${shell} <script>",
    ];
    for title in honest {
        let mut desk = Desk::new(voxpact(), Custody::Internal);
        let mut order = order(desk.money(10_000));
        order.title = title.into();
        desk.must(by(buyer()), post(order));
        let kept = matches!(&desk.events[0], tradepost::job::JobEvent::Created { title: t, .. } if t == title);
        assert!(kept, "{title}");
    }
}

#[test]
fn a_thousand_marks_on_one_letter_are_a_thousand_characters() {
    let title = format!("x{}", "\u{301}".repeat(500));
    assert_eq!(asked(|order| order.title = title), Err(length("title", "characters", (5, 500), 501)));
}

#[test]
fn tasks_and_outputs_over_the_limit_are_counted_in_bytes_of_json() {
    let sized = |bytes: usize| {
        let frame = r#"{"t":""}"#.len();
        Map::from_iter([("t".to_owned(), Value::String("x".repeat(bytes - frame)))])
    };
    assert_eq!(asked(|order| order.task = sized(262_144)), Ok(JobStatus::Funded));
    let over = |field| length(field, "bytes of JSON", (0, 262_144), 262_145);
    assert_eq!(asked(|order| order.task = sized(262_145)), Err(over("task")));
    let value = |bytes: usize| Some(Value::String("x".repeat(bytes - 2)));
    assert_eq!(asked(|order| order.validation = value(262_144)), Ok(JobStatus::Funded));
    assert_eq!(asked(|order| order.validation = value(262_145)), Err(over("validation")));

    let mut desk = Desk::new(voxpact(), Custody::Internal).posted(10_000);
    desk.must(by(worker()), JobCommand::Accept);
    let handed_in = |output| desk.ask(&by(worker()), &deliver_this(Delivery { content_type: None, output }));
    assert!(handed_in(sized(262_144)).is_ok());
    assert_eq!(handed_in(sized(262_145)), Err(over("output")));
}

#[test]
fn content_types_are_a_short_line() {
    let mut desk = Desk::new(voxpact(), Custody::Internal).posted(10_000);
    desk.must(by(worker()), JobCommand::Accept);
    let typed = |content_type: &str| {
        let delivery = Delivery { content_type: Some(content_type.into()), output: Map::new() };
        desk.ask(&by(worker()), &deliver_this(delivery)).map(|decision| decision.job.status)
    };
    assert_eq!(typed("text/plain; charset=utf-8"), Ok(JobStatus::Delivered));
    assert_eq!(typed(""), Err(length("content_type", "characters", (1, 255), 0)));
    assert_eq!(typed(&"x".repeat(256)), Err(length("content_type", "characters", (1, 255), 256)));
    let injected = Rejection::Character { field: "content_type", character: '\r'.into() };
    assert_eq!(typed("text/plain\r\nset-cookie: x"), Err(injected));
}

#[test]
fn reasons_have_a_thousand_characters_at_most() {
    let long = || "\u{1f600}".repeat(1001);
    let refused = Err(length("reason", "characters", (0, 1000), 1001));
    let mut desk = Desk::new(voxpact(), Custody::Internal).posted(10_000);
    assert_eq!(desk.ask(&by(buyer()), &JobCommand::Cancel { reason: long() }), refused);
    assert_eq!(desk.ask(&by(worker()), &JobCommand::Withdraw { reason: long() }), refused);
    assert_eq!(desk.ask(&operator(), &JobCommand::Freeze { reason: long() }), refused);
    desk.must(by(worker()), JobCommand::Accept);
    assert_eq!(desk.ask(&by(worker()), &JobCommand::Refund { reason: long() }), refused);
    assert!(desk.ask(&by(buyer()), &JobCommand::Cancel { reason: "\u{1f600}".repeat(1000) }).is_ok());
}

#[test]
fn nobody_hires_itself() {
    let desk = Desk::new(voxpact(), Custody::Internal);
    let mut own = order(desk.money(10_000));
    own.worker = Some(buyer());
    let answer = desk.ask(&by(buyer()), &post(own));
    assert!(matches!(answer, Err(Rejection::SameParty { agent, .. }) if agent == buyer()));
}

#[test]
fn deadlines_outside_the_policys_range() {
    let (min, max) = (Span::hours(1), Span::hours(720));
    for actual in [Span::seconds(0), Span::seconds(u32::MAX)] {
        let refused = Rejection::Time { field: "deadline", min, max, actual };
        assert_eq!(asked(|order| order.deadline = Some(actual)), Err(refused));
    }
}

#[test]
fn orders_with_fields_that_nobody_knows_are_not_read() {
    let read = |order: Value| serde_json::from_value::<JobOrder>(order);
    let good = json!({ "title": "Translate", "task": {}, "amount": "5.00 EUR" });
    assert_eq!(read(good.clone()).unwrap().amount, Money::new(500, Currency::EUR));
    let with = |name: &str, value: Value| {
        let mut order = good.clone();
        order[name] = value;
        read(order).is_err()
    };
    assert!(with("priority", json!(1)));
    assert!(with("amount", json!(5.0)));
    assert!(with("amount", json!("5.00")));
    assert!(with("amount", json!("5e2 EUR")));
    assert!(with("task", json!("not an object")));
    assert!(with("worker", json!("somebody")));
    assert!(with("rail", json!("NOT A RAIL")));
    assert!(with("deadline", json!(3600)));
    assert!(with("deadline", json!("1.5s")));
    assert!(with("deadline", json!("-1h")));
    assert!(with("deadline", json!("101years")));
}

#[test]
fn what_the_policy_does_not_offer() {
    let closed = Desk::new(tradepost::policy::Policy::paegents().unwrap(), Custody::Internal);
    let mut open = order(closed.money(10_000));
    open.worker = None;
    assert_eq!(closed.ask(&by(buyer()), &post(open)), Err(Rejection::WorkerMissing));
    let desk = Desk::new(just_pay(), Custody::Internal);
    let mut validated = order(desk.money(10_000));
    validated.validation = Some(json!({}));
    let refused = Rejection::NotOffered { what: "validation" };
    assert_eq!(desk.ask(&by(buyer()), &post(validated)), Err(refused));
}
