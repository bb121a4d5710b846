//! A Solana node for tests: the real programs in a simulated runtime, behind JSON-RPC over HTTP on a
//! free port. It speaks the methods that the rail's client calls, and can misbehave on the wire
//! ([`Fault`]) and as a chain ([`Node`]).
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared by tests, benches and the example")]

mod node;
mod rpc;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::sync::Notify;

pub use node::Node;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is lost on its way: the connection breaks, nothing happened.
    LoseRequest,
    /// It is handled and its answer lost.
    LoseAnswer,
    /// The node has no time.
    Busy,
    /// A proxy sends it twice.
    Twice,
    /// Its answer comes after that of a later request.
    Reorder,
    /// The node says that a transfer moved another amount.
    LieAmount,
    /// The node has lost what transactions did.
    LoseEffects,
}

/// How likely what goes wrong by chance, in thousandths of all requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chances {
    pub lose_request: u32,
    pub lose_answer: u32,
    pub busy: u32,
    pub twice: u32,
    pub reorder: u32,
}

/// A running node. Dropping it stops it.
pub struct Front {
    shared: Arc<Shared>,
    url: String,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    node: Mutex<Node>,
    script: Mutex<Script>,
    answered: Notify,
}

struct Script {
    next: Vec<(Option<&'static str>, Fault)>,
    chances: Chances,
    rng: StdRng,
    requests: BTreeMap<String, u64>,
}

impl Front {
    pub async fn start(seed: u64) -> Self {
        let script = Script {
            next: Vec::new(),
            chances: Chances::default(),
            rng: StdRng::seed_from_u64(seed),
            requests: BTreeMap::new(),
        };
        let shared =
            Arc::new(Shared { node: Mutex::new(Node::new(seed)), script: Mutex::new(script), answered: Notify::new() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(serve(listener, shared.clone()));
        Self { shared, url, task }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn node(&self) -> MutexGuard<'_, Node> {
        self.shared.node.lock().unwrap()
    }

    /// The next request of a method, or of any, goes wrong.
    pub fn next(&self, method: Option<&'static str>, fault: Fault) {
        self.shared.script.lock().unwrap().next.push((method, fault));
    }

    /// Forgets what was to go wrong.
    pub fn calm(&self) {
        let mut script = self.shared.script.lock().unwrap();
        script.next.clear();
        script.chances = Chances::default();
    }

    pub fn chances(&self, chances: Chances) {
        self.shared.script.lock().unwrap().chances = chances;
    }

    /// How many requests came, by method, since this was asked last.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.shared.script.lock().unwrap().requests)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { handle(request, &shared).await }
            });
            // A connection that a fault broke is an error here, and meant.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The connection is cut without an answer.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

async fn handle(request: Request<Incoming>, shared: &Shared) -> Result<Response<Full<Bytes>>, Cut> {
    let body = request.into_body().collect().await.map_err(|_| Cut)?.to_bytes();
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else { return Ok(status(400)) };
    let method = asked["method"].as_str().unwrap_or_default().to_owned();
    let fault = shared.script.lock().unwrap().fault(&method);
    match fault {
        Some(Fault::LoseRequest) => return Err(Cut),
        Some(Fault::Busy) => return Ok(status(503)),
        Some(Fault::Twice) => {
            let _ = rpc::answer(&mut shared.node.lock().unwrap(), &method, &asked["params"]);
        }
        _ => {}
    }
    let answer = rpc::answer(&mut shared.node.lock().unwrap(), &method, &asked["params"]);
    let answer = match (answer, fault) {
        (Ok(result), Some(Fault::LieAmount)) => Ok(rpc::lie(result)),
        (Ok(mut result), Some(Fault::LoseEffects)) => {
            let all = result["transactions"].as_array_mut().into_iter().flatten();
            all.for_each(|one| one["meta"] = Value::Null);
            result["meta"] = Value::Null;
            Ok(result)
        }
        (answer, _) => answer,
    };
    match fault {
        Some(Fault::LoseAnswer) => return Err(Cut),
        // With nobody else asking there is nothing to come after.
        Some(Fault::Reorder) => {
            let _ = tokio::time::timeout(Duration::from_millis(5), shared.answered.notified()).await;
        }
        _ => shared.answered.notify_waiters(),
    }
    let body = match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result }),
        Err((code, message)) => {
            json!({ "jsonrpc": "2.0", "id": asked["id"], "error": { "code": code, "message": message } })
        }
    };
    Ok(respond(200, body.to_string()))
}

impl Script {
    fn fault(&mut self, method: &str) -> Option<Fault> {
        *self.requests.entry(method.to_owned()).or_default() += 1;
        if let Some(at) = self.next.iter().position(|(only, _)| only.is_none_or(|only| only == method)) {
            return Some(self.next.remove(at).1);
        }
        let Chances { lose_request, lose_answer, busy, twice, reorder } = self.chances;
        let mut dice = self.rng.random_range(0..1000u32);
        for (chance, fault) in [
            (lose_request, Fault::LoseRequest),
            (lose_answer, Fault::LoseAnswer),
            (busy, Fault::Busy),
            (twice, Fault::Twice),
            (reorder, Fault::Reorder),
        ] {
            if dice < chance {
                return Some(fault);
            }
            dice -= chance;
        }
        None
    }
}

fn status(code: u16) -> Response<Full<Bytes>> {
    respond(code, String::new())
}

fn respond(code: u16, body: String) -> Response<Full<Bytes>> {
    let response = Response::builder().status(code).header("content-type", "application/json");
    response.body(Full::new(Bytes::from(body))).unwrap()
}
