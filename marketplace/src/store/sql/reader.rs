//! Reading in groups: whoever needs a record or a balance asks here, and a reader task asks the database for
//! everything that waits in one statement. Under load a command's reads cost a share of a statement instead of
//! a whole one; a caller who is alone is answered as fast as by a statement of its own.
//!
//! A question is put to the database after it was asked, so an answer is never older than its question.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

use super::{
    Failure,
    queries::{counts, stored},
    session::{Cell, Session},
    shelf::Shelf,
    tables::{lookup, table},
    write::currency_name,
    writer::within,
};
use crate::{
    ids::MarketId,
    ledger::Account,
    money::{Currency, Money},
    store::{Key, Kind, Query, StoreErrorKind, Stored},
};

/// The most questions of one statement.
const GROUP: usize = 256;
/// The most questions that wait; the next caller waits for a place.
const QUEUE: usize = 4 * GROUP;
/// How many statements are under way at once, of each kind of question.
const TASKS: usize = 2;

/// What can be asked for in groups.
#[async_trait]
trait Question: Clone + Send + Sync + Sized + 'static {
    type Answer: Send + 'static;

    /// Answers every question, in order.
    async fn ask(session: &mut dyn Session, group: &[Self]) -> Result<Vec<Result<Self::Answer, Failure>>, Failure>;
}

struct Request<Q: Question> {
    question: Q,
    answer: oneshot::Sender<Result<Q::Answer, Failure>>,
}

/// Where questions of one kind are handed in.
struct Queue<Q: Question>(mpsc::Sender<Request<Q>>);

impl<Q: Question> Queue<Q> {
    /// Starts tasks that end when the queue is gone.
    fn start(shelf: &Arc<Shelf>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..TASKS {
            tokio::spawn(empty(Arc::clone(shelf), Arc::clone(&receiver)));
        }
        Self(sender)
    }

    async fn ask(&self, question: Q) -> Result<Q::Answer, Failure> {
        let stopped = || Failure::new(StoreErrorKind::Unavailable, "the store's readers have stopped");
        let (answer, outcome) = oneshot::channel();
        self.0.send(Request { question, answer }).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?
    }
}

async fn empty<Q: Question>(shelf: Arc<Shelf>, queue: Arc<Mutex<mpsc::Receiver<Request<Q>>>>) {
    let mut group = Vec::new();
    while queue.lock().await.recv_many(&mut group, GROUP).await > 0 {
        let questions: Vec<Q> = group.iter().map(|request| request.question.clone()).collect();
        let asked = async { Q::ask(&mut shelf.lend().await?, &questions).await };
        match within(asked).await {
            // A caller who no longer waits does not want to know.
            Ok(answers) => group.drain(..).zip(answers).for_each(|(request, answer)| drop(request.answer.send(answer))),
            Err(failure) => group.drain(..).for_each(|request| drop(request.answer.send(Err(failure.clone())))),
        }
    }
}

/// The readers of a store.
pub(super) struct Reader {
    records: Queue<(MarketId, Key)>,
    balances: Queue<(MarketId, Account, Currency)>,
    counts: Queue<(MarketId, Query)>,
}

impl Reader {
    pub(super) fn start(shelf: &Arc<Shelf>) -> Self {
        Self { records: Queue::start(shelf), balances: Queue::start(shelf), counts: Queue::start(shelf) }
    }

    /// A record as it is now.
    pub(super) async fn record(&self, market: MarketId, key: Key) -> Result<Option<Stored>, Failure> {
        self.records.ask((market, key)).await
    }

    /// The balance of an account that has a limit, as it is now.
    pub(super) async fn balance(
        &self,
        market: MarketId,
        account: Account,
        currency: Currency,
    ) -> Result<Money, Failure> {
        self.balances.ask((market, account, currency)).await
    }

    /// How many of a party's records match.
    pub(super) async fn count(&self, market: MarketId, query: &Query) -> Result<u32, Failure> {
        // Each status once, so that there are no more than the kind has, and the same question is asked alike.
        let statuses: BTreeSet<&'static str> = query.statuses.iter().copied().collect();
        let statuses = statuses.into_iter().collect();
        self.counts.ask((market, Query { statuses, before: None, offset: 0, ..query.clone() })).await
    }
}

#[async_trait]
impl Question for (MarketId, Key) {
    type Answer = Option<Stored>;

    async fn ask(session: &mut dyn Session, group: &[Self]) -> Result<Vec<Result<Self::Answer, Failure>>, Failure> {
        let mut wanted: HashMap<(MarketId, Kind), Vec<Cell>> = HashMap::new();
        for (market, key) in group {
            wanted.entry((*market, key.kind)).or_default().push(key.id.into());
        }
        let mut found: HashMap<Self, Result<Stored, Failure>> = HashMap::new();
        for ((market, kind), ids) in wanted {
            let name = table(kind).name;
            let select = format!("SELECT id, version, claims, body FROM {name} WHERE market = $1 AND id");
            for mut line in lookup(session, "records", name, &select, "", market, ids).await? {
                let id = line.id()?;
                found.insert((market, Key { kind, id }), stored(kind, line));
            }
        }
        Ok(group.iter().map(|question| found.get(question).cloned().transpose()).collect())
    }
}

#[async_trait]
impl Question for (MarketId, Account, Currency) {
    type Answer = Money;

    async fn ask(session: &mut dyn Session, group: &[Self]) -> Result<Vec<Result<Self::Answer, Failure>>, Failure> {
        let mut wanted: HashMap<MarketId, Vec<Cell>> = HashMap::new();
        for (market, account, _) in group {
            wanted.entry(*market).or_default().push(account.to_string().as_str().into());
        }
        // By the names in the rows: one that cannot be read is nobody's who asks.
        let mut found: HashMap<(MarketId, Arc<str>, Arc<str>), i64> = HashMap::new();
        for (market, names) in wanted {
            let select = "SELECT account, currency, balance FROM accounts WHERE market = $1 AND account";
            for mut line in lookup(session, "balances", "accounts", select, "", market, names).await? {
                found.insert((market, line.text()?, line.text()?), line.int()?);
            }
        }
        // An account that never moved has no row.
        let balance = |(market, account, currency): &Self| {
            let row = (*market, account.to_string().into(), currency_name(*currency).into());
            Ok(Money::new(found.get(&row).copied().unwrap_or(0), *currency))
        };
        Ok(group.iter().map(balance).collect())
    }
}

#[async_trait]
impl Question for (MarketId, Query) {
    type Answer = u32;

    async fn ask(session: &mut dyn Session, group: &[Self]) -> Result<Vec<Result<Self::Answer, Failure>>, Failure> {
        let whose =
            |query: &Query, id: Uuid| Query { party: query.party.map(|(place, _)| (place, id)), ..query.clone() };
        let mut wanted: HashMap<Self, Vec<Cell>> = HashMap::new();
        for (market, query) in group {
            let (_, party) = query.party.unwrap_or_default();
            wanted.entry((*market, whose(query, Uuid::nil()))).or_default().push(party.into());
        }
        let mut found: HashMap<Self, u32> = HashMap::new();
        for ((market, query), parties) in wanted {
            for (party, count) in counts(session, market, &query, parties).await? {
                found.insert((market, whose(&query, party)), count);
            }
        }
        Ok(group.iter().map(|question| Ok(found.get(question).copied().unwrap_or(0))).collect())
    }
}
