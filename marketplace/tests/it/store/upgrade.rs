//! A database of each older version, with rows of each kind, is brought up to date and read back.

use std::{collections::BTreeMap, fs, sync::Arc};

use sha2::{Digest as _, Sha256};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, SqliteConnection, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};
use tradepost::{
    actor::Actor,
    adjustment::Booking,
    agent::{Profile, Registration},
    bid::BidOrder,
    clock::ManualClock,
    dispute::Filing,
    engine::{AgentParts, Marketplace, NoticeParts},
    ids::{AgentId, MarketId},
    job::{Delivery, JobOrder, OpenOrder},
    ledger::{Account, RevenueKind},
    money::{Currency, Money},
    notice::Target,
    policy::Policy,
    rail::{ChargebackStage, Custody},
    report::{Complaint, Reported},
    review::Rating,
    secret::Pepper,
    store::{Kind, LoggedEvent, Position, PostgresStore, Query, SqliteStore, Store, Stored, Tagged},
    testkit::{OutsideWorld, ScriptedRail},
};

use crate::{
    agreement::proposal,
    notice::{SERVER, TURN},
    support::*,
};

/// A policy under which there is something of each kind.
fn policy() -> Policy {
    let (justpay, paegents) = (Policy::justpayai().unwrap(), Policy::paegents().unwrap());
    let mut agents = Policy::agentmarket().unwrap().agents;
    agents.grant = 0;
    Policy { agents, wallet: justpay.wallet, reports: justpay.reports, agreements: paegents.agreements, ..voxpact() }
}

async fn market(store: impl Store, world: &OutsideWorld, clock: &Arc<ManualClock>) -> Marketplace {
    let profile = ScriptedRail::profile_of(Custody::PerHold, Currency::EUR);
    Marketplace::builder("grown", store, policy())
        .rail(ScriptedRail::new(profile, world.clone(), clock.clone()))
        .agents(AgentParts::new(Pepper::new([7; 32])))
        .notices(NoticeParts::new(Pepper::new([8; 32])))
        .clock(clock.clone())
        .build()
        .await
        .unwrap()
}

/// A marketplace in which something of each kind has happened; its agents.
async fn grow(market: &Marketplace, world: &OutsideWorld) -> [AgentId; 2] {
    let euros = |euros: i64| Money::new(euros * 100, Currency::EUR);
    // Only what different owners do with each other says something about them.
    let owner = || Actor::Owner(market.owner_by_email("buyer@example.org").unwrap());
    let register = async |name: &str| {
        let profile = Profile { capabilities: vec!["translation".into()], ..Profile::default() };
        let registration = Registration { name: name.into(), email: None, profile };
        let owner = Actor::Owner(market.owner_by_email(&format!("{name}@example.org")).unwrap());
        market.by(owner).register(registration).await.unwrap().agent.id
    };
    let (buyer, worker) = (register("buyer").await, register("worker").await);
    let target = Target { agent: worker, job: None };
    market.agent(worker).add_endpoint(target, "https://worker.example/hook", Vec::new()).await.unwrap();
    let post = async |order: JobOrder| market.agent(buyer).post_job(order).await.unwrap().id;
    let direct = || JobOrder { worker: Some(worker), ..JobOrder::new("Translate a page", euros(20)) };
    let delivered = async |order: JobOrder| {
        let job = post(order).await;
        market.agent(worker).accept(job).await.unwrap();
        market.agent(worker).deliver(job, Delivery::default()).await.unwrap();
        job
    };
    let done = delivered(direct()).await;
    market.agent(buyer).approve(done).await.unwrap();
    let rating = Rating { rating: 5, comment: "good".into(), tags: vec![] };
    market.agent(buyer).review(done, rating).await.unwrap();
    let filing = Filing { category: None, reason: "half of it is missing".into(), evidence: Vec::new() };
    let disputed = delivered(direct()).await;
    market.agent(buyer).open_dispute(disputed, filing).await.unwrap();
    delivered(JobOrder { validation: Some(serde_json::json!({ "must_include": "all" })), ..direct() }).await;
    let open = JobOrder { open: Some(OpenOrder::default()), ..JobOrder::new("Translate more", euros(20)) };
    let open = post(open).await;
    let bid = BidOrder { price: Some(euros(10)), ..BidOrder::default() };
    market.agent(worker).place_bid(open, bid).await.unwrap();
    assert!(world.charge_back(post(direct()).await.into(), ChargebackStage::Opened { evidence_due: None }));
    market.by(owner()).set_spending_limit(buyer, Some(euros(10_000))).await.unwrap();
    market.agent(worker).set_withdrawal_address(worker, "7xKXtg2CW87d97TXJSDpbD5jBkheTqA83TZRuJosgAsU").await.unwrap();
    let complaint = Complaint { target: Reported::Agent(buyer), reason: "spam".into(), description: String::new() };
    market.agent(worker).report(complaint).await.unwrap();
    let proposal =
        tradepost::agreement::Proposal { seller: worker, ..proposal(|minor| Money::new(minor, Currency::EUR)) };
    market.agent(buyer).propose_agreement(proposal).await.unwrap();
    let booking = Booking {
        debit: Account::Revenue(RevenueKind::Fees),
        credit: Account::Revenue(RevenueKind::Losses),
        amount: euros(1),
    };
    market.operator("Ada").adjust(vec![booking], "a test").await.unwrap();
    market.run_until_idle().await.unwrap();
    [buyer, worker]
}

/// Everything there is of a market.
#[derive(Debug, PartialEq)]
struct Contents {
    records: BTreeMap<Kind, Vec<Stored>>,
    events: Vec<LoggedEvent>,
    policies: Option<Policy>,
}

async fn contents(store: &dyn Store, market: MarketId) -> Contents {
    let mut records = BTreeMap::new();
    for kind in Kind::ALL {
        let query = Query { kind: *kind, party: None, statuses: Vec::new(), before: None, offset: 0, limit: 500 };
        records.insert(*kind, store.find(market, &query).await.unwrap());
    }
    let events = store.events(market, Position::default(), 10_000).await.unwrap();
    Contents { records, events, policies: store.policy(market, None).await.unwrap().map(|(_, policy)| policy) }
}

/// The scripts of one database's migrations, oldest first.
fn scripts(database: &str) -> Vec<String> {
    let folder = format!("{}/migrations/{database}", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// What an older library wrote down of the migrations that it had applied.
fn versions(scripts: &[String]) -> String {
    let row = |(version, script): (usize, &String)| {
        let checksum = hex::encode(Sha256::digest(script));
        format!("INSERT INTO schema_versions (version, checksum) VALUES ({}, '{checksum}');", version + 1)
    };
    let table = "CREATE TABLE schema_versions (version BIGINT PRIMARY KEY, checksum TEXT NOT NULL);".to_owned();
    [table].into_iter().chain(scripts.iter().enumerate().map(row)).collect()
}

/// What a version before the one that lists agents by what they can do could not know.
const FORGET: &str = "DELETE FROM tags WHERE kind = 'agent'";

/// Whether the migrations to come list agents.
fn lists_agents(to_come: &[String]) -> bool {
    to_come.iter().any(|script| script.contains("'can/'"))
}

/// What was brought up to date has everything that the older version had room for, is sound, and goes on.
async fn check(store: impl Store + Clone, grown: &Contents, world: &OutsideWorld, agents: [AgentId; 2], from: usize) {
    let id = store.open_market("grown").await.unwrap();
    let now = contents(&store, id).await;
    assert_eq!((&now.events, &now.policies), (&grown.events, &grown.policies), "from version {from}");
    for (kind, records) in &now.records {
        assert!(records.is_empty() || *records == grown.records[kind], "{kind:?} from version {from}");
    }
    let had_room = now.records.values().filter(|records| !records.is_empty()).count();
    assert!(had_room >= 3, "{had_room} kinds from version {from}");
    if !now.records[&Kind::Agent].is_empty() && !now.records[&Kind::Bid].is_empty() {
        let tagged = Tagged { kind: Kind::Agent, tag: "can/translation".into(), before: None, offset: 0, limit: 9 };
        assert_eq!(store.tagged(id, &tagged).await.unwrap().len(), 2, "from version {from}");
    }
    // It is opened a second time, and written to.
    let clock = Arc::new(ManualClock::at(start()));
    let market = market(store, world, &clock).await;
    if !now.records[&Kind::Agent].is_empty() {
        let order = JobOrder { worker: Some(agents[1]), ..JobOrder::new("One more", Money::new(2000, Currency::EUR)) };
        let job = market.agent(agents[0]).post_job(order).await.unwrap();
        assert!(!market.job_history(job.id).await.unwrap().is_empty());
    }
    assert_eq!(market.verify().await.unwrap(), [], "from version {from}");
}

/// Everything that a marketplace of the newest version has, of each kind something.
async fn grown(store: impl Store + Clone) -> (Contents, OutsideWorld, [AgentId; 2]) {
    let (clock, world) = (Arc::new(ManualClock::at(start())), OutsideWorld::new(Currency::EUR, 7));
    let market = market(store.clone(), &world, &clock).await;
    let agents = grow(&market, &world).await;
    let contents = contents(&store, store.open_market("grown").await.unwrap()).await;
    for (kind, records) in &contents.records {
        assert!(!records.is_empty(), "nothing of kind {kind:?}");
    }
    (contents, world, agents)
}

async fn run(connection: &mut SqliteConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_files_of_every_version_are_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let full = folder.path().join("full.db");
    let (grown, world, agents) = grown(SqliteStore::open(&full).await.unwrap()).await;
    let scripts = scripts("sqlite");
    for from in 1..=scripts.len() {
        let file = folder.path().join(format!("{from}.db"));
        let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
        let mut old = options.connect().await.unwrap();
        for script in &scripts[..from] {
            run(&mut old, script.clone()).await;
        }
        run(&mut old, versions(&scripts[..from])).await;
        run(&mut old, format!("ATTACH '{}' AS newest", full.display())).await;
        let tables = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
                      AND name NOT LIKE 'sqlite_%' AND name <> 'schema_versions'";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut old).await.unwrap();
        for table in &tables {
            run(&mut old, format!("INSERT INTO main.{table} SELECT * FROM newest.{table}")).await;
        }
        if tables.iter().any(|table| table == "tags") && lists_agents(&scripts[from..]) {
            run(&mut old, FORGET.into()).await;
        }
        old.close().await.unwrap();
        check(SqliteStore::open(&file).await.unwrap(), &grown, &world, agents, from).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_databases_of_every_version_are_brought_up_to_date() {
    // Open transactions of other tests would hold back what is read of the log.
    let _turn = TURN.lock().await;
    let scripts = scripts("postgres");
    for from in 1..=scripts.len() {
        let url = SERVER.database().unwrap();
        let (grown, world, agents) = grown(PostgresStore::connect(&url).await.unwrap()).await;
        let mut old: PgConnection = url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
        let mut sql = "ALTER SCHEMA public RENAME TO newest; CREATE SCHEMA public;".to_owned();
        scripts[..from].iter().for_each(|script| sql.push_str(script));
        sql.push_str(&versions(&scripts[..from]));
        sql.push_str(
            "DELETE FROM feed; \
             DO $$ DECLARE name TEXT; fields TEXT; counted TEXT; BEGIN \
             FOR name IN SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' \
             AND table_name <> 'schema_versions' LOOP \
             SELECT string_agg(quote_ident(column_name), ', '), max(column_name) FILTER (WHERE is_identity = 'YES') \
             INTO fields, counted FROM information_schema.columns WHERE table_schema = 'public' AND table_name = name \
             AND is_generated = 'NEVER'; \
             EXECUTE format('INSERT INTO public.%I (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM newest.%I', \
             name, fields, fields, name); \
             IF counted IS NOT NULL THEN EXECUTE format( \
             'SELECT setval(pg_get_serial_sequence(''public.%I'', %L), (SELECT COALESCE(max(%I), 1) FROM public.%I))', \
             name, counted, counted, name); END IF; END LOOP; END $$; \
             DROP SCHEMA newest CASCADE;",
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut old).await.unwrap();
        let has_tags: bool =
            sqlx::query_scalar("SELECT to_regclass('public.tags') IS NOT NULL").fetch_one(&mut old).await.unwrap();
        if has_tags && lists_agents(&scripts[from..]) {
            sqlx::raw_sql(FORGET).execute(&mut old).await.unwrap();
        }
        old.close().await.unwrap();
        check(PostgresStore::connect(&url).await.unwrap(), &grown, &world, agents, from).await;
    }
}
