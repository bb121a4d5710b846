//! A Stripe in memory, over real HTTP: what Stripe documents of its payments, Connect, idempotency
//! keys, events and webhooks, with a clock that is set by hand and trouble that is arranged.

mod world;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub use world::{Ending, World};

/// How long a key is kept, in seconds.
const KEY_LIVES: i64 = 24 * 3600;
/// The key that the double takes.
pub const KEY: &str = "sk_test_doubledoubledouble";

/// What is to happen to a request that is to have an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// This one goes well.
    None,
    /// The connection closes and nothing happened.
    LostBefore,
    /// It happens and the connection closes.
    LostAfter,
    /// It happens, and then the connection closes before half of the answer is out.
    Garbled,
    /// 429.
    Busy,
    /// 409: the key is in use.
    InUse,
    /// 500, which is kept for the key; nothing happened.
    Broken,
    /// It happens, and 500 is kept for the key.
    BrokenAfter,
    /// The card says no.
    Declined,
    /// The cardholder is needed.
    NeedsAction,
    /// It takes a while and ends so.
    Processing(Ending),
    /// One unit more is moved.
    OtherAmount,
    /// Dollars are moved.
    OtherCurrency,
    /// Somebody gave the payer everything back in the dashboard, a moment before.
    RefundedOutside,
    /// The balance transaction is not there yet.
    FeeLater,
}

/// The chances of trouble, in percent of the requests.
#[derive(Clone, Copy, Debug)]
pub struct Chaos {
    pub effects: u32,
    pub reads: u32,
}

/// A Stripe. Clones are the same one.
#[derive(Clone)]
pub struct Double {
    state: Arc<Mutex<State>>,
    pub address: SocketAddr,
}

pub struct State {
    pub world: World,
    keys: HashMap<String, Kept>,
    /// Whether the key is revoked.
    pub revoked: bool,
    troubles: VecDeque<Trouble>,
    chaos: Option<(StdRng, Chaos)>,
    /// Every request: method, path, parameters.
    pub requests: Vec<(Method, String, String)>,
    /// The path and the key of every request that was to have an effect.
    pub keys_sent: Vec<(String, String)>,
}

struct Kept {
    request: String,
    at: i64,
    answer: Option<(u16, Value)>,
}

/// An answer: its status, its body, and whether it is a replay.
type Answer = (u16, Value, bool);

impl Double {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            world: World::new(),
            keys: HashMap::new(),
            revoked: false,
            troubles: VecDeque::new(),
            chaos: None,
            requests: Vec::new(),
            keys_sent: Vec::new(),
        };
        let double = Self { state: Arc::new(Mutex::new(state)), address };
        tokio::spawn(double.clone().serve(listener));
        double
    }

    /// Begins anew.
    pub fn reset(&self) {
        let mut state = self.lock();
        (state.world, state.chaos, state.revoked) = (World::new(), None, false);
        state.keys.clear();
        state.troubles.clear();
        state.requests.clear();
        state.keys_sent.clear();
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Arranges trouble for the next request with an effect.
    pub fn arrange(&self, trouble: Trouble) {
        self.lock().troubles.push_back(trouble);
    }

    /// Has trouble come by chance; none ends it.
    pub fn chaos(&self, seed: u64, chaos: Option<Chaos>) {
        self.lock().chaos = chaos.map(|chaos| (StdRng::seed_from_u64(seed), chaos));
    }

    async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let double = self.clone();
            let service = service_fn(move |request| double.clone().answer(request));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    async fn answer(self, request: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, String> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        // A client that goes away does not stop what it asked for.
        let answered = tokio::spawn(async move { self.carry_out(&head, &body).await }).await.unwrap();
        let (status, body, replayed) = answered.ok_or("the connection breaks")?;
        let mut response = Response::builder().status(status).header("request-id", "req_double");
        if replayed {
            response = response.header("idempotent-replayed", "true");
        }
        if status == 429 {
            response = response.header("retry-after", "0");
        }
        let body = if body.is_null() { b"<html>".to_vec() } else { serde_json::to_vec(&body).unwrap() };
        Ok(response.body(Full::new(body.into())).unwrap())
    }

    /// None breaks the connection.
    async fn carry_out(&self, head: &hyper::http::request::Parts, body: &[u8]) -> Option<Answer> {
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let path = head.uri.path().to_owned();
        let text = if head.method == Method::GET { head.uri.query().unwrap_or_default().as_bytes() } else { body };
        let mut pairs: Vec<(String, String)> = form_urlencoded::parse(text).into_owned().collect();
        pairs.sort();
        let read = String::from_utf8_lossy(text).into_owned();
        self.lock().requests.push((head.method.clone(), path.clone(), read));
        if header("authorization") != format!("Bearer {KEY}") {
            return Some((401, error("invalid_request_error", None, "Invalid API Key provided: sk_test_****"), false));
        }
        if self.lock().revoked {
            let body =
                error("invalid_request_error", Some("api_key_expired"), "Expired API Key provided: sk_test_****");
            return Some((401, body, false));
        }
        let params: HashMap<String, String> = pairs.iter().cloned().collect();
        let account = header("stripe-account").to_owned();
        if head.method == Method::GET {
            let mut state = self.lock();
            if state.read_fails() {
                return None;
            }
            let (status, body) = state.world.get(&path, &params, &account);
            return Some((status, body, false));
        }
        let key = header("idempotency-key").to_owned();
        let request = format!("{account} {path} {pairs:?}");
        self.lock().keys_sent.push((path.clone(), key.clone()));
        if let Some(answer) = self.lock().begin(&key, &request) {
            return answer;
        }
        for _ in 0..3 {
            tokio::task::yield_now().await; // others may come meanwhile and find the key in use
        }
        self.lock().end(&key, &path, &params, &account)
    }
}

impl State {
    /// The answer if there is nothing to do: a replay, a refusal, trouble on the way.
    fn begin(&mut self, key: &str, request: &str) -> Option<Option<Answer>> {
        let now = self.world.now;
        self.keys.retain(|_, kept| now - kept.at < KEY_LIVES);
        match self.keys.get(key).filter(|_| !key.is_empty()) {
            Some(kept) if kept.request != request => {
                let message = "Keys for idempotent requests can only be used with the same parameters";
                return Some(Some((400, error("idempotency_error", None, message), false)));
            }
            Some(Kept { answer: None, .. }) => return Some(Some(in_use())),
            Some(Kept { answer: Some((status, body)), .. }) => return Some(Some((*status, body.clone(), true))),
            None => {}
        }
        if let Some((dice, chaos)) = &mut self.chaos
            && dice.random_range(0..100) < chaos.effects
        {
            let all = [
                Trouble::LostBefore,
                Trouble::LostAfter,
                Trouble::LostAfter,
                Trouble::Garbled,
                Trouble::Busy,
                Trouble::InUse,
                Trouble::Broken,
                Trouble::BrokenAfter,
                Trouble::Declined,
                Trouble::NeedsAction,
                Trouble::FeeLater,
            ];
            self.troubles.push_back(all[dice.random_range(0..all.len())]);
        }
        match self.troubles.front() {
            Some(Trouble::LostBefore) => {
                self.troubles.pop_front();
                return Some(None);
            }
            Some(Trouble::Busy) => {
                self.troubles.pop_front();
                return Some(Some((429, error("invalid_request_error", Some("rate_limit"), "Too many"), false)));
            }
            Some(Trouble::InUse) => {
                self.troubles.pop_front();
                return Some(Some(in_use()));
            }
            _ => {}
        }
        if !key.is_empty() {
            self.keys.insert(key.into(), Kept { request: request.into(), at: now, answer: None });
        }
        None
    }

    fn end(&mut self, key: &str, path: &str, params: &HashMap<String, String>, account: &str) -> Option<Answer> {
        let trouble = self.troubles.pop_front();
        let broken = (500, error("api_error", None, "Something went wrong"));
        let (status, body) = match trouble {
            Some(Trouble::Broken) => broken.clone(),
            _ if path == "/v1/payouts" => self.world.new_payout(account, params),
            _ => self.world.post(path, params, trouble),
        };
        let kept = if trouble == Some(Trouble::BrokenAfter) { broken } else { (status, body) };
        if let Some(slot) = self.keys.get_mut(key) {
            slot.answer = Some(kept.clone());
        }
        match trouble {
            Some(Trouble::LostAfter) => None,
            Some(Trouble::Garbled) => Some((200, Value::Null, false)),
            _ => Some((kept.0, kept.1, false)),
        }
    }

    fn read_fails(&mut self) -> bool {
        self.chaos.as_mut().is_some_and(|(dice, chaos)| dice.random_range(0..100) < chaos.reads)
    }
}

fn in_use() -> Answer {
    let message = "There is currently another in-progress request using this Idempotent Key";
    (409, error("invalid_request_error", Some("idempotency_key_in_use"), message), false)
}

/// An error in Stripe's form.
pub fn error(type_: &str, code: Option<&str>, message: &str) -> Value {
    json!({ "error": { "type": type_, "code": code, "message": message } })
}
