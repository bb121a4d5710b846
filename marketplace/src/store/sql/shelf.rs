//! Connections, lent and taken back.
//!
//! The driver's own pool asks the server whether a connection is alive each time it is given back; one
//! round trip more for every command. Here a connection that failed, was left in the middle of a
//! statement or in the middle of a transaction is dropped, and every other is as good as before.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Dialect, Failure,
    session::{Cell, Line, Session},
};
use crate::store::StoreErrorKind;

type Connect = dyn Fn() -> BoxFuture<'static, Result<Box<dyn Session>, Failure>> + Send + Sync;

/// A fixed number of connections, made when they are needed first.
pub(super) struct Shelf {
    idle: Arc<Mutex<Vec<Box<dyn Session>>>>,
    places: Arc<Semaphore>,
    dialect: &'static Dialect,
    connect: Box<Connect>,
}

impl Shelf {
    pub(super) fn new<C>(places: usize, dialect: &'static Dialect, connect: C) -> Self
    where
        C: Fn() -> BoxFuture<'static, Result<Box<dyn Session>, Failure>> + Send + Sync + 'static,
    {
        let places = Arc::new(Semaphore::new(places));
        Self { idle: Arc::default(), places, dialect, connect: Box::new(connect) }
    }

    /// Waits for a connection, first come, first served.
    pub(super) async fn lend(&self) -> Result<Lent, Failure> {
        let closed = |_| Failure::new(StoreErrorKind::Unavailable, "the store was closed");
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(closed)?;
        let idle = lock(&self.idle).pop();
        let session = match idle {
            Some(session) => session,
            None => (self.connect)().await?,
        };
        let (dialect, idle) = (self.dialect, Arc::clone(&self.idle));
        Ok(Lent { session: Some(session), dialect, fit: true, failed: false, open: false, idle, _place: place })
    }
}

fn lock(idle: &Mutex<Vec<Box<dyn Session>>>) -> std::sync::MutexGuard<'_, Vec<Box<dyn Session>>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that goes back when it is dropped, if it is still fit.
pub(super) struct Lent {
    session: Option<Box<dyn Session>>,
    dialect: &'static Dialect,
    fit: bool,
    failed: bool,
    open: bool,
    idle: Arc<Mutex<Vec<Box<dyn Session>>>>,
    _place: OwnedSemaphorePermit,
}

impl Lent {
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        self.open = true;
        self.script(self.dialect.begin).await
    }

    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        self.script("COMMIT").await.map_err(Failure::of_commit)?;
        self.open = false;
        Ok(())
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Undoes what was not committed. A connection that cannot even do this is dropped, which does.
    pub(super) async fn rollback(&mut self) {
        if self.script("ROLLBACK").await.is_ok() {
            self.open = false;
            (self.fit, self.failed) = (true, false);
        }
    }

    fn session(&mut self) -> Result<&mut Box<dyn Session>, Failure> {
        self.fit = false;
        self.session.as_mut().ok_or_else(|| Failure::new(StoreErrorKind::Unavailable, "the connection is gone"))
    }
}

impl Lent {
    fn answered(&mut self, well: bool) {
        (self.fit, self.failed) = (well, !well);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut idle = lock(&self.idle);
        match self.session.take() {
            Some(session) if self.fit && !self.open => idle.push(session),
            // What broke this one has most often broken the others too.
            _ if self.failed => idle.clear(),
            // Left in the middle by a caller who no longer waits.
            _ => {}
        }
    }
}

#[async_trait]
impl Session for Lent {
    fn dialect(&self) -> &'static Dialect {
        self.dialect
    }

    async fn run(&mut self, sql: &'static str, cells: Vec<Cell>) -> Result<u64, Failure> {
        let done = self.session()?.run(sql, cells).await;
        self.answered(done.is_ok());
        done
    }

    async fn rows(&mut self, sql: &'static str, cells: Vec<Cell>) -> Result<Vec<Line>, Failure> {
        let done = self.session()?.rows(sql, cells).await;
        self.answered(done.is_ok());
        done
    }

    async fn script(&mut self, sql: &str) -> Result<(), Failure> {
        let done = self.session()?.script(sql).await;
        self.answered(done.is_ok());
        done
    }
}
