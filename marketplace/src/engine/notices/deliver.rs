//! Sending what is due.
//!
//! A delivery is claimed like everything that is due; its version is the fence. Inside a process each
//! address has a lane: at most so many deliveries at once as the policy says, a few that wait, and while
//! a lane is full nothing more of its address is claimed. A slow receiver therefore holds up only what is
//! its own.
//!
//! Two bounds keep a process from drowning. A delivery counts against [`BUSY`] while it is young: one
//! that has waited for its receiver longer than [`PATIENCE`] gives its place to another, since waiting
//! costs next to nothing. Old ones are bounded by [`MOST`] only.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::tell::unwritten;
use crate::{
    clock::Timestamp,
    engine::Marketplace,
    error::Error,
    ids::EndpointId,
    notice::{Courier, Delivery, Endpoint, Outcome, Parcel, Reply, after},
    policy::{Policy, WebhookPolicy},
    store::{Claim, Commit, CommitError, Kept, Key, Kind, OfKind as _},
};

/// How many deliveries one round claims.
const BATCH: u32 = 64;
/// How many young deliveries are on their way at once.
const BUSY: usize = 128;
/// How long a delivery is young.
const PATIENCE: Duration = Duration::from_millis(100);
/// How many deliveries are on their way or wait in a lane, at most.
const MOST: usize = 8192;
/// How much longer than the policy says a courier may take before it is dropped.
const GRACE: Duration = Duration::from_secs(5);

/// A delivery that this process has claimed.
struct Claimed {
    delivery: Arc<Delivery>,
    version: u64,
    until: Timestamp,
}

/// What is on its way to one address.
#[derive(Default)]
struct Lane {
    sending: usize,
    waiting: VecDeque<Claimed>,
}

/// One process's deliveries.
struct Desk<'m> {
    market: &'m Marketplace,
    courier: Arc<dyn Courier>,
    young: Arc<Semaphore>,
    lanes: HashMap<EndpointId, Lane>,
    under_way: FuturesUnordered<BoxFuture<'m, EndpointId>>,
    /// How many are in lanes, on their way or waiting.
    held: usize,
    /// Whether there may be more to claim than was.
    more: bool,
    done: usize,
}

impl Marketplace {
    /// Sends the webhooks that are due, and waits for what became of them; how many there were. A
    /// receiver that hangs keeps this waiting for as long as the policy lets it, and no other receiver.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn deliver_due(&self) -> Result<usize, Error> {
        let Some(mut desk) = self.desk() else { return Ok(0) };
        loop {
            desk.claim().await?;
            if desk.under_way.is_empty() {
                return Ok(desk.done);
            }
            desk.progress(PATIENCE).await;
        }
    }

    /// Sends webhooks for ever.
    pub(in crate::engine) async fn run_deliveries(&self, idle: Duration) {
        let Some(mut desk) = self.desk() else { return };
        loop {
            let committed = self.inner.committed.notified();
            if let Err(error) = desk.claim().await {
                tracing::error!(%error, "webhooks cannot be claimed");
                tokio::time::sleep(idle).await;
            }
            let pause = if desk.more { PATIENCE } else { idle };
            tokio::select! {
                () = desk.progress(pause) => {}
                () = committed, if !desk.more => desk.more = true,
            }
        }
    }

    fn desk(&self) -> Option<Desk<'_>> {
        let courier = self.inner.notices.as_ref()?.courier.clone()?;
        Some(Desk {
            market: self,
            courier,
            young: Arc::new(Semaphore::new(BUSY)),
            lanes: HashMap::new(),
            under_way: FuturesUnordered::new(),
            held: 0,
            more: true,
            done: 0,
        })
    }
}

impl Desk<'_> {
    /// Claims what is due and has room, and sets it going.
    async fn claim(&mut self) -> Result<(), Error> {
        let policy = self.market.policy().1;
        let Some(webhooks) = &policy.webhooks else { return Ok(()) };
        let at_once = webhooks.at_once as usize;
        while self.more && self.held + BATCH as usize <= MOST && self.young.available_permits() > BUSY / 4 {
            let now = self.market.now();
            let busy = |(id, lane): (&EndpointId, &Lane)| {
                (lane.sending >= at_once || !lane.waiting.is_empty()).then_some(id.0)
            };
            let claim = Claim {
                kind: Kind::Delivery,
                now,
                until: now + self.market.inner.lease.delta() + webhooks.timeout.delta(),
                limit: BATCH,
                except: self.lanes.iter().filter_map(busy).collect(),
            };
            let market = self.market;
            let (claimed, ended) = self.meanwhile(market.inner.store.claim(market.inner.market, &claim)).await;
            self.more = !claimed.as_ref().is_ok_and(|claimed| claimed.len() < BATCH as usize);
            ended.into_iter().for_each(|endpoint| self.ended(endpoint)); // also where nothing could be claimed
            for stored in claimed? {
                let Some(delivery) = Delivery::of(stored.record) else { continue };
                let endpoint = delivery.endpoint;
                let claimed = Claimed { delivery, version: stored.version, until: claim.until };
                self.lanes.entry(endpoint).or_default().waiting.push_back(claimed);
                self.held += 1;
                self.start(endpoint, &policy);
            }
        }
        Ok(())
    }

    /// Waits for something while what is under way goes on; what of that has ended.
    async fn meanwhile<T>(&mut self, awaited: impl Future<Output = T>) -> (T, Vec<EndpointId>) {
        let (mut awaited, mut ended) = (std::pin::pin!(awaited), Vec::new());
        loop {
            tokio::select! {
                biased;
                done = &mut awaited => return (done, ended),
                Some(endpoint) = self.under_way.next() => ended.push(endpoint),
            }
        }
    }

    /// Waits until one has ended or a while has passed.
    async fn progress(&mut self, pause: Duration) {
        let ended = match self.under_way.is_empty() {
            true => {
                tokio::time::sleep(pause).await;
                None
            }
            false => tokio::time::timeout(pause, self.under_way.next()).await.ok().flatten(),
        };
        match ended {
            Some(endpoint) => self.ended(endpoint),
            None => self.more = true, // a while has passed: look again
        }
    }

    fn ended(&mut self, endpoint: EndpointId) {
        self.done += 1;
        self.held -= 1;
        let policy = self.market.policy().1;
        if let Some(lane) = self.lanes.get_mut(&endpoint) {
            lane.sending -= 1;
            if lane.waiting.is_empty() {
                // It was left out while it was full: there may be more for it.
                self.more = true;
            }
            if lane.sending == 0 && lane.waiting.is_empty() {
                self.lanes.remove(&endpoint);
            }
        }
        self.start(endpoint, &policy);
    }

    /// Sends what waits in a lane, as much as the policy allows.
    fn start(&mut self, endpoint: EndpointId, policy: &Arc<Policy>) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        let at_once = policy.webhooks.as_ref().map_or(1, |webhooks| webhooks.at_once as usize);
        while lane.sending < at_once
            && let Some(claimed) = lane.waiting.pop_front()
        {
            lane.sending += 1;
            let (market, courier, young, policy) =
                (self.market, self.courier.clone(), self.young.clone(), policy.clone());
            self.under_way.push(Box::pin(async move {
                let id = claimed.delivery.id;
                if let Some(webhooks) = &policy.webhooks
                    && let Err(error) = market.deliver(claimed, &*courier, young, webhooks).await
                {
                    tracing::error!(delivery = %id, %error, "a webhook cannot be sent; it is claimed again later");
                }
                endpoint
            }));
        }
    }
}

impl Marketplace {
    /// Sends one delivery and writes down what became of it.
    async fn deliver(
        &self,
        Claimed { delivery, version, until }: Claimed,
        courier: &dyn Courier,
        young: Arc<Semaphore>,
        policy: &WebhookPolicy,
    ) -> Result<(), Error> {
        let place = young.acquire_owned().await.ok();
        let timeout = policy.timeout.delta();
        if self.now() + timeout >= until {
            return Ok(()); // waited too long: it is somebody else's soon
        }
        let Some((endpoint, _)) = self.endpoint(delivery.endpoint).await? else { return Ok(()) };
        let now = self.now();
        if let Some(put_off) = delivery.put_off(&endpoint, now) {
            let mut commit = Commit::new(self.inner.market, now, delivery.key(), version);
            commit.write_silently(put_off, version);
            return self.recorded(commit).await.map(|_| ());
        }
        let secrets = self.secrets(&endpoint, now)?;
        let (id, body) = (delivery.id.to_string(), delivery.body.clone());
        let parcel = Parcel::new(policy, &endpoint.url, &secrets, (&id, &delivery.event), body, now);
        let answer = carried(courier, parcel, policy, place).await;
        loop {
            let Some((endpoint, endpoint_version)) = self.endpoint(delivery.endpoint).await? else { return Ok(()) };
            let now = self.now();
            let answer = answer.as_ref().map_err(String::as_str);
            let Outcome { delivery: tried, endpoint: changed } = after(&delivery, &endpoint, answer, policy, now);
            let mut commit = Commit::new(self.inner.market, now, delivery.key(), version);
            commit.write_silently(tried, version);
            if let Some(changed) = changed {
                commit.write(changed.endpoint, endpoint_version, &crate::actor::Actor::Timer, changed.events);
            }
            match self.recorded(commit).await? {
                Some(Key { kind: Kind::Endpoint, .. }) => {} // another delivery changed it: decide anew
                Some(_) | None => return Ok(()),             // done, or the claim ran out and it is another's
            }
        }
    }

    /// Writes a commit; the record that somebody else changed meanwhile, if one was.
    async fn recorded(&self, commit: Commit) -> Result<Option<Key>, Error> {
        match self.inner.store.commit(commit).await {
            Ok(()) => Ok(None),
            Err(CommitError::Conflict(key)) => Ok(Some(key)),
            Err(error) => Err(unwritten(error).into()),
        }
    }

    async fn endpoint(&self, id: EndpointId) -> Result<Option<(Arc<Endpoint>, u64)>, Error> {
        let stored = self.inner.store.load(self.inner.market, super::key::<Endpoint>(id.0)).await?;
        Ok(stored.and_then(|stored| Some((Endpoint::of(stored.record)?, stored.version))))
    }

    /// The secrets that are valid, the newest first.
    fn secrets(&self, endpoint: &Endpoint, now: Timestamp) -> Result<Vec<crate::secret::Secret>, Error> {
        let parts = self.notice_parts()?;
        let newest = endpoint.rotations;
        let before = endpoint.overlap_until.filter(|until| *until > now).and_then(|_| newest.checked_sub(1));
        Ok([Some(newest), before].into_iter().flatten().map(|n| parts.secret(endpoint.id, n)).collect())
    }
}

/// Posts a parcel, giving up the place among the young when it takes long.
async fn carried(
    courier: &dyn Courier,
    parcel: Parcel,
    policy: &WebhookPolicy,
    place: Option<OwnedSemaphorePermit>,
) -> Result<Reply, String> {
    let longest = Duration::from_secs(policy.timeout.as_seconds().into()) + GRACE;
    let mut carrying = courier.carry(parcel);
    if let Ok(answer) = tokio::time::timeout(PATIENCE, &mut carrying).await {
        return answer;
    }
    drop(place);
    match tokio::time::timeout(longest, carrying).await {
        Ok(answer) => answer,
        Err(_) => Err("there was no answer in time".into()),
    }
}
