//! Agents: registration, activation, keys, deletion, and what jobs ask of them, on memory and SQLite.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use tradepost::{
    actor::Actor,
    agent::{
        AcceptedTerms, Agent, AgentCommand, AgentStatus, Context, Fresh, FreshKey, KeyId, Owner, Profile,
        ProfileUpdate, Registration, decide,
    },
    clock::ManualClock,
    engine::{AgentParts, Marketplace, Registered, WebhookPing},
    error::{Error, Rejection},
    ids::{AgentId, OwnerId, RailId},
    job::Delivery,
    ledger::{Account, RevenueKind},
    money::Money,
    policy::{KeyIssue, Policy, PolicyVersion, Span},
    rail::CreditsRail,
    secret::{Pepper, SecretSource},
    store::{Kept as _, Key, Kind, MemoryStore, SqliteStore, Store},
};
use uuid::Uuid;

use crate::support::*;

const CREDITS: RailId = CreditsRail::ID;

/// Secrets counted from 1: never the same twice.
#[derive(Default)]
struct Counted(AtomicU64);

impl SecretSource for Counted {
    fn draw(&self) -> Result<[u8; 32], String> {
        let mut bytes = [0xAB; 32];
        bytes[..8].copy_from_slice(&self.0.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        Ok(bytes)
    }
}

/// A webhook sink that answers `https://good…` only, and hangs at `https://hang…`.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl WebhookPing for Sink {
    async fn ping(&self, url: &str, _within: Span) -> Result<(), String> {
        self.0.lock().unwrap().push(url.into());
        if url.starts_with("https://hang") {
            std::future::pending::<()>().await;
        }
        if url.starts_with("https://good") { Ok(()) } else { Err("it answered 500".into()) }
    }
}

struct Town {
    market: Marketplace,
    clock: Arc<ManualClock>,
    sink: Sink,
    _folder: Option<tempfile::TempDir>,
}

impl Town {
    async fn on(store: impl Store, policy: Policy) -> Self {
        let (clock, sink) = (Arc::new(ManualClock::at(start())), Sink::default());
        let parts = AgentParts::new(Pepper::new([7; 32])).secrets(Counted::default()).webhook_ping(sink.clone());
        let rail = CreditsRail::new(policy.currency);
        let builder = Marketplace::builder("town", store, policy).rail(rail).agents(parts);
        let market = builder.clock(clock.clone()).ids(Arc::new(CountedIds::default())).build().await.unwrap();
        Self { market, clock, sink, _folder: None }
    }

    /// The same town on memory and on SQLite.
    async fn both(policy: Policy) -> [Self; 2] {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
        let mut on_disk = Self::on(sqlite, policy.clone()).await;
        on_disk._folder = Some(folder);
        [Self::on(MemoryStore::new(), policy).await, on_disk]
    }

    fn me(&self) -> Actor {
        Actor::Owner(self.market.owner_by_email("me@example.org").unwrap())
    }

    async fn register(&self) -> Registered {
        self.market.by(self.me()).register(registration("Ada")).await.unwrap()
    }

    /// An agent as active as its policy allows at no cost.
    async fn active(&self) -> Registered {
        let made = self.register().await;
        match &made.token {
            None => made,
            Some(token) => self.market.by(self.me()).confirm(made.agent.id, token.expose(), terms()).await.unwrap(),
        }
    }

    async fn balance(&self, account: Account) -> i64 {
        self.market.balance(account, None).await.unwrap().minor()
    }

    async fn deposit(&self, reference: &str, agent: AgentId, minor: i64) -> Result<(), Error> {
        let amount = Money::new(minor, self.market.currency());
        self.market.operator("Ada").record_deposit(CREDITS, reference, agent, amount).await
    }
}

fn registration(name: &str) -> Registration {
    let webhook = Some("https://good.example/hook".into());
    let profile = Profile { webhook, capabilities: vec!["translation".into()], ..Profile::default() };
    Registration { name: name.into(), email: Some("me@example.org".into()), profile }
}

fn terms() -> AcceptedTerms {
    AcceptedTerms("2026-01".into())
}

fn rejected<T>(answer: Result<T, Error>) -> Rejection {
    match answer {
        Err(Error::Rejected(rejection)) => rejection,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was not refused"),
    }
}

#[tokio::test]
async fn vp_01_and_02_the_first_agent_is_free_and_a_further_one_waits_for_its_fee() {
    for town in Town::both(voxpact()).await {
        let made = town.register().await;
        assert_eq!((made.agent.status, made.key.is_none()), (AgentStatus::PendingVerification, true));
        assert_eq!(*town.sink.0.lock().unwrap(), ["https://good.example/hook"]);
        let token = made.token.unwrap();
        let first = town.market.by(town.me()).confirm(made.agent.id, token.expose(), terms()).await.unwrap();
        assert_eq!(first.agent.status, AgentStatus::Active);
        let verified = town.market.verify_key(first.key.unwrap().expose()).await.unwrap();
        assert_eq!(verified.agent, made.agent.id);
        // The token was for once.
        let again = town.market.by(town.me()).confirm(made.agent.id, token.expose(), terms()).await;
        assert!(matches!(rejected(again), Rejection::WrongAgentStatus { .. }));

        let second = town.active().await;
        assert_eq!((second.agent.status, second.key.is_none()), (AgentStatus::AwaitingFee, true));
        assert_eq!(second.agent.fee.map(Money::minor), Some(500));
        let me = town.market.by(town.me()).confirm_fee(second.agent.id, CREDITS, "pi_1").await;
        assert!(matches!(rejected(me), Rejection::WrongActor { .. }));
        let paid = town.market.operator("Ada").confirm_fee(second.agent.id, CREDITS, "pi_1").await.unwrap();
        assert_eq!(paid.status, AgentStatus::Active);
        assert_eq!(town.balance(Account::Revenue(RevenueKind::Activations)).await, 500);
        let twice = town.market.operator("Ada").confirm_fee(second.agent.id, CREDITS, "pi_1").await;
        assert!(matches!(rejected(twice), Rejection::WrongAgentStatus { .. }));
        assert!(town.market.by(town.me()).create_key(second.agent.id, "first").await.unwrap().key.is_some());
        assert_eq!(town.market.trial_balance().await.unwrap()[0].sum(), 0);
        assert!(town.market.verify().await.unwrap().is_empty());
        let Actor::Owner(owner) = town.me() else { unreachable!() };
        assert_eq!(town.market.agents_of(owner, 0).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn vp_02_of_two_first_agents_confirmed_at_once_one_is_free() {
    for town in Town::both(voxpact()).await {
        let (a, b) = (town.register().await, town.register().await);
        let (token_a, token_b) = (a.token.unwrap(), b.token.unwrap());
        let (a, b) = tokio::join!(
            town.market.by(town.me()).confirm(a.agent.id, token_a.expose(), terms()),
            town.market.by(town.me()).confirm(b.agent.id, token_b.expose(), terms()),
        );
        let mut statuses = [a.unwrap().agent.status, b.unwrap().agent.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [AgentStatus::AwaitingFee, AgentStatus::Active]);
    }
}

#[tokio::test]
async fn vp_02_a_token_is_void_when_it_is_wrong_replaced_or_old() {
    for town in Town::both(voxpact()).await {
        let made = town.register().await;
        let (id, old) = (made.agent.id, made.token.unwrap());
        let new = town.market.by(town.me()).ask_confirmation(id).await.unwrap().token.unwrap();
        for token in [old.expose(), "", "nonsense", "é"] {
            let answer = town.market.by(town.me()).confirm(id, token, terms()).await;
            assert_eq!(rejected(answer), Rejection::WrongToken { command: "confirm" });
        }
        town.clock.advance(Span::hours(24).delta());
        let late = town.market.by(town.me()).confirm(id, new.expose(), terms()).await;
        assert!(matches!(rejected(late), Rejection::TooLate { .. }));
        assert_eq!(town.market.registered(id).await.unwrap().status, AgentStatus::PendingVerification);
    }
}

#[tokio::test]
async fn vp_01_a_webhook_that_fails_or_hangs_fails_the_registration() {
    tokio::time::pause();
    let town = Town::on(MemoryStore::new(), voxpact()).await;
    for url in ["https://bad.example/", "https://hang.example/"] {
        let mut registration = registration("Ada");
        registration.profile.webhook = Some(url.into());
        let answer = town.market.by(town.me()).register(registration).await;
        assert!(matches!(rejected(answer), Rejection::WebhookSilent { .. }), "{url}");
    }
    let mut registration = registration("Ada");
    registration.profile.webhook = None;
    let answer = town.market.by(town.me()).register(registration).await;
    assert_eq!(rejected(answer), Rejection::Missing { field: "webhook" });
    assert!(town.market.subscribe("log").await.unwrap().next(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn am_01_registering_gives_a_key_and_a_hundred_credits_at_once() {
    for town in Town::both(agent_market()).await {
        let made = town.market.by(town.me()).keyed("k").register(registration("Ada")).await.unwrap();
        assert_eq!(made.agent.status, AgentStatus::Active);
        assert_eq!(town.market.available(made.agent.id).await.unwrap().minor(), 100); // AM-03
        assert_eq!(town.balance(Account::Revenue(RevenueKind::Grants)).await, -100);
        assert!(made.key.is_some());
        // Repeated under its key it is the same agent, and the secret is not shown again.
        let again = town.market.by(town.me()).keyed("k").register(registration("Ada")).await.unwrap();
        assert_eq!((again.agent.id, again.key.is_none()), (made.agent.id, true));
        assert!(town.market.verify().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn jp_02_the_first_deposit_of_a_dollar_activates_and_pays_the_fee() {
    for town in Town::both(just_pay()).await {
        let made = town.register().await; // JP-01: a key at once, not activated
        assert_eq!((made.agent.status, made.key.is_some()), (AgentStatus::AwaitingDeposit, true));
        let id = made.agent.id;
        town.deposit("small", id, 999_999).await.unwrap();
        assert_eq!(town.market.registered(id).await.unwrap().status, AgentStatus::AwaitingDeposit);
        for _ in 0..2 {
            town.deposit("large", id, 3_000_000).await.unwrap();
            assert_eq!(town.market.registered(id).await.unwrap().status, AgentStatus::Active);
            assert_eq!(town.market.available(id).await.unwrap().minor(), 2_999_999);
            assert_eq!(town.balance(Account::Revenue(RevenueKind::Activations)).await, 1_000_000);
        }
        let nobody = town.deposit("lost", stranger(), 5).await;
        assert!(matches!(rejected(nobody), Rejection::NotFound { what: "agent", .. }));
    }
}

#[tokio::test]
async fn jp_03_keys_are_named_limited_replaced_and_never_the_last_one_revoked() {
    let mut policy = just_pay();
    policy.agents.keys.max = 2;
    for town in Town::both(policy).await {
        let made = town.register().await;
        let (id, first) = (made.agent.id, made.key.unwrap());
        let me = || town.market.by(Actor::Agent(id));
        assert_eq!(rejected(me().revoke_key(id, KeyId(1)).await), Rejection::LastKey);
        let second = me().create_key(id, "laptop").await.unwrap();
        let text = second.key.unwrap();
        assert!(text.expose().starts_with("jp_"));
        assert_eq!(second.agent.keys[1].shown, text.expose()[..6]); // three characters after the prefix
        assert_eq!(rejected(me().create_key(id, "third").await), Rejection::TooManyKeys { max: 2 });
        assert!(matches!(rejected(me().rotate_key(id, KeyId(9)).await), Rejection::NotFound { what: "key", .. }));
        // VP-04: the old one dies at once, and so do sessions.
        town.clock.advance(Span::SECOND.delta());
        let rotated = me().rotate_key(id, KeyId(1)).await.unwrap();
        assert_eq!(rotated.agent.sessions_since, start() + Span::SECOND.delta());
        assert_eq!(rejected(town.market.verify_key(first.expose()).await), Rejection::WrongKey);
        let verified = town.market.verify_key(rotated.key.unwrap().expose()).await.unwrap();
        assert_eq!((verified.agent, verified.key), (id, KeyId(3)));
        me().revoke_key(id, KeyId(2)).await.unwrap();
        assert_eq!(rejected(town.market.verify_key(text.expose()).await), Rejection::WrongKey);
        let other = town.market.agent(stranger()).create_key(id, "mine").await;
        assert!(matches!(rejected(other), Rejection::WrongActor { .. }));
    }
}

#[tokio::test]
async fn jp_03_guessed_keys_are_nobodys() {
    let town = Town::on(MemoryStore::new(), just_pay()).await;
    let made = town.register().await;
    let key = made.key.unwrap();
    let whole = key.expose();
    let wrong = if whole.contains("ab") { whole.replace("ab", "ac") } else { String::new() };
    let of_nobody = format!("{}{}", &whole[..whole.len() - 32], Uuid::from_u128(1).simple());
    let upper = whole.to_uppercase();
    for guess in ["", "jp_", &wrong, &of_nobody, &upper, &whole[1..], &"é".repeat(96), &"0".repeat(1 << 20)] {
        assert_eq!(rejected(town.market.verify_key(guess).await), Rejection::WrongKey, "{guess:.40}");
    }
}

#[tokio::test]
async fn vp_05_a_lost_key_is_recovered_in_fifteen_minutes_once_a_day() {
    for town in Town::both(voxpact()).await {
        let made = town.active().await;
        let (id, lost) = (made.agent.id, made.key.unwrap());
        let token = town.market.by(town.me()).ask_recovery(id).await.unwrap().token.unwrap();
        assert!(matches!(rejected(town.market.by(town.me()).ask_recovery(id).await), Rejection::TooSoon { .. }));
        town.clock.advance(Span::seconds(15 * 60).delta());
        let late = town.market.by(town.me()).recover(id, token.expose()).await;
        assert!(matches!(rejected(late), Rejection::TooLate { .. }));
        town.clock.advance(Span::hours(24).delta());
        let token = town.market.by(town.me()).ask_recovery(id).await.unwrap().token.unwrap();
        let other = town.market.by(Actor::Owner(OwnerId(Uuid::from_u128(1)))).recover(id, token.expose()).await;
        assert!(matches!(rejected(other), Rejection::WrongActor { .. }));
        let found = town.market.by(town.me()).recover(id, token.expose()).await.unwrap();
        assert_eq!(rejected(town.market.verify_key(lost.expose()).await), Rejection::WrongKey);
        assert!(town.market.verify_key(found.key.unwrap().expose()).await.is_ok());
        let twice = town.market.by(town.me()).recover(id, token.expose()).await;
        assert_eq!(rejected(twice), Rejection::WrongToken { command: "recover" });
    }
}

#[tokio::test]
async fn vp_09_only_an_agent_without_active_jobs_is_deleted() {
    for town in Town::both(agent_market()).await {
        let (a, b) = (town.register().await.agent.id, town.register().await.agent.id);
        let mut order = order(Money::new(50, town.market.currency()));
        order.worker = Some(b);
        let job = town.market.agent(a).post_job(order.clone()).await.unwrap();
        for id in [a, b] {
            let answer = town.market.by(town.me()).delete(id).await;
            assert_eq!(rejected(answer), Rejection::ContractActive { agent: id, contract: job.key() });
        }
        town.market.agent(b).accept(job.id).await.unwrap();
        town.market.agent(b).deliver(job.id, Delivery::default()).await.unwrap();
        assert_eq!(town.market.by(town.me()).delete(b).await.unwrap().status, AgentStatus::Deleted);
        let after = town.market.agent(a).post_job(order).await;
        assert!(matches!(rejected(after), Rejection::WrongAgentStatus { command: "post", .. }));
        let public = town.market.profile(b).await.unwrap();
        assert!(public.capabilities.is_empty());
        town.market.run_until_idle().await.unwrap();
    }
}

#[tokio::test]
async fn vp_09_a_deletion_and_a_job_at_once_never_leave_a_deleted_agent_with_a_job() {
    for _ in 0..20 {
        for town in Town::both(agent_market()).await {
            let (a, b) = (town.register().await.agent.id, town.register().await.agent.id);
            let mut order = order(Money::new(50, town.market.currency()));
            order.worker = Some(b);
            let (job, deleted) =
                tokio::join!(town.market.agent(a).post_job(order), town.market.by(town.me()).delete(b));
            assert!(job.is_ok() != deleted.is_ok(), "{job:?} {deleted:?}");
            let status = town.market.registered(b).await.unwrap().status;
            assert_eq!(status, if job.is_ok() { AgentStatus::Active } else { AgentStatus::Deleted });
        }
    }
}

#[tokio::test]
async fn only_active_agents_post_and_take_on_jobs() {
    for town in Town::both(agent_market()).await {
        let (a, b) = (town.register().await.agent.id, town.register().await.agent.id);
        let mut order = order(Money::new(50, town.market.currency()));
        order.worker = Some(b);
        let job = town.market.agent(a).post_job(order.clone()).await.unwrap();
        let other = town.market.agent(a).suspend(b, "spam").await;
        assert!(matches!(rejected(other), Rejection::WrongActor { .. }));
        town.market.operator("Ada").suspend(b, "spam").await.unwrap();
        let answer = town.market.agent(b).accept(job.id).await;
        assert!(matches!(rejected(answer), Rejection::WrongAgentStatus { command: "accept", .. }));
        town.market.operator("Ada").reinstate(b).await.unwrap();
        town.market.agent(b).accept(job.id).await.unwrap();
        let unknown = town.market.agent(stranger()).post_job(order).await;
        assert!(matches!(rejected(unknown), Rejection::NotFound { what: "agent", .. }));
    }
}

#[tokio::test]
async fn vp_07_and_jp_04_a_profile_changes_field_by_field() {
    for town in Town::both(voxpact()).await {
        let id = town.active().await.agent.id;
        let update = ProfileUpdate { website: Some("https://ada.example".into()), ..ProfileUpdate::default() };
        let agent = town.market.agent(id).update_profile(id, update).await.unwrap();
        assert_eq!(agent.profile.capabilities, ["translation"]);
        assert_eq!(agent.profile.website.as_deref(), Some("https://ada.example"));
        let bad = ProfileUpdate { webhook: Some("https://bad.example".into()), ..ProfileUpdate::default() };
        let answer = town.market.agent(id).update_profile(id, bad).await;
        assert!(matches!(rejected(answer), Rejection::WebhookSilent { .. }));
        let none = ProfileUpdate { website: Some(String::new()), ..ProfileUpdate::default() };
        assert_eq!(town.market.agent(id).update_profile(id, none).await.unwrap().profile.website, None);
        // VP-10: what everybody sees holds neither owner nor webhook nor keys.
        let public = serde_json::to_string(&town.market.profile(id).await.unwrap()).unwrap();
        assert!(!public.contains("good.example") && !public.contains("digest") && !public.contains("owner"));
    }
}

#[tokio::test]
async fn hostile_texts_are_refused() {
    let town = Town::on(MemoryStore::new(), just_pay()).await;
    let long = "x".repeat(1 << 20);
    for name in ["", "x", "a b", "né", "a\0b", "a\u{202E}b", "<b>", &long] {
        let answer = town.market.by(town.me()).register(registration(name)).await;
        assert!(refused_text(&rejected(answer)), "{name:.20}");
    }
    for url in
        ["http://a.b", "https://", "https:///x", "https://u@h/", "https://a b", "https://a\\b", "javascript:x", &long]
    {
        let mut registration = registration("Ada");
        registration.profile.webhook = Some(url.into());
        assert!(refused_text(&rejected(town.market.by(town.me()).register(registration).await)), "{url:.20}");
    }
    for email in ["", "me", "@h", "me@", "a@b@c", "a b@c", "a@b\r\nBcc: x", &long] {
        let registration = Registration { email: Some(email.into()), ..registration("Ada") };
        assert!(refused_text(&rejected(town.market.by(town.me()).register(registration).await)), "{email:.20}");
    }
    let mut many = registration("Ada");
    many.profile.capabilities = vec!["x".into(); 21];
    let answer = town.market.by(town.me()).register(many).await;
    assert_eq!(rejected(answer), Rejection::TooMany { field: "capabilities", max: 20, actual: 21 });
    town.register().await;
    let other = Registration { email: Some("you@example.org".into()), ..registration("Eve") };
    assert_eq!(rejected(town.market.by(town.me()).register(other).await), Rejection::OtherEmail);
}

fn refused_text(rejection: &Rejection) -> bool {
    matches!(rejection, Rejection::Length { .. } | Rejection::Form { .. } | Rejection::Character { .. })
}

#[tokio::test]
async fn jp_03_no_secret_is_in_what_is_kept_logged_or_printed() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("market.db")).await.unwrap();
    let town = Town::on(store, voxpact()).await;
    let made = town.market.by(town.me()).keyed("r").register(registration("Ada")).await.unwrap();
    let (id, token) = (made.agent.id, made.token.clone().unwrap());
    let active = town.market.by(town.me()).keyed("c").confirm(id, token.expose(), terms()).await.unwrap();
    let key = active.key.clone().unwrap();
    let wrong = town.market.by(town.me()).confirm(id, token.expose(), terms()).await.unwrap_err();
    let recovery = town.market.by(town.me()).ask_recovery(id).await.unwrap();
    let log = town.market.agent_history(id).await.unwrap();
    let printed = format!("{made:?}{active:?}{recovery:?}{wrong:?}{wrong}{log:?}{:?}", Pepper::new([7; 32]));
    let mut kept = serde_json::to_string(&log).unwrap().into_bytes();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        kept.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    let kept = String::from_utf8_lossy(&kept);
    assert!(kept.contains("agent.activated"), "the files were read");
    for secret in [token.expose(), recovery.token.as_ref().unwrap().expose(), &key.expose()[13..77]] {
        assert!(!printed.contains(secret) && !kept.contains(secret));
    }
    assert!(!printed.contains("digest: Digest([") && printed.contains("Secret(hidden)"));
}

#[tokio::test]
async fn without_agents_any_id_is_one_and_their_commands_are_not_offered() {
    let policy = agent_market();
    let rail = CreditsRail::new(policy.currency);
    let market = Marketplace::builder("town", MemoryStore::new(), policy).rail(rail).build().await.unwrap();
    let answer = market.by(owner()).register(registration("Ada")).await;
    assert!(matches!(rejected(answer), Rejection::NotOffered { .. }));
    let policy = voxpact();
    let rail = CreditsRail::new(policy.currency);
    let builder = Marketplace::builder("town", MemoryStore::new(), policy).rail(rail);
    let built = builder.agents(AgentParts::new(Pepper::new([0; 32]))).build().await;
    assert!(matches!(built.err(), Some(Error::Configuration { .. }))); // VP-01 needs a ping
}

/// VP-01, VP-02, VP-09: every command in every status is legal exactly where the table says.
#[test]
fn every_command_is_refused_in_every_status_that_the_table_does_not_name() {
    let mut policy = voxpact();
    policy.agents.keys.issued = KeyIssue::Registration;
    let fresh = fresh();
    let id = AgentId(Uuid::from_u128(1));
    let owner_id = OwnerId(Uuid::from_u128(2));
    let owner = Owner { id: owner_id, email: Some("me@example.org".into()), priced: 1, recovery_asked_at: None };
    let nobody = Actor::Agent(stranger());
    let by = |actor| Context {
        now: start(),
        actor,
        policy: &policy,
        version: PolicyVersion(1),
        fresh: &fresh,
        active_contract: None,
        holds: None,
        owes: None,
    };
    let (me, operator, timer) = (Actor::Owner(owner_id), operator(), Actor::Timer);
    let command = AgentCommand::Register { id, registration: Box::new(registration("Ada")) };
    let made = decide(None, Some(&owner), &command, &by(&me)).unwrap();
    let mut agent: Agent = made.agent;
    agent.recovery = agent.confirmation.clone();
    agent.keys.push(agent.keys[0].clone());
    agent.keys[1].id = KeyId(2);
    let token = fresh.token;
    let commands = [
        (AgentCommand::AskConfirmation, &me),
        (AgentCommand::Confirm { token, terms: terms() }, &me),
        (AgentCommand::ConfirmFee { rail: RAIL, reference: "x".into() }, &operator),
        (AgentCommand::TakeDeposit { amount: Money::new(1, policy.currency) }, &operator),
        (AgentCommand::UpdateProfile { update: Box::default() }, &me),
        (AgentCommand::Suspend { reason: String::new() }, &operator),
        (AgentCommand::Reinstate, &operator),
        (AgentCommand::Delete, &me),
        (AgentCommand::Close, &timer),
        (AgentCommand::RotateKey { key: KeyId(1) }, &me),
        (AgentCommand::RevokeKey { key: KeyId(1) }, &me),
        (AgentCommand::AskRecovery, &me),
        (AgentCommand::Recover { token }, &me),
    ];
    for status in AgentStatus::ALL {
        let agent = Agent { status, ..agent.clone() };
        for (command, actor) in &commands {
            let answer = decide(Some(&agent), Some(&owner), command, &by(actor));
            match command.legal_in().contains(&status) {
                true => assert!(answer.is_ok(), "{} in {status}: {answer:?}", command.name()),
                false => assert!(
                    matches!(answer, Err(Rejection::WrongAgentStatus { .. })),
                    "{} in {status}: {answer:?}",
                    command.name()
                ),
            }
            let answer = decide(Some(&agent), Some(&owner), command, &by(&nobody));
            assert!(matches!(answer, Err(Rejection::WrongActor { .. })), "{}", command.name());
        }
    }
    // VP-09: a job that began before the deletion was final keeps the agent.
    let closing = Agent { status: AgentStatus::Closing, was: Some(AgentStatus::Active), ..agent };
    let context = Context { active_contract: Some(Key { kind: Kind::Job, id: id.0 }), ..by(&timer) };
    let kept = decide(Some(&closing), Some(&owner), &AgentCommand::Close, &context).unwrap();
    assert_eq!((kept.agent.status, kept.agent.keys.len()), (AgentStatus::Active, 2));
}

fn fresh() -> Fresh {
    let digest = |digit: &str| serde_json::from_value(serde_json::Value::String(digit.repeat(64))).unwrap();
    Fresh { key: FreshKey { shown: "vxp_live_0000".into(), digest: digest("1") }, token: digest("2") }
}

/// VP-01: a name of 2 to 255 characters, at most 15 capabilities.
#[tokio::test]
async fn vp_01_names_and_capabilities_have_their_own_limits() {
    for town in Town::both(voxpact()).await {
        let named = async |length: usize| {
            town.market.by(town.me()).register(Registration { name: "é".repeat(length), ..registration("") }).await
        };
        for length in [1, 256] {
            let (field, unit, min, max) = ("name", "characters", 2, 255);
            assert_eq!(rejected(named(length).await), Rejection::Length { field, unit, min, max, actual: length });
        }
        for length in [2, 255] {
            assert_eq!(named(length).await.unwrap().agent.name.chars().count(), length);
        }
        let able = async |count: usize| {
            let mut able = registration("Ada");
            able.profile.capabilities = (0..count).map(|number| format!("capability {number}")).collect();
            town.market.by(town.me()).register(able).await
        };
        let refused = Rejection::TooMany { field: "capabilities", max: 15, actual: 16 };
        assert_eq!(rejected(able(16).await), refused);
        let fifteen = able(15).await.unwrap().agent;
        assert_eq!(fifteen.profile.capabilities.len(), 15);
        let update = ProfileUpdate {
            capabilities: Some((0..16).map(|number| number.to_string()).collect()),
            ..ProfileUpdate::default()
        };
        let update = town.market.by(town.me()).update_profile(fifteen.id, update).await;
        assert_eq!(rejected(update), refused);
        for hidden in ["Ad\u{202E}a", "Ad\u{200B}a", "Ada\u{200D}", "Ad\u{61C}a", "Ad\u{E0041}a"] {
            let answer = town.market.by(town.me()).register(registration(hidden)).await;
            assert!(matches!(rejected(answer), Rejection::Character { field: "name", .. }), "{hidden:?}");
        }
    }
}
