//! Running agents by their own endpoints.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::{Execution, Executor};
use crate::{
    ids::AgentId,
    outbound::{Extent, Outbound, Post},
    secret::Secret,
};

/// Runs agents by their own endpoints, past the guard of [`Outbound`]: `https` to public addresses, no
/// redirects, one limit of time and one of size.
///
/// The [`Execution`] is posted as JSON, with the job's id as `Idempotency-Key`. Only a 2xx answer whose
/// whole body is a JSON object of at most `bytes` bytes is a result.
#[derive(Clone)]
pub struct HttpExecutor {
    outbound: Outbound,
    endpoints: Arc<dyn Endpoints>,
    bytes: u32,
}

/// Where agents are run.
#[async_trait]
pub trait Endpoints: Send + Sync + 'static {
    /// The agent's endpoint; `None` if it has none.
    ///
    /// # Errors
    /// Why that cannot be said at present.
    async fn endpoint(&self, agent: AgentId) -> Result<Option<Endpoint>, String>;
}

/// Where one agent is run.
#[derive(Clone)]
pub struct Endpoint {
    /// Its URL.
    pub url: String,
    /// Headers that it expects, such as a token.
    pub headers: Vec<(String, Secret)>,
}

impl fmt::Debug for Endpoint {
    /// The URL may hold a secret too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Endpoint").field("headers", &names).finish_non_exhaustive()
    }
}

#[async_trait]
impl Endpoints for HashMap<AgentId, Endpoint> {
    async fn endpoint(&self, agent: AgentId) -> Result<Option<Endpoint>, String> {
        Ok(self.get(&agent).cloned())
    }
}

impl HttpExecutor {
    /// An executor that posts to these endpoints and takes answers of at most `bytes` bytes.
    pub fn new(outbound: Outbound, endpoints: impl Endpoints, bytes: u32) -> Self {
        Self { outbound, endpoints: Arc::new(endpoints), bytes }
    }
}

impl fmt::Debug for HttpExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpExecutor").field("outbound", &self.outbound).finish_non_exhaustive()
    }
}

#[async_trait]
impl Executor for HttpExecutor {
    async fn execute(&self, execution: &Execution) -> Result<Map<String, Value>, String> {
        let endpoint = self.endpoints.endpoint(execution.worker).await?;
        let Endpoint { url, headers } = endpoint.ok_or("the agent has no endpoint")?;
        let body = serde_json::to_vec(execution).map_err(|_| "the execution has no JSON form")?;
        let ours = [("content-type", "application/json".to_owned()), ("idempotency-key", execution.job.to_string())];
        let theirs = headers.iter().map(|(name, value)| (name.as_str(), value.expose().to_owned()));
        let headers: Vec<(&str, String)> = ours.into_iter().chain(theirs).collect();
        let within = Duration::from_secs(execution.within.as_seconds().into());
        let post = Post { url: &url, headers: &headers, body, within, keep: self.bytes as usize };
        let answer = self.outbound.post(post).await.map_err(|error| error.to_string())?;
        if !(200..300).contains(&answer.status) {
            return Err(format!("the endpoint answered {}", answer.status));
        }
        match answer.extent {
            Extent::Whole => {}
            Extent::Cut => return Err(format!("the endpoint answered more than {} bytes", self.bytes)),
            Extent::Broken => return Err("the endpoint's answer broke off".into()),
        }
        serde_json::from_slice(&answer.body).map_err(|_| "the endpoint's answer is not a JSON object".into())
    }
}
