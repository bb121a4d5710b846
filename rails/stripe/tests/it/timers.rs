//! VP-39: what happens by itself, and what it does to the money at Stripe.

use tradepost::{
    error::Rejection,
    job::{Delivery, JobOrder, JobStatus},
    policy::Span,
};
use tradepost_stripe::HoldMode;

use crate::{
    conformance::AUTHORISE,
    life::{BUYER, Desk, WORKER, eur, int, settle_everything},
};

const HOUR: i64 = 3_600;

impl Desk {
    /// Lets time pass, and what is due happen.
    async fn after(&self, seconds: i64) {
        self.double.lock().world.pass(seconds);
        settle_everything(0, self).await;
    }

    /// What the payer is short of, and what the worker's account has, in cents.
    fn shares(&self) -> (i64, i64) {
        let world = &self.double.lock().world;
        let sum = |list: &[serde_json::Value], field: &str| list.iter().map(|o| int(&o[field])).sum::<i64>();
        (sum(&world.charges, "amount_captured") - sum(&world.refunds, "amount"), sum(&world.transfers, "amount"))
    }

    fn reserved(&self) -> i64 {
        self.double.lock().world.intents.iter().map(|i| int(&i["amount_capturable"])).sum()
    }
}

/// VP-39: an authorisation lives as long as its network says, which may be less than 7 days. A margin before
/// that, what is delivered is captured and paid, and anything else is given up, with `job.expired`.
#[tokio::test]
async fn vp_39_an_authorisation_is_used_or_given_up_before_it_dies() {
    for delivered in [true, false] {
        let desk = Desk::new(AUTHORISE).await;
        desk.double.lock().world.authorised = 40 * HOUR; // an American network's
        let job = desk.post(10_000).await.id;
        desk.bring(job, if delivered { JobStatus::Delivered } else { JobStatus::Accepted }).await;
        // The policy's margin is 6 hours.
        desk.after(33 * HOUR).await;
        assert_eq!((desk.shares(), desk.reserved()), ((0, 0), 10_000), "it is not time yet");
        desk.after(2 * HOUR).await;
        let status = desk.market.job(job).await.unwrap().status;
        let canceled = desk.double.lock().world.intents[0]["cancellation_reason"].clone();
        match delivered {
            true => {
                assert_eq!((status, desk.shares()), (JobStatus::Completed, (10_000, 9_000)));
                assert!(desk.events(job).await.contains(&"job.completed".to_owned()));
            }
            false => {
                assert_eq!((status, desk.shares()), (JobStatus::Cancelled, (0, 0)));
                assert!(desk.events(job).await.contains(&"job.expired".to_owned()));
                assert_eq!(canceled, "requested_by_customer", "the rail gave it up, Stripe did not have to");
            }
        }
        assert_eq!(desk.reserved(), 0);
        desk.agrees("before it died").await;
        desk.after(8 * 24 * HOUR).await;
        desk.agrees("after it would have died").await;
    }
}

/// VP-39: a job that nobody delivers in time goes back to the card: at its deadline, or when its worker has done
/// nothing for a week.
#[tokio::test]
async fn vp_39_a_job_that_is_not_delivered_in_time_goes_back_to_the_card() {
    let causes = [(Span::hours(72), 73, "job.deadline_expired"), (Span::hours(720), 169, "job.stale_cancelled")];
    for (allowed, hours, event) in causes {
        for hold in [HoldMode::Charge, AUTHORISE] {
            if hold == AUTHORISE && hours > 7 * 24 {
                continue; // the authorisation is given up before
            }
            let context = format!("{hold:?}, {event}");
            let desk = Desk::new(hold).await;
            let order = JobOrder {
                worker: Some(WORKER),
                deadline: Some(allowed),
                ..JobOrder::new("Translate a page", eur(10_000))
            };
            let job = desk.market.agent(BUYER).post_job(order).await.unwrap().id;
            desk.bring(job, JobStatus::Accepted).await;
            desk.after((hours - 2) * HOUR).await;
            assert_eq!(desk.market.job(job).await.unwrap().status, JobStatus::Accepted, "{context}");
            desk.after(2 * HOUR).await;
            assert!(desk.events(job).await.contains(&event.to_owned()), "{context}: {:?}", desk.events(job).await);
            assert_eq!((desk.shares(), desk.reserved()), ((0, 0), 0), "{context}");
            desk.agrees(&context).await;
        }
    }
}

/// VP-39: what an operator has frozen moves nothing at Stripe, whoever asks and however long; let go, it goes on.
#[tokio::test]
async fn vp_39_a_frozen_job_moves_nothing_at_stripe() {
    let desk = Desk::new(HoldMode::Charge).await;
    let job = desk.post(10_000).await.id;
    desk.bring(job, JobStatus::Delivered).await;
    desk.market.operator("Ada").freeze(job, "somebody complained").await.unwrap();
    let sent = desk.effects().len();
    let refused = [
        desk.market.agent(BUYER).approve(job).await,
        desk.market.agent(BUYER).cancel(job, "no longer needed").await,
        desk.market.agent(WORKER).withdraw(job, "cannot do it").await,
        desk.market.agent(WORKER).deliver(job, Delivery::default()).await,
    ];
    for answer in refused {
        let error = answer.unwrap_err();
        assert!(matches!(error.rejection(), Some(Rejection::WrongStatus { .. })), "{error}");
    }
    desk.after(30 * 24 * HOUR).await;
    assert_eq!(desk.effects().len(), sent);
    assert_eq!(desk.market.job(job).await.unwrap().status, JobStatus::Frozen);
    desk.market.operator("Ada").unfreeze(job).await.unwrap();
    desk.market.agent(BUYER).approve(job).await.unwrap();
    settle_everything(0, &desk).await;
    assert_eq!(desk.shares(), (10_000, 9_000));
    desk.agrees("unfrozen").await;
}
