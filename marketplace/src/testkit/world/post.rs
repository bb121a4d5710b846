//! The receivers of a world's webhooks: some answer, some fail, some answer and are not heard, some never
//! answer at all.

use std::sync::Arc;

use async_trait::async_trait;
use rand::Rng;

use super::{Hanging, stage::Stage};
use crate::{
    clock::{Clock, ManualClock},
    notice::{Courier, Parcel, Reply, RestsUntil},
    policy::Span,
};

/// Where a healthy receiver is; it is told everything.
pub(super) const HEALTHY: &str = "https://healthy.example/";
/// Where one is that often fails.
pub(super) const FLAKY: &str = "https://flaky.example/";
/// Where one is that takes a request and says nothing.
pub(super) const SILENT: &str = "https://silent.example/";

/// Carries parcels to the world's receivers.
pub(super) struct Postman {
    pub(super) stage: Stage,
    pub(super) clock: Arc<ManualClock>,
    /// Whether a silent receiver keeps the postman waiting for ever.
    pub(super) hanging: Hanging,
}

#[async_trait]
impl Courier for Postman {
    async fn carry(&self, parcel: Parcel) -> Result<Reply, String> {
        let healthy = parcel.url.starts_with(HEALTHY);
        let (walks, mood, playing) = {
            let mut act = self.stage.act();
            act.counts.webhooks += 1;
            if healthy {
                act.auditor.signed(&parcel, self.clock.now());
            }
            (act.rng.random_range(0..3), act.rng.random_range(0..12), act.playing.is_some())
        };
        for _ in 0..walks {
            drop(self.stage.pause().await);
        }
        let dies = {
            let mut act = self.stage.act();
            let chance = act.faults.crash_at_rail;
            act.happens(chance)
        };
        if dies {
            return self.stage.die().await;
        }
        if parcel.url.starts_with(SILENT) {
            return match self.hanging {
                Hanging::ForEver if playing => std::future::pending().await,
                Hanging::ForEver | Hanging::Briefly => Err("there was no answer".into()),
            };
        }
        let reply = |status| Reply { status, rests_until: None, body: "thank you".into() };
        if healthy {
            self.stage.act().auditor.received(&parcel);
            return Ok(reply(200));
        }
        Ok(match mood {
            0 => reply(500),
            1 => Reply { rests_until: Some(RestsUntil::After(Span::seconds(40))), ..reply(429) },
            2 => reply(302),
            3 => return Err("the line went dead".into()),
            4 => Reply { body: "x".repeat(100_000), ..reply(204) },
            _ => reply(202),
        })
    }
}
