//! The way to Stripe: one request, its answer, and how fast requests may follow each other.
//!
//! async-stripe builds the requests; they are sent here and not by its own client, because the rail
//! needs to know what that client does not say: whether a request left at all, whether an answer is
//! the replay of an earlier one, for how long Stripe is busy, and Stripe's name for the request.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, header};
use serde::de::DeserializeOwned;
use stripe_client_core::{StripeMethod, StripeRequest};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

use crate::{
    config::{Secret, StripeConfig},
    error::{Answer, StripeError, StripeErrorKind},
};

#[derive(Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    base: String,
    key: Secret,
    pace: Pace,
}

/// A success.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    pub(crate) object: T,
    /// Whether this is what the key's first request was answered, and so may be out of date.
    pub(crate) replayed: bool,
}

/// How a request is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sending<'a> {
    /// The idempotency key.
    pub(crate) key: Option<&'a str>,
    /// In the name of this connected account.
    pub(crate) account: Option<&'a str>,
}

impl Http {
    pub(crate) fn new(config: &StripeConfig) -> Result<Self, StripeError> {
        let bad = |what: &str| StripeError::new(StripeErrorKind::Configuration, what);
        let base = config.api_base.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(bad("the address of Stripe is no http or https URL"));
        }
        let key = config.secret_key.expose();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad("the secret key is empty or has characters that no key has"));
        }
        if config.webhook_secrets.iter().any(|secret| secret.expose().is_empty()) {
            return Err(bad("a webhook secret is empty, with which anybody can sign"));
        }
        let client = reqwest::Client::builder()
            .timeout(config.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tradepost-stripe/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| bad("the HTTP client cannot start").caused_by(e))?;
        Ok(Self { client, base, key: config.secret_key.clone(), pace: Pace::new(config.requests_per_second) })
    }

    /// Sends a request once.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        request: &impl StripeRequest,
        sending: Sending<'_>,
    ) -> Result<Reply<T>, StripeError> {
        let request = self.http_request(request, sending);
        self.pace.wait().await;
        let response = request.send().await.map_err(|error| match error.is_connect() || error.is_builder() {
            true => StripeError::new(StripeErrorKind::NotSent, "no connection").caused_by(error.without_url()),
            false => lost("the request was sent", error),
        })?;
        let status = response.status();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (request_id, retry_after) = (header("request-id"), header("retry-after"));
        let replayed = header("idempotent-replayed").is_some_and(|value| value == "true");
        let body = response.bytes().await.map_err(|error| lost("the answer broke off", error))?;
        if !status.is_success() {
            return Err(StripeError::of_answer(&Answer {
                status: status.as_u16(),
                body: &body,
                request_id: request_id.as_deref(),
                retry_after: retry_after.and_then(|text| text.parse().ok()).map(Duration::from_secs),
                replayed,
            }));
        }
        let object = serde_json::from_slice(&body).map_err(|error| {
            let request = request_id.as_deref().unwrap_or("unnamed");
            StripeError::new(StripeErrorKind::Lost, format!("request {request} was answered with something else"))
                .caused_by(error)
        })?;
        Ok(Reply { object, replayed })
    }

    /// Asks for something: no effect, no key.
    pub(crate) async fn get<T: DeserializeOwned>(&self, request: &impl StripeRequest) -> Result<T, StripeError> {
        Ok(self.send(request, Sending::default()).await?.object)
    }

    /// Sends a request with an effect.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        request: &impl StripeRequest,
        key: &str,
    ) -> Result<Reply<T>, StripeError> {
        self.send(request, Sending { key: Some(key), account: None }).await
    }

    fn http_request(&self, request: &impl StripeRequest, sending: Sending<'_>) -> RequestBuilder {
        let built = request.build();
        let method = match built.method {
            StripeMethod::Get => Method::GET,
            StripeMethod::Post => Method::POST,
            StripeMethod::Delete => Method::DELETE,
        };
        let query = built.query.filter(|query| !query.is_empty()).map(|query| format!("?{query}")).unwrap_or_default();
        let mut http = self
            .client
            .request(method, format!("{}/v1{}{query}", self.base, built.path))
            .bearer_auth(self.key.expose())
            .header("stripe-version", stripe_shared::version::VERSION.as_str());
        if let Some(key) = sending.key {
            http = http.header("idempotency-key", key);
        }
        if let Some(account) = sending.account {
            http = http.header("stripe-account", account);
        }
        if let Some(body) = built.body {
            http = http.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        }
        http
    }
}

fn lost(when: &str, error: reqwest::Error) -> StripeError {
    StripeError::new(StripeErrorKind::Lost, when).caused_by(error.without_url())
}

/// Lets requests go one by one, so that Stripe never sees more of them in a second than allowed. A
/// burst of a tenth of a second's worth goes at once.
#[derive(Debug)]
struct Pace {
    gap: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    fn new(per_second: u32) -> Self {
        Self { gap: Duration::from_secs(1) / per_second.max(1), next: Mutex::new(None) }
    }

    async fn wait(&self) {
        let burst = Duration::from_millis(100);
        let turn = {
            let mut next = self.next.lock().await;
            let now = Instant::now();
            let turn = next.unwrap_or(now).max(now.checked_sub(burst).unwrap_or(now));
            *next = Some(turn + self.gap);
            turn
        };
        sleep_until(turn).await;
    }
}
