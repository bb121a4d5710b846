//! The wire between the rail and its node: the rail's real client, whose requests and answers can be lost.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use alloy_json_rpc::{RequestPacket, ResponsePacket};
use alloy_rpc_client::RpcClient;
use alloy_transport::{TransportError, TransportErrorKind, TransportFut};
use alloy_transport_http::Http;
use tower::Service;

/// What happens to the next request of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not arrive.
    Lost,
    /// It arrives, the answer does not.
    Unanswered,
}

/// Clones share the faults.
#[derive(Clone)]
pub struct Wire {
    http: Http<alloy_transport_http::reqwest::Client>,
    /// The method (any, if empty) and what happens to it, in this order.
    planned: Arc<Mutex<VecDeque<(&'static str, Fault)>>>,
    asked: Arc<Mutex<u64>>,
}

impl Wire {
    pub fn to(url: alloy_transport_http::reqwest::Url) -> Self {
        Self { http: Http::new(url), planned: Arc::default(), asked: Arc::default() }
    }

    pub fn client(&self) -> RpcClient {
        RpcClient::new(self.clone(), true)
    }

    pub fn plan(&self, method: &'static str, fault: Fault) {
        self.planned.lock().unwrap().push_back((method, fault));
    }

    pub fn calm(&self) {
        self.planned.lock().unwrap().clear();
    }

    /// How many requests were made.
    pub fn asked(&self) -> u64 {
        *self.asked.lock().unwrap()
    }

    fn fate(&self, request: &RequestPacket) -> Option<Fault> {
        *self.asked.lock().unwrap() += 1;
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
        Box::pin(async move {
            let lost = || Err(TransportErrorKind::custom_str("the connection broke"));
            match fate {
                Some(Fault::Lost) => lost(),
                Some(Fault::Unanswered) => {
                    drop(http.call(request).await);
                    lost()
                }
                None => http.call(request).await,
            }
        })
    }
}
