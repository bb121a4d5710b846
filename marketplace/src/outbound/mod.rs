//! Requests to URLs that strangers name: webhooks, pings, executors.
//!
//! One guard for all of them:
//!
//! 1. The URL is `https`, carries no credentials, and its host, if it is an address, is a public one.
//! 2. A name is resolved at each new connection by a resolver that hands on only public addresses. No
//!    other resolution happens, so a name that changes between a check and its use gains nothing (DNS
//!    rebinding).
//! 3. No redirect is followed and no proxy from the environment is used.
//! 4. One time limit covers everything from resolving to the answer's last byte, and of an answer no
//!    more is read than the caller keeps. Answers are not decompressed.
//! 5. No error and no log line carries a URL's path or query, a header or a body: secrets live there.
//!
//! [`Reach::Anywhere`] lifts 1's and 2's limits, for tests and closed networks.

mod names;
mod reach;

pub use names::{Names, SystemNames};
pub use reach::Reach;

use std::{error::Error, fmt, sync::Arc, time::Duration};

use reqwest::{
    Response,
    header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use self::names::{Judged, OutOfReach};
use crate::clock::Timestamp;

/// How many idle connections to one host are kept, and for how long.
const IDLE: (usize, Duration) = (4, Duration::from_secs(15));
/// The longest URL that is called.
const URL_LIMIT: usize = 2048;

/// Sends requests past the guard. Clones share their connections.
#[derive(Clone)]
pub struct Outbound {
    client: reqwest::Client,
    reach: Reach,
}

/// A request. It has no `Debug` form: its headers may be secrets.
#[derive(Clone)]
pub struct Post<'a> {
    /// Where to.
    pub url: &'a str,
    /// Its headers.
    pub headers: &'a [(&'a str, String)],
    /// Its body.
    pub body: Vec<u8>,
    /// How long everything may take.
    pub within: Duration,
    /// How many bytes of the answer are read and kept.
    pub keep: usize,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// How long the server wants to be left alone.
    pub retry_after: Option<RetryAfter>,
    /// The beginning of the body.
    pub body: Vec<u8>,
    /// How much of the body that is.
    pub extent: Extent,
}

/// How much of an answer's body was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// As much as was to be kept; there was more.
    Cut,
    /// The connection broke or the time ran out before the end.
    Broken,
}

/// What a `Retry-After` header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// After so many seconds.
    Seconds(u32),
    /// From a moment on.
    At(Timestamp),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutboundError {
    /// The URL is none that may be called.
    #[error("the URL may not be called: {reason}")]
    Url {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The host has no public address.
    #[error("{host} has no public address")]
    OutOfReach {
        /// The host.
        host: String,
    },
    /// No connection came about; nothing was sent.
    #[error("no connection to {host}: {cause}")]
    NotSent {
        /// The host.
        host: String,
        /// What happened, in words.
        cause: String,
    },
    /// The time ran out; the request may have arrived.
    #[error("{host} did not answer within {within:?}")]
    TimedOut {
        /// The host.
        host: String,
        /// The time it had.
        within: Duration,
    },
    /// The connection broke before an answer; the request may have arrived.
    #[error("{host} broke the connection: {cause}")]
    Broken {
        /// The host.
        host: String,
        /// What happened, in words.
        cause: String,
    },
    /// A header cannot be sent.
    #[error("the header {name:?} has characters that no header may have")]
    Header {
        /// Its name.
        name: String,
    },
    /// The client cannot start.
    #[error("the HTTP client cannot start: {cause}")]
    Start {
        /// Why.
        cause: String,
    },
}

impl Outbound {
    /// A guarded client that resolves names as the machine does.
    ///
    /// # Errors
    /// [`OutboundError::Start`]
    pub fn new(reach: Reach) -> Result<Self, OutboundError> {
        Self::with_names(reach, SystemNames)
    }

    /// A guarded client that takes addresses from `names`. They are judged all the same.
    ///
    /// # Errors
    /// [`OutboundError::Start`]
    pub fn with_names(reach: Reach, names: impl Names) -> Result<Self, OutboundError> {
        let client = reqwest::Client::builder()
            .dns_resolver(Arc::new(Judged { names: Arc::new(names), reach }))
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .http1_only()
            .pool_max_idle_per_host(IDLE.0)
            .pool_idle_timeout(IDLE.1)
            .user_agent(concat!("tradepost/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| OutboundError::Start { cause: innermost(&error) })?;
        Ok(Self { client, reach })
    }

    /// Checks what can be said of a URL before its name is resolved: for refusing it when it is given,
    /// not for trusting it later.
    ///
    /// # Errors
    /// [`OutboundError::Url`], [`OutboundError::OutOfReach`]
    pub fn check(&self, url: &str) -> Result<(), OutboundError> {
        self.judge(url).map(|_| ())
    }

    /// Posts a request. Whatever the status, an answer is a success here.
    ///
    /// # Errors
    /// [`OutboundError`]
    pub async fn post(&self, post: Post<'_>) -> Result<Answer, OutboundError> {
        let url = self.judge(post.url)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let deadline = Instant::now() + post.within;
        let request = self.client.post(url).headers(headers(post.headers)?).body(post.body);
        let timed_out = || OutboundError::TimedOut { host: host.clone(), within: post.within };
        let sent = timeout_at(deadline, request.send()).await.map_err(|_| timed_out())?;
        let mut response = sent.map_err(|error| failure(&error, host))?;
        let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
        let mut body = Vec::new();
        let read = timeout_at(deadline, read(&mut response, &mut body, post.keep)).await;
        Ok(Answer { status, retry_after, body, extent: read.unwrap_or(Extent::Broken) })
    }

    fn judge(&self, text: &str) -> Result<Url, OutboundError> {
        let bad = |reason| OutboundError::Url { reason };
        if text.len() > URL_LIMIT {
            return Err(bad("it is too long"));
        }
        let url = Url::parse(text).map_err(|_| bad("it is not a URL"))?;
        if !self.reach.allows_scheme(url.scheme()) {
            return Err(bad("it is not https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("it carries credentials"));
        }
        let literal = match url.host() {
            None => return Err(bad("it names no host")),
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
        };
        // Addresses never pass the resolver, so they are judged here.
        match literal.is_none_or(|address| self.reach.allows(address)) {
            true => Ok(url),
            false => Err(OutboundError::OutOfReach { host: url.host_str().unwrap_or_default().to_owned() }),
        }
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("reach", &self.reach).finish_non_exhaustive()
    }
}

/// Reads a body until its end or until `keep` bytes are full.
async fn read(response: &mut Response, body: &mut Vec<u8>, keep: usize) -> Extent {
    loop {
        match response.chunk().await {
            Ok(None) => return Extent::Whole,
            Err(_) => return Extent::Broken,
            Ok(Some(chunk)) => {
                let room = keep - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    return Extent::Cut;
                }
            }
        }
    }
}

fn headers(given: &[(&str, String)]) -> Result<HeaderMap, OutboundError> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let bad = || OutboundError::Header { name: (*name).to_owned() };
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.append(header, value);
    }
    Ok(headers)
}

fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(RetryAfter::Seconds(seconds));
    }
    httpdate::parse_http_date(text).ok().map(|at| RetryAfter::At(at.into()))
}

fn failure(error: &reqwest::Error, host: String) -> OutboundError {
    let cause = innermost(error);
    if causes(error).any(|cause| cause.is::<OutOfReach>()) {
        return OutboundError::OutOfReach { host };
    }
    match error.is_connect() || error.is_builder() {
        true => OutboundError::NotSent { host, cause },
        false => OutboundError::Broken { host, cause },
    }
}

/// What went wrong at the bottom. Errors further up carry the URL.
fn innermost(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "no reason given".into(), ToString::to_string)
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| (**cause).source())
}
