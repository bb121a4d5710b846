//! What the auditor checks of notices: everybody is told what concerns them, once, and a receiver that
//! stays healthy hears of it.

use std::collections::{BTreeMap, BTreeSet};

use super::Auditor;
use crate::{
    actor::Actor,
    agreement::AgreementEvent,
    clock::Timestamp,
    dispute::DisputeEvent,
    ids::{AgentId, DeliveryId, EndpointId, JobId},
    job::JobEvent,
    notice::{Delivery, DeliveryState, Notice, Parcel, Verifier},
    policy::SignatureStyle,
    secret::Secret,
    store::{Commit, Event, EventBody, Key, Kind, Record},
    testkit::world::post::HEALTHY,
    wallet::WalletEvent,
};

/// What an agent is told: which event, of when. Two of one agent may be equal, so they are counted.
type Told = (AgentId, String, Timestamp);

/// A subscription that stays as it is: how its receiver checks what it gets, and what it has got.
struct Healthy {
    endpoint: EndpointId,
    verifier: Verifier,
    heard: BTreeSet<String>,
}

/// What the auditor knows of notices.
#[derive(Default)]
pub(super) struct Post {
    /// Whether anybody is told anything here.
    pub(super) open: bool,
    /// What has to be told, in the order of the log.
    owed: Vec<Told>,
    told: BTreeMap<Told, usize>,
    healthy: BTreeMap<AgentId, Healthy>,
    /// Deliveries to healthy receivers that are still to be sent, and when.
    to_be_sent: BTreeMap<DeliveryId, Timestamp>,
    /// What the agent that listens in this process has heard.
    followed: Vec<Told>,
}

impl Auditor {
    /// A healthy receiver was subscribed, before anything happened.
    pub(in crate::testkit::world) fn subscribed(
        &mut self,
        agent: AgentId,
        endpoint: EndpointId,
        style: SignatureStyle,
        secret: Secret,
    ) {
        let (verifier, heard) = (Verifier::new(style, [secret]), BTreeSet::new());
        self.post.open = true;
        self.post.healthy.insert(agent, Healthy { endpoint, verifier, heard });
    }

    fn healthy(&mut self, parcel: &Parcel) -> Option<&mut Healthy> {
        let agent = parcel.url.strip_prefix(HEALTHY)?.parse().ok()?;
        self.post.healthy.get_mut(&agent)
    }

    /// A parcel for a healthy receiver is on its way: its signature has to be the market's.
    pub(in crate::testkit::world) fn signed(&mut self, parcel: &Parcel, now: Timestamp) {
        let header = |name: &str| {
            let found = parcel.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str())
        };
        let verified = self.healthy(parcel).map(|healthy| healthy.verifier.verify(header, &parcel.body, now));
        if !matches!(verified, Some(Ok(_))) {
            self.problem(format!("a parcel to {} is not the market's: {verified:?}", parcel.url));
        }
    }

    /// A healthy receiver took a parcel.
    pub(in crate::testkit::world) fn received(&mut self, parcel: &Parcel) {
        let id = parcel.headers.iter().find(|(name, _)| name == "webhook-id").map(|(_, id)| id.clone());
        if let (Some(id), Some(healthy)) = (id, self.healthy(parcel)) {
            healthy.heard.insert(id);
        }
    }

    /// The agent that listens in this process heard this.
    pub(in crate::testkit::world) fn heard(&mut self, notice: &Notice) {
        self.post.followed.push((notice.agent, notice.event.clone(), notice.at));
    }

    /// How much the agent that listens has to hear in all.
    pub(in crate::testkit::world) fn owed_to(&self, agent: AgentId) -> usize {
        self.post.owed.iter().filter(|(whom, ..)| *whom == agent).count()
    }

    pub(in crate::testkit::world) fn followed(&self) -> usize {
        self.post.followed.len()
    }

    /// Whom a commit's events concern, by the world's own table of notices.
    pub(super) fn owe(&mut self, commit: &Commit) {
        if !self.post.open {
            return;
        }
        for event in &commit.events {
            for agent in self.concerned(event) {
                self.post.owed.push((agent, event.body.name().to_owned(), event.at));
            }
        }
    }

    fn concerned(&self, event: &Event) -> Vec<AgentId> {
        let job = |id| {
            let parties = self.job(id).map_or([None, None], |job| [Some(job.buyer), job.worker]);
            parties.into_iter().flatten().collect::<Vec<AgentId>>()
        };
        let mut agents: Vec<AgentId> = match &event.body {
            EventBody::Job(JobEvent::Delivered { .. }) => job(JobId(event.subject.id)).into_iter().take(1).collect(),
            EventBody::Job(JobEvent::Completed { .. }) => job(JobId(event.subject.id)),
            EventBody::Job(JobEvent::Disputed { .. }) => {
                let others = job(JobId(event.subject.id)).into_iter();
                others.filter(|party| event.actor != Actor::Agent(*party)).collect()
            }
            EventBody::Dispute(DisputeEvent::Resolved { job: id, .. }) => job(*id),
            EventBody::Wallet(WalletEvent::PaidOut { agent, .. }) => vec![*agent],
            EventBody::Agreement(AgreementEvent::Proposed { seller, .. }) => vec![*seller],
            _ => Vec::new(),
        };
        agents.sort_unstable();
        agents
    }

    pub(super) fn notice_written(&mut self, before: Option<&Notice>, notice: &Notice) {
        match before {
            None => *self.post.told.entry((notice.agent, notice.event.clone(), notice.at)).or_default() += 1,
            Some(before) => {
                let same = Notice { read_at: notice.read_at, ..before.clone() } == *notice;
                if !same {
                    self.problem(format!("a notice was changed: {before:?} became {notice:?}"));
                }
            }
        }
    }

    pub(super) fn delivery_written(&mut self, before: Option<&Delivery>, delivery: &Delivery) {
        let healthy = self.post.healthy.get(&delivery.agent).filter(|healthy| healthy.endpoint == delivery.endpoint);
        let fine = match (healthy, delivery.state) {
            (Some(healthy), DeliveryState::Delivered) => healthy.heard.contains(&delivery.id.to_string()),
            (Some(_), DeliveryState::Pending { .. }) => true,
            (Some(_), DeliveryState::Failed | DeliveryState::Held | DeliveryState::Dropped) => false,
            (None, _) => true,
        };
        let what = |delivery: &Delivery| {
            (delivery.endpoint, delivery.agent, delivery.event.clone(), delivery.body.clone(), delivery.made_at)
        };
        let same = before.is_none_or(|before| what(before) == what(delivery));
        match delivery.state {
            DeliveryState::Pending { next_at } if healthy.is_some() => {
                self.post.to_be_sent.insert(delivery.id, next_at);
            }
            _ => _ = self.post.to_be_sent.remove(&delivery.id),
        }
        if !fine || !same {
            self.problem(format!("a delivery may not be so: {before:?} became {delivery:?}"));
        }
    }

    /// When deliveries to healthy receivers are to be sent.
    pub(super) fn to_be_sent(&self) -> impl Iterator<Item = (Timestamp, Key)> {
        let key = |id: &DeliveryId| Key { kind: Kind::Delivery, id: id.0 };
        self.post.to_be_sent.iter().map(move |(id, at)| (*at, key(id)))
    }

    /// At the end everybody was told everything, once.
    pub(in crate::testkit::world) fn check_post(&mut self, listener: Option<AgentId>) {
        let mut owed: BTreeMap<Told, usize> = BTreeMap::new();
        for told in &self.post.owed {
            *owed.entry(told.clone()).or_default() += 1;
        }
        if owed != self.post.told {
            let missing: Vec<_> =
                owed.iter().filter(|(told, count)| self.post.told.get(*told) != Some(*count)).collect();
            let more: Vec<_> = self.post.told.iter().filter(|(told, count)| owed.get(*told) != Some(*count)).collect();
            let problem = format!("to be told was {missing:?}, told was {more:?}");
            self.problem(problem);
        }
        let mut sent: BTreeMap<EndpointId, usize> = BTreeMap::new();
        for kept in self.records.values() {
            let Record::Delivery(delivery) = &kept.record else { continue };
            *sent.entry(delivery.endpoint).or_default() += usize::from(delivery.state == DeliveryState::Delivered);
        }
        let mut problems = Vec::new();
        for (agent, healthy) in &self.post.healthy {
            let due = self.owed_to(*agent);
            let (sent, heard) = (sent.get(&healthy.endpoint).copied().unwrap_or(0), healthy.heard.len());
            if sent != due || heard != due {
                problems.push(format!("{agent} was to get {due} webhooks, sent were {sent} and {heard} arrived"));
            }
        }
        if let Some(listener) = listener {
            let due: Vec<_> = self.post.owed.iter().filter(|(whom, ..)| *whom == listener).collect();
            if !due.iter().copied().eq(&self.post.followed) {
                problems.push(format!("{listener} was to hear {due:?}, heard was {:?}", self.post.followed));
            }
        }
        for problem in problems {
            self.problem(problem);
        }
    }
}
