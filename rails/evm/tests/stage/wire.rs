//! The wire between the rail and its node: the rail's real client, whose requests and answers can be lost, and
//! whose answers can be other ones than the node gave.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use alloy_consensus::{Transaction, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use alloy_json_rpc::{RequestPacket, ResponsePacket, ResponsePayload};
use alloy_primitives::Bytes;
use alloy_rpc_client::RpcClient;
use alloy_transport::{TransportError, TransportErrorKind, TransportFut};
use alloy_transport_http::Http;
use serde_json::{Value, json, value::to_raw_value};
use tower::Service;

/// What happens to the next request of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not arrive.
    Lost,
    /// It arrives, the answer does not.
    Unanswered,
}

/// What a node says instead: given the request's parameters and the true answer.
pub type Lie = Arc<dyn Fn(&Value, &mut Value) + Send + Sync>;

/// Clones share the faults.
#[derive(Clone)]
pub struct Wire {
    http: Http<alloy_transport_http::reqwest::Client>,
    /// The method (any, if empty) and what happens to it, in this order.
    planned: Arc<Mutex<VecDeque<(&'static str, Fault)>>>,
    asked: Arc<Mutex<u64>>,
    /// The transactions that were sent, by nonce.
    sent: Arc<Mutex<HashMap<u64, HashSet<Bytes>>>>,
    lies: Arc<Mutex<Vec<(&'static str, Lie)>>>,
    /// The logs of how many blocks it gives at a time.
    most_blocks: Arc<Mutex<Option<u64>>>,
}

impl Wire {
    pub fn to(url: alloy_transport_http::reqwest::Url) -> Self {
        let (planned, asked, sent, lies, most_blocks) = Default::default();
        Self { http: Http::new(url), planned, asked, sent, lies, most_blocks }
    }

    pub fn client(&self) -> RpcClient {
        RpcClient::new(self.clone(), true)
    }

    pub fn plan(&self, method: &'static str, fault: Fault) {
        self.planned.lock().unwrap().push_back((method, fault));
    }

    /// From now on, until it is calm, the answers to a method are other ones.
    pub fn lie(&self, method: &'static str, lie: impl Fn(&Value, &mut Value) + Send + Sync + 'static) {
        self.lies.lock().unwrap().push((method, Arc::new(lie)));
    }

    /// From now on it refuses to give the logs of more blocks at a time.
    pub fn limit_logs(&self, blocks: u64) {
        *self.most_blocks.lock().unwrap() = Some(blocks);
    }

    /// What it says to a request for too much.
    fn refusal(&self, request: &RequestPacket) -> Option<ResponsePacket> {
        let most = (*self.most_blocks.lock().unwrap())?;
        let one = request.as_single().filter(|one| one.method() == "eth_getLogs")?;
        let params: Value = serde_json::from_str(one.params()?.get()).unwrap();
        let number = |name: &str| u64::from_str_radix(&params[0][name].as_str().unwrap()[2..], 16).unwrap();
        let error = json!({ "code": -32005, "message": format!("more than {most} blocks") });
        let answer = json!({ "jsonrpc": "2.0", "id": one.id(), "error": error });
        (number("toBlock") - number("fromBlock") >= most).then(|| serde_json::from_value(answer).unwrap())
    }

    pub fn calm(&self) {
        self.planned.lock().unwrap().clear();
        self.lies.lock().unwrap().clear();
    }

    /// How many requests were made.
    pub fn asked(&self) -> u64 {
        *self.asked.lock().unwrap()
    }

    /// How many transactions took another one's nonce.
    pub fn replaced(&self) -> u64 {
        self.sent.lock().unwrap().values().map(|sent| sent.len() as u64 - 1).sum()
    }

    fn note_sent(&self, request: &RequestPacket) {
        let Some(one) = request.as_single().filter(|one| one.method() == "eth_sendRawTransaction") else { return };
        let (bytes,): (Bytes,) = serde_json::from_str(one.params().unwrap().get()).unwrap();
        let nonce = TxEnvelope::decode_2718(&mut bytes.as_ref()).unwrap().nonce();
        self.sent.lock().unwrap().entry(nonce).or_default().insert(bytes);
    }

    fn lies_about(&self, request: &RequestPacket) -> (Value, Vec<Lie>) {
        let Some(one) = request.as_single() else { return (Value::Null, Vec::new()) };
        let params = one.params().map(|raw| serde_json::from_str(raw.get()).unwrap()).unwrap_or_default();
        let lies = self.lies.lock().unwrap();
        let told = lies.iter().filter(|(method, _)| *method == one.method()).map(|(_, lie)| lie.clone()).collect();
        (params, told)
    }

    fn fate(&self, request: &RequestPacket) -> Option<Fault> {
        *self.asked.lock().unwrap() += 1;
        self.note_sent(request);
        let method = request.as_single().map(|one| one.method().to_owned()).unwrap_or_default();
        let mut planned = self.planned.lock().unwrap();
        let at = planned.iter().position(|(wanted, _)| wanted.is_empty() || *wanted == method)?;
        planned.remove(at).map(|(_, fault)| fault)
    }
}

impl Service<RequestPacket> for Wire {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        let (fate, mut http) = (self.fate(&request), self.http.clone());
        let (params, lies) = self.lies_about(&request);
        if let Some(refusal) = self.refusal(&request) {
            return Box::pin(async { Ok(refusal) });
        }
        Box::pin(async move {
            let lost = || Err(TransportErrorKind::custom_str("the connection broke"));
            match fate {
                Some(Fault::Lost) => lost(),
                Some(Fault::Unanswered) => {
                    drop(http.call(request).await);
                    lost()
                }
                None => {
                    let mut answer = http.call(request).await?;
                    if let ResponsePacket::Single(response) = &mut answer
                        && let ResponsePayload::Success(payload) = &mut response.payload
                        && !lies.is_empty()
                    {
                        let mut value: Value = serde_json::from_str(payload.get()).unwrap();
                        lies.iter().for_each(|lie| lie(&params, &mut value));
                        *payload = to_raw_value(&value).unwrap();
                    }
                    Ok(answer)
                }
            }
        })
    }
}
