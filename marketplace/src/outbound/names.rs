//! From names to addresses that may be connected to.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::Reach;

/// The most addresses of one name that are tried.
const TRIED: usize = 8;

/// Where a host's addresses come from.
#[async_trait]
pub trait Names: Send + Sync + 'static {
    /// The addresses of a host, judged afterwards by the caller.
    ///
    /// # Errors
    /// When the name cannot be resolved at present.
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The machine's own resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// The resolver of the HTTP client: asked at each new connection, it hands on only addresses that may
/// be reached. What is connected to is what was judged.
pub(super) struct Judged {
    pub(super) names: Arc<dyn Names>,
    pub(super) reach: Reach,
}

/// Every address of the name is out of reach.
#[derive(Debug)]
pub(super) struct OutOfReach;

impl fmt::Display for OutOfReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name has no public address")
    }
}

impl std::error::Error for OutOfReach {}

impl Resolve for Judged {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, reach) = (self.names.clone(), self.reach);
        Box::pin(async move {
            let found = names.addresses(name.as_str()).await?;
            let judged = found.iter().filter(|address| reach.allows(**address)).take(TRIED);
            let judged: Vec<SocketAddr> = judged.map(|address| SocketAddr::new(*address, 0)).collect();
            match judged.is_empty() && !found.is_empty() {
                true => Err(OutOfReach.into()),
                false => Ok(Box::new(judged.into_iter()) as Addrs),
            }
        })
    }
}
