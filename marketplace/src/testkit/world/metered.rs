//! What the people of a world do about usage agreements: propose, accept, activate, use, sign receipts,
//! close, dispute, rule; and now and then what nobody should.

use rand::{Rng, seq::IndexedRandom};
use serde_json::Map;

use super::{World, deed::Deed, player::Task};
use crate::{
    actor::Actor,
    agreement::{
        Agreement, AgreementCommand, AgreementStatus, Proposal,
        chain::{Call, Hash},
        receipt::{ReceiptSigner, ReceiptVerifier, SignedReceipt},
    },
    engine::Marketplace,
    money::Money,
    policy::Span,
};

/// How many agreements are under way at once, about.
const OPEN: usize = 10;

/// The meter that both parties trust. Its signature needs no key, so that a world signs as fast as it
/// runs; what the engine makes of signatures is the rails' and the verifiers' own tests'.
pub(super) struct Meter;

impl Meter {
    pub(super) const SCHEME: &str = "meter";
    const KEY: &str = "on the wall";

    pub(super) fn sign(agreement: &Agreement, units: i64, proof: Hash) -> String {
        format!("{}/{units}/{proof}", agreement.id)
    }
}

impl ReceiptVerifier for Meter {
    fn scheme(&self) -> &str {
        Self::SCHEME
    }

    fn check_key(&self, key: &str) -> Result<(), String> {
        if key == Self::KEY { Ok(()) } else { Err("there is one meter here".into()) }
    }

    fn verify(&self, agreement: &Agreement, _key: &str, receipt: &SignedReceipt) -> Result<(), String> {
        match receipt.signature == Self::sign(agreement, receipt.units, receipt.proof) {
            true => Ok(()),
            false => Err("it is not the meter's".into()),
        }
    }
}

impl World {
    /// Something about an agreement, or a new one.
    pub(super) fn meter(&mut self, market: Marketplace, task: &mut Task) -> (String, Option<String>) {
        let agreements: Vec<Agreement> = self.stage.act().auditor.agreements().cloned().collect();
        let proposes = self.rng.random_range(0..OPEN * 3) > agreements.len() * 3;
        let chosen = if proposes { None } else { agreements.choose(&mut self.rng).cloned() };
        let (actor, deed) = match chosen {
            Some(agreement) => {
                let (actor, command) = self.use_of(&agreement);
                (actor, Deed::Agreement(agreement.id, command))
            }
            None => {
                let buyer = self.agent();
                (Actor::Agent(buyer), Deed::Propose(Box::new(self.proposal())))
            }
        };
        self.act_on(market, actor, deed, task)
    }

    fn proposal(&mut self) -> Proposal {
        let currency = self.plan.policy.currency;
        let (step, min) = self.plan.policy.agreements.map_or((1, 1), |a| (a.unit_price_step, a.unit_price.min));
        let signer = ReceiptSigner { scheme: Meter::SCHEME.into(), key: Meter::KEY.into() };
        let mut proposal = Proposal {
            seller: self.agent(),
            service: None,
            quantity: self.rng.random_range(1..200),
            unit: "call".into(),
            unit_price: Money::new(min + step * self.rng.random_range(0..5), currency),
            rail: self.places.get(1).map(|further| further.profile.id).filter(|_| self.rng.random()),
            answer_within: Some(Span::seconds(self.rng.random_range(60..1_000_000))),
            term: Some(Span::seconds(self.rng.random_range(60..4_000_000))),
            challenge_window: Some(Span::seconds(self.rng.random_range(60..300_000))),
            receipt_signer: self.rng.random::<bool>().then_some(signer),
            account: None,
            document: Map::new(),
        };
        match self.rng.random_range(0..60) {
            0 => proposal.quantity = 0,
            1 => proposal.quantity = i64::MAX,
            2 => proposal.unit_price = Money::new(i64::MAX, currency),
            3 => proposal.unit_price = Money::new(min - 1, currency),
            4 => proposal.unit = "\u{202e}".into(),
            5 => proposal.term = Some(Span::MAX),
            6 => proposal.receipt_signer = Some(ReceiptSigner { scheme: "trust me".into(), key: String::new() }),
            _ => {}
        }
        proposal
    }

    /// What the parties of an agreement would do next, or something else.
    fn use_of(&mut self, agreement: &Agreement) -> (Actor, AgreementCommand) {
        use AgreementStatus::{Accepted, Active, Disputed, Proposed};
        let (buyer, seller) = (Actor::Agent(agreement.buyer), Actor::Agent(agreement.seller));
        let party = if self.rng.random() { buyer.clone() } else { seller.clone() };
        let reason = || "as agreed".to_owned();
        match (agreement.status, self.rng.random_range(0..100)) {
            (_, 0..3) => (party, AgreementCommand::Close),
            (_, 3..5) => (party, AgreementCommand::Finalize),
            (_, 5..7) => (buyer, AgreementCommand::Cancel { reason: reason() }),
            (_, 7..9) => (party, self.receipt(agreement)),
            (Proposed, 9..20) => (seller, AgreementCommand::Reject { reason: reason(), suggestion: None }),
            (Proposed, _) => (seller, AgreementCommand::Accept { account: None }),
            (Accepted, _) => (buyer, AgreementCommand::Activate),
            (Active, 9..55) => (seller, self.usage(agreement)),
            (Active, 55..72) => (party, self.receipt(agreement)),
            (Active, 72..80) => (buyer, AgreementCommand::Complete),
            (Active, 80..88) => (party, AgreementCommand::Dispute { reason: reason() }),
            (Active, 88..94) => (party, AgreementCommand::Close),
            (Active, _) => (party, AgreementCommand::Finalize),
            (Disputed, 9..60) => {
                let most = agreement.terms.unit_price.minor().saturating_mul(agreement.terms.quantity);
                let minor = match self.rng.random_range(0..10) {
                    0 => -1,
                    1 => most.saturating_add(1),
                    _ => self.rng.random_range(0..=most.max(1)),
                };
                let earned = Money::new(minor, agreement.terms.unit_price.currency());
                (Actor::Operator("Omar".into()), AgreementCommand::Rule { earned, reason: reason() })
            }
            (Disputed, 60..80) => (party, self.receipt(agreement)),
            (Disputed, 80..90) => (buyer, AgreementCommand::Complete),
            _ => (party, AgreementCommand::Finalize),
        }
    }

    /// Calls, most often as many as are left at least.
    fn usage(&mut self, agreement: &Agreement) -> AgreementCommand {
        let left = (agreement.terms.quantity - agreement.usage.units).max(1);
        let mut calls = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let units = match self.rng.random_range(0..20) {
                0 => 0,
                1 => left + 1,
                _ => self.rng.random_range(1..=(left / 3).max(1)),
            };
            calls.push(Call { units, digest: Hash([self.rng.random(); 32]) });
        }
        let after = match self.rng.random_range(0..8) {
            0 => Some(Hash([7; 32])),
            1..4 => Some(agreement.usage.head),
            _ => None,
        };
        AgreementCommand::RecordUsage { calls, after }
    }

    /// A receipt of what was used, or of more or less; now and then one that nobody signed.
    fn receipt(&mut self, agreement: &Agreement) -> AgreementCommand {
        let units = match self.rng.random_range(0..6) {
            0..3 => agreement.usage.units,
            3 => agreement.terms.quantity + 1,
            _ => self.rng.random_range(0..=agreement.terms.quantity),
        };
        let proof = agreement.usage.head;
        let signature = match self.rng.random_range(0..8) {
            0 => "signed, everybody".into(),
            _ => Meter::sign(agreement, units, proof),
        };
        AgreementCommand::SubmitReceipt { receipt: Box::new(SignedReceipt { units, proof, signature }) }
    }
}
