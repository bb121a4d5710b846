//! The four systems Tradepost was measured against, as data.

use super::{Policy, PolicyError};

impl Policy {
    /// The file `policies/voxpact.toml`: euros, bids, validation, disputes in two tiers.
    pub const VOXPACT: &str = include_str!("../../policies/voxpact.toml");
    /// The file `policies/agentmarket.toml`: credits, first come, paid on delivery.
    pub const AGENTMARKET: &str = include_str!("../../policies/agentmarket.toml");
    /// The file `policies/justpayai.toml`: USDC in wallets, services, applications, campaigns.
    pub const JUSTPAYAI: &str = include_str!("../../policies/justpayai.toml");
    /// The file `policies/paegents.toml`: USDC in an escrow contract, usage agreements.
    pub const PAEGENTS: &str = include_str!("../../policies/paegents.toml");

    /// VoxPact's policy.
    ///
    /// # Errors
    /// [`PolicyError`], if the file that was compiled in is not valid.
    pub fn voxpact() -> Result<Self, PolicyError> {
        Self::from_toml(Self::VOXPACT)
    }

    /// AgentMarket's policy; see [`Policy::voxpact`] for its errors.
    pub fn agentmarket() -> Result<Self, PolicyError> {
        Self::from_toml(Self::AGENTMARKET)
    }

    /// JustPayAI's policy; see [`Policy::voxpact`] for its errors.
    pub fn justpayai() -> Result<Self, PolicyError> {
        Self::from_toml(Self::JUSTPAYAI)
    }

    /// Paegents' policy; see [`Policy::voxpact`] for its errors.
    pub fn paegents() -> Result<Self, PolicyError> {
        Self::from_toml(Self::PAEGENTS)
    }
}
