//! Who may not be a party (PG-16).

use alloy_primitives::Address;
use async_trait::async_trait;

use crate::{abi::Oracle, chain::Chain};

/// Looks wallets up before they become parties to an agreement. A screen that cannot answer lets nobody pass.
#[async_trait]
pub trait Screen: Send + Sync + 'static {
    /// Whether this wallet may not take part.
    ///
    /// # Errors
    /// When that cannot be found out; the wallet is refused for now, and asked about again.
    async fn is_listed(&self, wallet: Address) -> Result<bool, ScreenError>;
}

/// A screen that could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScreenError(pub String);

/// A contract on the rail's own chain that answers `isSanctioned(address)`, as Chainalysis publishes it.
#[derive(Clone, Debug)]
pub struct SanctionsOracle {
    chain: Chain,
    address: Address,
}

impl SanctionsOracle {
    /// The oracle at an address.
    pub fn new(rpc: alloy_rpc_client::RpcClient, address: Address) -> Self {
        Self { chain: Chain::new(rpc), address }
    }
}

#[async_trait]
impl Screen for SanctionsOracle {
    async fn is_listed(&self, wallet: Address) -> Result<bool, ScreenError> {
        // No code at the address answers with nothing, which decodes to nothing: unreachable, not clean.
        let answer = self.chain.read(self.address, &Oracle::isSanctionedCall { account: wallet }, None).await;
        answer.map_err(|error| ScreenError(error.to_string()))
    }
}
