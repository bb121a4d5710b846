//! Which payments of the contract come to exactly the legs that were asked for.
//!
//! The contract takes its fee as a rate, rounded down, of what the seller is paid. A fee that is no such rate
//! is met exactly by two payments: the first at the lowest rate that reaches it, as large as needed, the rest
//! without a fee.

use crate::error::EvmError;

const WHOLE: u128 = 10_000;

/// What is done, in this order and all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The relayer, who receives the fees, takes less from now on.
    LowerFee(u16),
    /// The seller is paid up to this in all.
    Release(u128),
}

/// An agreement as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    /// The fee in force, in hundredths of a percent.
    pub(crate) fee_bps: u128,
    /// What was paid already, fees included.
    pub(crate) paid: u128,
    /// The fees in it.
    pub(crate) fees: u128,
}

/// The payments that bring the seller's part to `seller` and the fees to `fee`.
pub(crate) fn payments(stand: Stand, seller: u128, fee: u128) -> Result<Vec<Step>, EvmError> {
    let whole = seller.saturating_add(fee);
    let refuse = |value: String, allowed: String| Err(EvmError::Terms { field: "legs", value, allowed });
    let (Some(due), Some(fee_due)) = (whole.checked_sub(stand.paid), fee.checked_sub(stand.fees)) else {
        let allowed = format!("at least the {} paid already, {} of it fees", stand.paid, stand.fees);
        return refuse(format!("{whole} with a fee of {fee}"), allowed);
    };
    if due == 0 {
        return match fee_due {
            0 => Ok(Vec::new()),
            _ => refuse(format!("a fee of {fee_due} of nothing"), "none".into()),
        };
    }
    if fee_of(due, stand.fee_bps) == fee_due {
        return Ok(vec![Step::Release(whole)]);
    }
    let rate = (fee_due.saturating_mul(WHOLE)).div_ceil(due);
    if rate > stand.fee_bps {
        let allowed = format!("a fee of at most {} hundredths of a percent", stand.fee_bps);
        return refuse(format!("{fee_due} of {due}"), allowed);
    }
    let mut steps = Vec::new();
    if rate < stand.fee_bps {
        steps.push(Step::LowerFee(u16::try_from(rate).unwrap_or(u16::MAX)));
    }
    if fee_of(due, rate) != fee_due {
        let first = (fee_due * WHOLE).div_ceil(rate);
        steps.extend([Step::Release(stand.paid + first), Step::LowerFee(0)]);
    }
    steps.push(Step::Release(whole));
    Ok(steps)
}

/// The rate at which one payment of `whole` comes closest to `fee` without exceeding it.
pub(crate) fn rate_below(whole: u128, fee: u128, most: u128) -> u128 {
    match whole {
        0 => most,
        _ => (fee.saturating_add(1).saturating_mul(WHOLE) - 1).checked_div(whole).unwrap_or(0).min(most),
    }
}

pub(crate) const fn fee_of(whole: u128, bps: u128) -> u128 {
    whole.saturating_mul(bps) / WHOLE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(mut stand: Stand, steps: &[Step]) -> Stand {
        for step in steps {
            match *step {
                Step::LowerFee(bps) => {
                    assert!(u128::from(bps) < stand.fee_bps, "the contract refuses: {steps:?}");
                    stand.fee_bps = bps.into();
                }
                Step::Release(to) => {
                    assert!(to > stand.paid, "the contract refuses: {steps:?}");
                    stand.fees += fee_of(to - stand.paid, stand.fee_bps);
                    stand.paid = to;
                }
            }
        }
        stand
    }

    /// PG-04: every division within the ceiling is met to the unit, and none beyond it.
    #[test]
    fn every_fee_within_the_ceiling_is_met_exactly() {
        for whole in (1..400).chain([999_983, 1_000_000, 1_234_567, 10_007_000_003]) {
            for fee in (0..=whole).step_by(usize::try_from(whole / 97).unwrap().max(1)) {
                for fee_bps in [0, 1, 250, 333, 9_999, 10_000] {
                    let stand = Stand { fee_bps, paid: 0, fees: 0 };
                    match payments(stand, whole - fee, fee) {
                        Ok(steps) => {
                            let after = play(stand, &steps);
                            assert_eq!((after.paid, after.fees), (whole, fee), "{whole} {fee} {fee_bps}: {steps:?}");
                            assert!(steps.len() <= 4);
                        }
                        Err(_) => assert!(fee * WHOLE > fee_bps * whole, "{whole} {fee} {fee_bps}"),
                    }
                }
            }
        }
    }

    #[test]
    fn what_was_paid_already_counts() {
        let stand = Stand { fee_bps: 250, paid: 4_000, fees: 100 };
        let steps = payments(stand, 9_757, 243).unwrap();
        let after = play(stand, &steps);
        assert_eq!((after.paid, after.fees), (10_000, 243));
        assert!(payments(stand, 3_000, 100).is_err(), "less than was paid");
        assert!(payments(stand, 9_950, 50).is_err(), "a smaller fee than was taken");
    }

    #[test]
    fn a_single_payment_comes_as_close_below_as_a_rate_can() {
        for whole in [1u128, 7, 10_007, 1_234_567] {
            for fee in [0, whole / 40, whole / 3, whole] {
                let rate = rate_below(whole, fee, WHOLE);
                assert!(fee_of(whole, rate) <= fee && (rate == WHOLE || fee_of(whole, rate + 1) > fee));
            }
        }
    }
}
