//! What each layer does by itself. Time is paused: waiting costs nothing and is counted exactly.

use std::{
    cell::RefCell,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::TimeDelta;
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt};
use tradepost::{
    clock::{ManualClock, Timestamp},
    ids::InstructionId,
    money::Currency,
    rail::{
        Action, Cursor, Custody, Holdings, Instruction, Observation, Observations, Outcome, Party, Push, RailError,
        RailErrorKind, RailProfile, SettlementRail,
        layers::{Retries, Retry, Timeout, Trace},
    },
    testkit::{Answer, Course, Ending, Script, ScriptedRail},
};

use super::harness::Scripted;

fn answered(answer: Answer) -> Script {
    Script { answer, ..Script::default() }
}

/// A world that treats the next calls like this.
fn scripted(answers: &[Answer]) -> Scripted {
    let scripted = Scripted::new(Custody::PerHold, Currency::EUR);
    answers.iter().for_each(|answer| scripted.world.next(answered(*answer)));
    scripted
}

fn retry(scripted: &Scripted, jitter_seed: u64) -> Retry<ScriptedRail> {
    Retry::new(scripted.scripted_rail(), Retries { jitter_seed, ..Retries::default() })
}

#[tokio::test(start_paused = true)]
async fn retry_repeats_what_never_left() {
    let scripted = scripted(&[Answer::NotSent, Answer::Busy(Duration::from_millis(1)), Answer::NotSent]);
    let started = Instant::now();
    let outcome = retry(&scripted, 1).execute(&scripted.fund(500)).await;
    assert!(matches!(outcome, Ok(Outcome::Done(_))), "{outcome:?}");
    assert_eq!(scripted.world.calls(), 4);
    // At least a quarter, a half and one second, at most twice that with jitter.
    let waited = started.elapsed();
    assert!((Duration::from_millis(1750)..Duration::from_millis(3510)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn retry_gives_up_in_the_end() {
    let scripted = scripted(&[Answer::NotSent; 10]);
    let error = retry(&scripted, 1).execute(&scripted.fund(500)).await.unwrap_err();
    assert_eq!(error.kind(), RailErrorKind::NotSent);
    assert_eq!(scripted.world.calls(), 4, "one attempt and three repetitions");
}

#[tokio::test(start_paused = true)]
async fn retry_never_repeats_an_unknown_outcome_nor_a_refusal() {
    let cases = [
        (Answer::LostBefore, RailErrorKind::Unknown),
        (Answer::LostAfter, RailErrorKind::Unknown),
        (Answer::Refused, RailErrorKind::Refused),
    ];
    for (answer, kind) in cases {
        let scripted = scripted(&[answer]);
        let error = retry(&scripted, 1).execute(&scripted.fund(500)).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(scripted.world.calls(), 1, "{answer:?} was repeated");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_waits_as_long_as_a_busy_rail_asks_but_not_for_hours() {
    let busy = scripted(&[Answer::Busy(Duration::from_secs(3))]);
    let started = Instant::now();
    assert!(retry(&busy, 1).execute(&busy.fund(500)).await.is_ok());
    let waited = started.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_millis(3010)).contains(&waited), "{waited:?}");

    let hour = Duration::from_secs(3600);
    let very_busy = scripted(&[Answer::Busy(hour)]);
    let started = Instant::now();
    let error = retry(&very_busy, 1).execute(&very_busy.fund(500)).await.unwrap_err();
    assert_eq!((error.kind(), started.elapsed()), (RailErrorKind::Busy(hour), Duration::ZERO));
    assert_eq!(very_busy.world.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn retry_waits_the_same_for_the_same_seed_and_instruction_only() {
    async fn waited(seed: u64, number: u32) -> Duration {
        let scripted = scripted(&[Answer::NotSent, Answer::NotSent]);
        let mut instruction = scripted.fund(500);
        instruction.id = InstructionId::derive(instruction.contract, number);
        let started = Instant::now();
        retry(&scripted, seed).execute(&instruction).await.unwrap();
        started.elapsed()
    }
    let first = waited(1, 0).await;
    assert_eq!(first, waited(1, 0).await);
    assert_ne!(first, waited(2, 0).await);
    assert_ne!(first, waited(1, 1).await);
}

#[tokio::test(start_paused = true)]
async fn retry_repeats_questions_too() {
    let scripted = scripted(&[]);
    let (rail, instruction) = (retry(&scripted, 1), scripted.fund(500));
    rail.execute(&instruction).await.unwrap();
    let trouble = || [Answer::NotSent, Answer::Busy(Duration::ZERO)].map(|answer| scripted.world.next_read(answer));
    trouble();
    assert!(matches!(rail.lookup(&instruction).await, Ok(Some(Outcome::Done(_)))));
    trouble();
    assert_eq!(rail.observe(&Cursor::default()).await.unwrap().items.len(), 1);
    trouble();
    assert_eq!(rail.holdings().await.unwrap().total.minor(), 500);
    scripted.world.next_read(Answer::LostAfter);
    assert_eq!(rail.lookup(&instruction).await.unwrap_err().kind(), RailErrorKind::Unknown);
}

/// A rail that never answers, and counts how often it was asked.
struct Silent {
    rail: ScriptedRail,
    asked: Arc<AtomicU32>,
}

impl Silent {
    async fn silence<T>(&self) -> T {
        self.asked.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }
}

#[async_trait]
impl SettlementRail for Silent {
    fn profile(&self) -> &RailProfile {
        self.rail.profile()
    }

    async fn execute(&self, _instruction: &Instruction) -> Result<Outcome, RailError> {
        self.silence().await
    }

    async fn lookup(&self, _instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        self.silence().await
    }

    async fn observe(&self, _after: &Cursor) -> Result<Observations, RailError> {
        self.silence().await
    }

    fn receive(&self, push: &Push) -> Result<Vec<Observation>, RailError> {
        self.rail.receive(push)
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        self.silence().await
    }
}

#[tokio::test(start_paused = true)]
async fn timeout_says_that_the_outcome_is_unknown_and_nothing_better() {
    let (scripted, asked) = (scripted(&[]), Arc::new(AtomicU32::new(0)));
    let silent = Silent { rail: scripted.scripted_rail(), asked: asked.clone() };
    let limit = Duration::from_secs(20);
    // Around it a retry, which must not take the timeout for "never sent".
    let rail = Retry::new(Timeout::new(silent, limit), Retries::default());
    let instruction = scripted.fund(500);
    let started = Instant::now();
    let errors = [
        rail.execute(&instruction).await.unwrap_err(),
        rail.lookup(&instruction).await.unwrap_err(),
        rail.observe(&Cursor::default()).await.unwrap_err(),
        rail.holdings().await.unwrap_err(),
    ];
    assert!(errors.iter().all(|e| e.kind() == RailErrorKind::Unknown && !e.may_repeat()), "{errors:?}");
    assert_eq!(errors[0].to_string(), "outcome unknown: no answer within 20s");
    assert_eq!(asked.load(Ordering::Relaxed), 4, "each was asked once");
    let waited = started.elapsed() / 4;
    assert!((limit..limit + Duration::from_millis(2)).contains(&waited), "{waited:?}");
}

thread_local! {
    /// What was traced on this thread since it began to listen; each test runs on a thread of its own.
    static LOG: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.iter_mut().for_each(|log| log.extend(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A rail on which every request takes a while by the clock.
struct Slow {
    rail: ScriptedRail,
    clock: Arc<ManualClock>,
}

#[async_trait]
impl SettlementRail for Slow {
    fn profile(&self) -> &RailProfile {
        self.rail.profile()
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        self.clock.advance(TimeDelta::microseconds(1234));
        self.rail.execute(instruction).await
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        self.rail.lookup(instruction).await
    }

    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError> {
        self.rail.observe(after).await
    }

    fn receive(&self, push: &Push) -> Result<Vec<Observation>, RailError> {
        self.rail.receive(push)
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        self.rail.holdings().await
    }
}

#[tokio::test]
async fn trace_says_what_happened_and_no_secret() {
    // For the whole process, but for the layer's own words only: a subscriber of one thread may find
    // that another thread, which had none, has already switched a span off for good.
    let layer = tracing_subscriber::fmt::layer().with_writer(|| Log).with_ansi(false);
    let only = Targets::new().with_target("tradepost::rail::layers::trace", LevelFilter::TRACE);
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(only));
    tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
    LOG.set(Some(Vec::new()));

    let scripted = Scripted::new(Custody::PerHold, Currency::EUR);
    scripted.world.next(Script { course: Course::NeedsAction(Ending::Done), ..Script::default() });
    scripted.world.next(answered(Answer::LostAfter));
    let clock = scripted.clock.clone();
    let rail = Trace::new(Slow { rail: scripted.scripted_rail(), clock: clock.clone() }, clock);

    let mut instruction = scripted.fund(1250);
    let asked = rail.execute(&instruction).await.unwrap();
    let Outcome::NeedsAction(Action { payload, .. }) = &asked else { panic!("{asked:?}") };
    instruction.answer = Some("sesame".into());
    rail.execute(&instruction).await.unwrap();
    rail.lookup(&instruction).await.unwrap();
    rail.lookup(&scripted.fund(1)).await.unwrap();
    rail.execute(&scripted.fund(77)).await.unwrap_err();
    rail.observe(&Cursor::default()).await.unwrap();
    rail.holdings().await.unwrap();
    let pushes = scripted.scripted_rail().pushes(&Cursor::default()).unwrap().0;
    rail.receive(&pushes[0]).unwrap();
    let stranger = Push { headers: vec![("authorization".into(), "sesame".into())], ..pushes[0].clone() };
    rail.receive(&stranger).unwrap_err();

    let text = String::from_utf8(LOG.take().unwrap()).unwrap();
    let id = instruction.id.to_string();
    let expected = [
        "rail=scripted",
        id.as_str(),
        "order=\"fund\"",
        "amount=12.50 EUR",
        "outcome=\"needs_action\"",
        "outcome=\"done\"",
        "outcome=\"never_happened\"",
        "outcome=\"unknown\"",
        "outcome=\"forged\"",
        "request=\"observe\"",
        "request=\"holdings\"",
        "micros=1234",
    ];
    for part in expected {
        assert!(text.contains(part), "{part} is not in the trace:\n{text}");
    }
    for secret in ["sesame", payload.as_str(), "secret-of", "x-scripted-signature"] {
        assert!(!text.contains(secret), "{secret} is in the trace:\n{text}");
    }
}

#[test]
fn secrets_are_not_in_debug() {
    let scripted = Scripted::new(Custody::PerHold, Currency::EUR);
    let instruction = Instruction { answer: Some("sesame".into()), ..scripted.fund(1) };
    let who = Party::Buyer(scripted.agent());
    let action = Action { who, kind: "confirm_card".into(), payload: "sesame".into() };
    let headers = vec![("authorization".to_owned(), "sesame".to_owned())];
    let push = Push { headers, body: b"sesame".to_vec(), received_at: Timestamp::UNIX_EPOCH };
    let texts = [
        format!("{instruction:?}"),
        format!("{action:?}"),
        format!("{:?}", Outcome::NeedsAction(action)),
        format!("{push:?}"),
        format!("{:?}", scripted.scripted_rail()),
        format!("{:?}", scripted.world),
    ];
    for text in texts {
        assert!(!text.contains("sesame") && !text.contains("115, 101, 115"), "{text}");
    }
    assert!(format!("{instruction:?}").contains(&instruction.id.to_string()));
    assert!(format!("{push:?}").contains("bytes: 6"));
}
