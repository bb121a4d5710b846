//! Where an agreement stands after what the contract has logged of it: what its `statusOf` says at that block,
//! whose state a node forgets soon after (128 blocks, where it is no archive). A platform that comes back after a
//! day has to be able to tell how the agreements of yesterday went.

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolEventInterface;
use serde::{Deserialize, Serialize};

use crate::{
    abi::{Agreement, Escrow::EscrowEvents as Event},
    chain::Log,
    plan::{Stand, fee_of},
};

/// What happened to an agreement up to a block. Amounts in minor units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// The block.
    pub(crate) block: u64,
    /// Whether the deposit arrived.
    pub(crate) funded: bool,
    pub(crate) earned: u128,
    /// What left for the seller, fees included.
    paid: u128,
    fees: u128,
    /// What went back to the buyer, unless nothing did.
    withdrawn: Option<u128>,
    /// The fee in force, if it was lowered.
    fee_bps: Option<u128>,
    /// When the challenge window of a close ends.
    closes_at: Option<u64>,
    /// Whether a ruling or a waiver made it final.
    decided: bool,
    /// The newest transaction.
    pub(crate) transaction: Option<B256>,
}

/// How far an agreement has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Statements still count, until this Unix time unless something happens before.
    Undecided { final_at: u64 },
    /// What was earned stands; a part of the deposit may still be in the contract.
    Final,
}

impl Standing {
    /// Nothing happened up to a block.
    pub(crate) fn at(block: u64) -> Self {
        Self { block, ..Self::default() }
    }

    /// Takes in the agreement's logs up to a block, in the chain's order; those taken in before change nothing.
    pub(crate) fn read<'a>(&mut self, logs: impl IntoIterator<Item = &'a Log>, up_to: u64) {
        let before = self.block;
        for log in logs.into_iter().filter(|log| log.place().0 > before) {
            if let Ok(event) = Event::decode_raw_log(&log.topics, &log.data) {
                self.take_in(&event);
                self.transaction = Some(log.transaction_hash);
            }
        }
        self.block = self.block.max(up_to);
    }

    fn take_in(&mut self, event: &Event) {
        let minor = |amount: U256| amount.saturating_to::<u128>();
        match event {
            Event::Funded(_) => self.funded = true,
            Event::ReceiptSubmitted(receipt) => self.earned = minor(receipt.earned),
            Event::CloseInitiated(close) => self.closes_at = Some(close.finalAt.saturating_to()),
            Event::Finalized(ended) => (self.decided, self.earned) = (true, minor(ended.earned)),
            Event::FeeLowered(fee) => self.fee_bps = Some(minor(fee.feeBps)),
            Event::SellerPaid(payment) => {
                let (net, fee) = (minor(payment.toSeller), minor(payment.fee));
                self.paid = self.paid.saturating_add(net).saturating_add(fee);
                self.fees = self.fees.saturating_add(fee);
                // A release may raise what was earned, a claim never does.
                self.earned = self.earned.max(self.paid);
            }
            Event::BuyerWithdrew(back) => self.withdrawn = Some(minor(back.amount)),
        }
    }

    /// How far it has come at a block's time.
    pub(crate) fn phase(&self, terms: &Agreement, time: u64) -> Phase {
        let expires = terms.expiry.to::<u64>() + u64::from(terms.challengeWindow);
        let final_at = self.closes_at.unwrap_or(expires);
        let settled = self.withdrawn.is_some() || self.paid == terms.deposit.to::<u128>();
        match self.decided || settled || time >= final_at {
            true => Phase::Final,
            false => Phase::Undecided { final_at },
        }
    }

    /// What seller, fee receiver and buyer have or may take once it is final; `None` if that is not the deposit.
    pub(crate) fn shares(&self, terms: &Agreement) -> Option<[i64; 3]> {
        let deposit = terms.deposit.to::<u128>();
        let claimable = self.earned.checked_sub(self.paid)?;
        let fees = self.fees.checked_add(fee_of(claimable, self.fee_bps(terms)))?;
        let back = deposit.checked_sub(self.earned)?;
        let whole = self.withdrawn.is_none_or(|withdrawn| withdrawn == back);
        let minor = |amount: u128| i64::try_from(amount).ok();
        Some([minor(self.earned.checked_sub(fees)?)?, minor(fees)?, minor(back)?]).filter(|_| self.funded && whole)
    }

    /// What a further payment starts from.
    pub(crate) fn payments(&self, terms: &Agreement) -> Stand {
        Stand { fee_bps: self.fee_bps(terms), paid: self.paid, fees: self.fees }
    }

    fn fee_bps(&self, terms: &Agreement) -> u128 {
        self.fee_bps.unwrap_or_else(|| terms.maxFeeBps.into())
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{
        Address, LogData,
        aliases::{U40, U96, U120},
    };
    use alloy_sol_types::SolEvent;

    use super::*;
    use crate::abi::Escrow;

    const DEPOSIT: u128 = 1_000;
    const EXPIRY: u64 = 10_000;
    const WINDOW: u32 = 500;

    fn terms() -> Agreement {
        Agreement {
            buyer: Address::repeat_byte(1),
            expiry: U40::from(EXPIRY),
            challengeWindow: WINDOW,
            seller: Address::repeat_byte(2),
            maxFeeBps: 1_000,
            token: Address::repeat_byte(3),
            quantity: 100,
            deposit: U120::from(DEPOSIT),
            unitPrice: U120::from(10),
            receiptSigner: Address::repeat_byte(4),
            arbiter: Address::repeat_byte(5),
            feeReceiver: Address::repeat_byte(6),
            lane: U96::from(1),
            termsHash: B256::ZERO,
        }
    }

    const ID: U256 = U256::from_limbs([7, 0, 0, 0]);

    fn funded() -> LogData {
        Escrow::Funded { id: ID }.encode_log_data()
    }

    fn receipt(units: u64) -> LogData {
        let (units, earned) = (U256::from(units), U256::from(units * 10));
        Escrow::ReceiptSubmitted { id: ID, units, earned, proof: B256::ZERO }.encode_log_data()
    }

    fn close(final_at: u64) -> LogData {
        Escrow::CloseInitiated { id: ID, by: Address::ZERO, finalAt: U256::from(final_at) }.encode_log_data()
    }

    fn decided(earned: u64) -> LogData {
        Escrow::Finalized { id: ID, by: Address::ZERO, earned: U256::from(earned) }.encode_log_data()
    }

    fn lowered(bps: u64) -> LogData {
        Escrow::FeeLowered { id: ID, feeBps: U256::from(bps) }.encode_log_data()
    }

    fn paid(to_seller: u64, fee: u64) -> LogData {
        Escrow::SellerPaid { id: ID, toSeller: U256::from(to_seller), fee: U256::from(fee) }.encode_log_data()
    }

    fn withdrew(amount: u64) -> LogData {
        Escrow::BuyerWithdrew { id: ID, amount: U256::from(amount) }.encode_log_data()
    }

    /// A log a block, from block 1 on.
    fn logs(events: &[LogData]) -> Vec<Log> {
        let numbered = events.iter().zip(1u64..);
        numbered.map(|(data, block)| Log::of(data.clone(), B256::with_last_byte(block as u8), block)).collect()
    }

    fn after(events: &[LogData]) -> Standing {
        let mut standing = Standing::default();
        standing.read(&logs(events), events.len() as u64);
        standing
    }

    /// PG-07, PG-08, PG-09: each way that an agreement ends, and what everybody has then.
    #[test]
    fn pg_09_what_everybody_gets_follows_from_what_was_logged() {
        for (events, time, shares) in [
            (vec![funded()], EXPIRY + 500, [0, 0, 1_000]),
            (vec![funded(), receipt(30)], EXPIRY + 500, [270, 30, 700]),
            (vec![funded(), receipt(30), receipt(50)], EXPIRY + 500, [450, 50, 500]),
            (vec![funded(), receipt(30), close(900), receipt(40)], 900, [360, 40, 600]),
            (vec![funded(), receipt(30), close(900), paid(270, 30)], 900, [270, 30, 700]),
            (vec![funded(), receipt(30), close(900), withdrew(700)], 900, [270, 30, 700]),
            (vec![funded(), receipt(30), close(900), withdrew(700), paid(270, 30)], 900, [270, 30, 700]),
            (vec![funded(), paid(900, 100)], 0, [900, 100, 0]),
            (vec![funded(), paid(360, 40), decided(400)], 0, [360, 40, 600]),
            (vec![funded(), lowered(500), paid(380, 20), lowered(0), paid(600, 0)], 0, [980, 20, 0]),
            (vec![funded(), receipt(80), decided(300), lowered(100)], 0, [297, 3, 700]),
            (vec![funded(), decided(0), withdrew(1_000)], 0, [0, 0, 1_000]),
            // Until the buyer has withdrawn, the rest of a final agreement is the buyer's to give.
            (vec![funded(), decided(300), paid(450, 50)], 0, [450, 50, 500]),
        ] {
            let standing = after(&events);
            assert_eq!(standing.phase(&terms(), time), Phase::Final, "{standing:?}");
            assert_eq!(standing.shares(&terms()), Some(shares), "{standing:?}");
        }
    }

    /// PG-09: a close brings the end nearer, and until then nothing is final.
    #[test]
    fn pg_09_an_agreement_is_final_at_its_time() {
        for (events, final_at) in [
            (vec![funded()], EXPIRY + 500),
            (vec![funded(), receipt(1), paid(90, 10)], EXPIRY + 500),
            (vec![funded(), close(700)], 700),
        ] {
            let standing = after(&events);
            assert_eq!(standing.phase(&terms(), final_at - 1), Phase::Undecided { final_at }, "{standing:?}");
            assert_eq!(standing.phase(&terms(), final_at), Phase::Final, "{standing:?}");
        }
    }

    #[test]
    fn a_log_counts_once_however_often_and_in_whatever_pages_it_is_read() {
        let all = logs(&[funded(), lowered(100), paid(99, 1), receipt(30), decided(400), paid(297, 3), withdrew(600)]);
        let mut once = Standing::default();
        once.read(&all, 7);
        for cut in 0..=7 {
            let mut pieces = Standing::default();
            pieces.read(&all[..cut], cut as u64);
            pieces.read(&all[..cut], cut as u64);
            pieces.read(&all, 7);
            pieces.read(&all[..cut], cut as u64);
            assert_eq!(pieces, once, "cut at {cut}");
        }
        assert_eq!(once.payments(&terms()), Stand { fee_bps: 100, paid: 400, fees: 4 });
    }

    #[test]
    fn logs_that_do_not_add_up_to_the_deposit_give_no_shares() {
        for events in [
            vec![paid(900, 100)],
            vec![funded(), paid(1_000, 100)],
            vec![funded(), decided(300), withdrew(600)],
            vec![funded(), paid(450, 50), decided(300)],
        ] {
            assert_eq!(after(&events).shares(&terms()), None, "{events:?}");
        }
    }
}
