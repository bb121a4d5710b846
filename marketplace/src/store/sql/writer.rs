//! The queue of commits and the tasks that empty it.
//!
//! A writer takes everything that waits, up to [`GROUP`] commits, and writes it in one transaction, so
//! that many commands share one wait for the disk. If the transaction fails because of what one of
//! them holds, they are written one by one and only the guilty one fails.
//!
//! Writers run in tasks of their own: a caller who stops waiting never leaves a connection in the
//! middle of a statement.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Mutex, mpsc, oneshot};

use super::{
    Failure,
    session::Session,
    shelf::Shelf,
    write::{Prepared, write},
};
use crate::store::{CommitError, StoreError, StoreErrorKind};

/// The most commits of one transaction.
const GROUP: usize = 256;
/// The most commits that wait; the next caller waits for a place.
const QUEUE: usize = 4 * GROUP;
/// How often a group is tried again when others wrote the same rows in between.
const ATTEMPTS: usize = 8;
/// How long one transaction, or one statement of a reader's, may take before the database counts as gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

type Answer = Result<(), CommitError>;

struct Request {
    prepared: Prepared,
    answer: oneshot::Sender<Answer>,
}

/// Where commits are handed in.
#[derive(Clone)]
pub(super) struct Queue(mpsc::Sender<Request>);

impl Queue {
    /// Starts `writers` tasks that end when the last clone of the queue is gone.
    pub(super) fn start(shelf: &Arc<Shelf>, writers: usize) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..writers {
            tokio::spawn(empty(Arc::clone(shelf), Arc::clone(&receiver)));
        }
        Self(sender)
    }

    pub(super) async fn commit(&self, prepared: Prepared) -> Answer {
        let (answer, outcome) = oneshot::channel();
        let closed = |_| StoreError::new(StoreErrorKind::Unavailable, "the store's writers have stopped");
        self.0.send(Request { prepared, answer }).await.map_err(closed)?;
        let lost = |_| StoreError::new(StoreErrorKind::Unknown, "the writer stopped while it held the commit");
        outcome.await.map_err(lost)?
    }
}

async fn empty(shelf: Arc<Shelf>, queue: Arc<Mutex<mpsc::Receiver<Request>>>) {
    let mut group = Vec::new();
    while queue.lock().await.recv_many(&mut group, GROUP).await > 0 {
        settle(&shelf, std::mem::take(&mut group)).await;
    }
}

async fn settle(shelf: &Shelf, group: Vec<Request>) {
    let prepared: Vec<&Prepared> = group.iter().map(|request| &request.prepared).collect();
    let answers = match persist(shelf, &prepared).await {
        Err(failure) if failure.is_about_contents() && prepared.len() > 1 => {
            let mut answers = Vec::with_capacity(prepared.len());
            for one in prepared {
                let alone = persist(shelf, &[one]).await;
                answers.extend(alone.unwrap_or_else(|failure| vec![refuse(&failure)]));
            }
            answers
        }
        Err(failure) => prepared.iter().map(|_| refuse(&failure)).collect(),
        Ok(answers) => answers,
    };
    for (request, answer) in group.into_iter().zip(answers) {
        // A caller who no longer waits does not want to know.
        let _ = request.answer.send(answer);
    }
}

fn refuse(failure: &Failure) -> Answer {
    Err(CommitError::Store(failure.clone().into()))
}

/// Writes a group in one transaction, again while others come in between.
async fn persist(shelf: &Shelf, group: &[&Prepared]) -> Result<Vec<Answer>, Failure> {
    let mut answers = within(attempt(shelf, group)).await;
    for _ in 1..ATTEMPTS {
        if !matches!(&answers, Err(failure) if failure.raced) {
            break;
        }
        answers = within(attempt(shelf, group)).await;
    }
    answers
}

/// What is asked of a server, given up when it does not answer any more: dropping it closes the connection.
pub(super) async fn within<T>(asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = |_| Failure::new(StoreErrorKind::Unknown, "the database did not answer in time");
    tokio::time::timeout(ANSWER_WITHIN, asked).await.map_err(late)?
}

async fn attempt(shelf: &Shelf, group: &[&Prepared]) -> Result<Vec<Answer>, Failure> {
    let mut session = shelf.lend().await?;
    session.begin().await?;
    let mut answers = write(&mut session, group).await;
    if answers.as_ref().is_ok_and(|answers| answers.iter().any(Result::is_ok))
        && let Err(failure) = session.commit().await
    {
        answers = Err(failure);
    }
    if session.is_open() {
        session.rollback().await;
    }
    answers
}

/// A transaction that is somebody else's, and whether a commit was left half-way in it.
#[derive(Debug)]
pub(super) struct Joined<C> {
    pub(super) connection: C,
    half_way: bool,
}

impl<C> Joined<C> {
    pub(super) const fn new(connection: C) -> Self {
        Self { connection, half_way: false }
    }

    /// Writes one commit in it. Dropping this leaves it unfit for anything but a rollback.
    pub(super) async fn join<S: Session>(
        &mut self,
        session: impl FnOnce(&mut C) -> &mut S,
        prepared: &Prepared,
    ) -> Answer {
        self.check()?;
        self.half_way = true;
        let answer = join(session(&mut self.connection), prepared).await;
        self.half_way = false;
        answer
    }

    /// The connection, unless something was left half-way.
    pub(super) fn whole(self) -> Result<C, StoreError> {
        self.check()?;
        Ok(self.connection)
    }

    fn check(&self) -> Result<(), StoreError> {
        let message = "a command in this transaction was dropped before it answered; roll back";
        if self.half_way { Err(StoreError::new(StoreErrorKind::Unavailable, message)) } else { Ok(()) }
    }
}

/// Writes one commit inside a transaction that is somebody else's. What is refused leaves no trace in
/// it, and the transaction can go on.
async fn join(session: &mut dyn Session, prepared: &Prepared) -> Answer {
    let mut tries = 1;
    loop {
        session.script("SAVEPOINT tradepost").await.map_err(StoreError::from)?;
        let answer = match write(session, &[prepared]).await {
            Ok(mut answers) => Ok(answers.pop().unwrap_or(Ok(()))),
            Err(failure) => Err(failure),
        };
        let end = match answer {
            Ok(Ok(())) => "RELEASE SAVEPOINT tradepost",
            _ => "ROLLBACK TO SAVEPOINT tradepost; RELEASE SAVEPOINT tradepost",
        };
        match session.script(end).await {
            Ok(()) => {}
            Err(end) => return refuse(answer.as_ref().err().unwrap_or(&end)),
        }
        match answer {
            Err(failure) if failure.raced && tries < ATTEMPTS => tries += 1,
            Err(failure) => return refuse(&failure),
            Ok(answer) => return answer,
        }
    }
}
