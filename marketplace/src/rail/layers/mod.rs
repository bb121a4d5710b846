//! Layers around any rail. Each is a rail itself and keeps the contract of [`SettlementRail`].
//!
//! From the outside in, the order is [`Trace`], [`Retry`], [`Timeout`], rail:
//!
//! - [`Trace`] is outermost: one span for each thing that was wanted, its repetitions within it.
//! - [`Retry`] is around [`Timeout`], so that each attempt has its own time and waiting for the next
//!   one does not count. The other way round a timeout would cut a retry short and make "outcome
//!   unknown" of what is proved to have had none.
//! - [`Timeout`] is innermost: it knows only that an answer did not come.
//!
//! ```
//! # use std::{sync::Arc, time::Duration};
//! # use tradepost::{clock::SystemClock, money::Currency, rail::{CreditsRail, SettlementRail, layers::{Retries, Retry, Timeout, Trace}}};
//! # let rail = CreditsRail::new(Currency::CREDIT);
//! let rail = Timeout::new(rail, Duration::from_secs(20));
//! let rail = Retry::new(rail, Retries { jitter_seed: 7, ..Retries::default() });
//! let rail = Trace::new(rail, Arc::new(SystemClock));
//! assert_eq!(rail.profile().currency, Currency::CREDIT);
//! ```
//!
//! [`SettlementRail`]: super::SettlementRail

mod retry;
mod timeout;
mod trace;

pub use retry::{Retries, Retry};
pub use timeout::Timeout;
pub use trace::Trace;
