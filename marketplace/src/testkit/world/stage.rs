//! The stage: what one world's processes share, and who moves next.
//!
//! Nothing here runs at once. Every call to the store or a rail ends in a pause at which the running
//! task gives way, and the seed says which task goes on. Between two pauses a task is alone, so that a
//! real database behaves as repeatably as one in memory.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{audit::Auditor, plan::Faults, trace::Trace};

/// What a task comes to.
pub(super) type Play<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What one turn of a task came to.
pub(super) enum Turn<T> {
    /// It is over.
    Over(T),
    /// It paused.
    Paused,
    /// Its process died in the middle of it.
    Died,
}

/// Shared by every wrapper of one world.
#[derive(Clone)]
pub(super) struct Stage {
    act: Arc<Mutex<Act>>,
    /// Held during a call, so that a task which has several of its own under way makes one at a time.
    call: Arc<futures::lock::Mutex<()>>,
}

pub(super) struct Act {
    pub(super) rng: StdRng,
    pub(super) faults: Faults,
    pub(super) auditor: Auditor,
    pub(super) trace: Trace,
    pub(super) counts: Counts,
    /// The task whose turn it is; nobody while the world itself looks at things.
    pub(super) playing: Option<usize>,
    paused: bool,
    died: bool,
}

/// What went wrong on purpose, and what was sent out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) crashes: u64,
    pub(super) store_faults: u64,
    pub(super) rail_faults: u64,
    pub(super) conflicts: u64,
    pub(super) webhooks: u64,
}

impl Stage {
    pub(super) fn new(seed: u64, faults: Faults, auditor: Auditor) -> Self {
        let act = Act {
            rng: StdRng::seed_from_u64(seed ^ 0x5354_4147_4500_0000),
            faults,
            auditor,
            trace: Trace::default(),
            counts: Counts::default(),
            playing: None,
            paused: false,
            died: false,
        };
        Self { act: Arc::new(Mutex::new(act)), call: Arc::default() }
    }

    pub(super) fn act(&self) -> MutexGuard<'_, Act> {
        self.act.lock().expect("the stage's lock is never held across a panic")
    }

    /// Gives way to whoever the seed chooses, then has the stage for itself.
    pub(super) async fn pause(&self) -> futures::lock::OwnedMutexGuard<()> {
        Pause { stage: self, paused: false }.await;
        loop {
            // Not by waiting in the lock's queue: it would wake one that waits, perhaps of a task whose
            // turn it is not, and this one would wait for ever.
            if let Some(alone) = self.call.clone().try_lock_owned() {
                return alone;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The process dies here: nothing of the running task goes on.
    pub(super) async fn die<T>(&self) -> T {
        {
            let mut act = self.act();
            act.died = true;
            act.counts.crashes += 1;
        }
        std::future::pending().await
    }

    /// Lets a task play until it pauses, dies or is over.
    pub(super) async fn turn<T>(&self, number: usize, play: &mut Play<T>) -> Turn<T> {
        {
            let mut act = self.act();
            (act.playing, act.paused, act.died) = (Some(number), false, false);
        }
        let turn = std::future::poll_fn(|context| match play.as_mut().poll(context) {
            Poll::Ready(over) => Poll::Ready(Turn::Over(over)),
            Poll::Pending => {
                let act = self.act();
                if self.call.try_lock().is_none() {
                    return Poll::Pending; // a real database is at work
                }
                match (act.died, act.paused) {
                    (true, _) => Poll::Ready(Turn::Died),
                    (false, true) => Poll::Ready(Turn::Paused),
                    (false, false) => Poll::Pending,
                }
            }
        })
        .await;
        self.act().playing = None;
        turn
    }
}

impl Act {
    /// Whether something of so many thousandths happens to the running task now.
    pub(super) fn happens(&mut self, thousandths: u32) -> bool {
        self.playing.is_some() && thousandths > 0 && self.rng.random_range(0..1000) < thousandths
    }
}

/// See [`Stage::pause`].
pub(super) struct Pause<'a> {
    stage: &'a Stage,
    paused: bool,
}

impl Future for Pause<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut act = self.stage.act();
        if self.paused || act.playing.is_none() {
            return Poll::Ready(());
        }
        act.paused = true;
        drop(act);
        self.paused = true;
        context.waker().wake_by_ref(); // the engine may wait for several of its own at once
        Poll::Pending
    }
}
