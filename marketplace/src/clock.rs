//! Time, from an injected source.

use std::sync::Mutex;

use chrono::{DateTime, TimeDelta, Utc};

/// A moment in UTC. The engine keeps microseconds; a [`Clock`] hands out nothing finer.
pub type Timestamp = DateTime<Utc>;

/// Where the time comes from. The engine asks once per command, before it decides.
pub trait Clock: Send + Sync + 'static {
    /// The present moment, in whole microseconds.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the home of the machine's clock")]
    fn now(&self) -> Timestamp {
        let now = Utc::now();
        from_micros(now.timestamp_micros()).unwrap_or(now)
    }
}

/// A clock that moves only when told to: for tests, simulation and replay.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn at(start: Timestamp) -> Self {
        Self(Mutex::new(start))
    }

    /// Moves the clock forward; a negative step is ignored, since time does not go back.
    pub fn advance(&self, step: TimeDelta) {
        let mut now = self.0.lock().expect("the clock's lock is never held across a panic");
        *now += step.max(TimeDelta::zero());
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("the clock's lock is never held across a panic")
    }
}

/// The moment `micros` microseconds after 1970 began, if the calendar reaches that far.
pub(crate) fn from_micros(micros: i64) -> Option<Timestamp> {
    DateTime::from_timestamp_micros(micros)
}
