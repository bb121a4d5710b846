//! The objects, and what requests do to them. Objects are kept in the form in which Stripe shows them.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Trouble, error};

/// When a new world begins: 2026-01-01, in seconds since 1970.
const FIRST_SECOND: i64 = 1_767_225_600;
/// How long a charge is pending before it is available.
const PENDING: i64 = 2 * 86_400;
/// How long an authorisation lives with most networks.
const AUTHORISED: i64 = 7 * 86_400;

type Params = HashMap<String, String>;
type Answer = (u16, Value);

/// How what takes a while ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    Declined,
}

pub struct World {
    /// The present, in seconds since 1970.
    pub now: i64,
    made: u64,
    pub intents: Vec<Value>,
    pub charges: Vec<Value>,
    pub refunds: Vec<Value>,
    pub transfers: Vec<Value>,
    pub reversals: Vec<Value>,
    pub disputes: Vec<Value>,
    /// What connected accounts sent to their banks: whose, and what.
    pub payouts: Vec<(String, Value)>,
    /// How long the payer's card network lets an authorisation live, in seconds.
    pub authorised: i64,
    /// What a dollar is in euros today, as a fraction; none where nothing is exchanged.
    pub exchange: Option<(i64, i64)>,
    pub accounts: Vec<Value>,
    customers: Vec<Value>,
    cards: Vec<Value>,
    setups: Vec<Value>,
    /// What each effect did to the platform's balance.
    pub booked: Vec<Value>,
    pub events: Vec<Value>,
    /// What happened to connected accounts: told by webhook only.
    pub account_events: Vec<Value>,
    processing: Vec<(String, Ending)>,
}

impl World {
    pub fn new() -> Self {
        Self {
            now: FIRST_SECOND,
            made: 0,
            intents: Vec::new(),
            charges: Vec::new(),
            refunds: Vec::new(),
            transfers: Vec::new(),
            reversals: Vec::new(),
            disputes: Vec::new(),
            payouts: Vec::new(),
            authorised: AUTHORISED,
            exchange: None,
            accounts: Vec::new(),
            customers: Vec::new(),
            cards: Vec::new(),
            setups: Vec::new(),
            booked: Vec::new(),
            events: Vec::new(),
            account_events: Vec::new(),
            processing: Vec::new(),
        }
    }

    fn id(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}_{:08}", self.made)
    }

    // ── what requests ask for ────────────────────────────────────────────────────────────────

    pub fn get(&mut self, path: &str, params: &Params, account: &str) -> Answer {
        let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
        let filter =
            |field: &str, value: &Value| params.get(field).is_none_or(|wanted| value[field].as_str() == Some(wanted));
        let since = params.get("created[gte]").and_then(|text| text.parse::<i64>().ok()).unwrap_or(i64::MIN);
        let young = |value: &&Value| value["created"].as_i64().unwrap_or_default() >= since;
        match parts.as_slice() {
            ["balance"] if account.is_empty() => (200, self.balance(self.available(), self.sum(false))),
            ["balance"] => (200, self.balance(self.at_account(account), 0)),
            ["payment_intents"] => {
                let found = self.intents.iter().filter(|i| filter("customer", i)).filter(young).cloned().collect();
                self.page(found, path, params)
            }
            ["transfers"] => {
                let found = self.transfers.iter().filter(|t| filter("transfer_group", t)).cloned().collect();
                self.page(found, path, params)
            }
            ["refunds"] => {
                let found = self.refunds.iter().filter(|r| filter("charge", r)).cloned().collect();
                self.page(found, path, params)
            }
            ["disputes"] => {
                let found = self.disputes.iter().filter(|d| filter("charge", d)).cloned().collect();
                self.page(found, path, params)
            }
            ["transfers", id, "reversals"] => {
                if !self.transfers.iter().any(|t| t["id"] == **id) {
                    return missing("id");
                }
                let found = self.reversals.iter().filter(|r| r["transfer"] == **id).cloned().collect();
                self.page(found, path, params)
            }
            ["events"] => {
                let types: Vec<&String> =
                    params.iter().filter(|(k, _)| k.starts_with("types")).map(|(_, v)| v).collect();
                let month = self.now - 30 * 86_400;
                let known = |e: &&Value| e["created"].as_i64().unwrap_or_default() >= month;
                let wanted = |e: &&Value| types.is_empty() || types.iter().any(|t| e["type"].as_str() == Some(t));
                let found = self.events.iter().filter(known).filter(wanted).cloned().collect();
                self.page(found, path, params)
            }
            ["payment_methods"] => {
                let found = self.cards.iter().filter(|c| filter("customer", c)).cloned().collect();
                self.page(found, path, params)
            }
            ["payouts"] => {
                let found = self.payouts.iter().filter(|(of, _)| of == account).map(|(_, p)| p.clone()).collect();
                self.page(found, path, params)
            }
            [kind, id] => match self.list(kind).and_then(|list| list.iter().find(|o| o["id"] == **id)).cloned() {
                Some(object) => (200, self.expanded(object, params, "")),
                None => missing("id"),
            },
            _ => (404, error("invalid_request_error", None, "Unrecognized request URL")),
        }
    }

    pub fn post(&mut self, path: &str, params: &Params, trouble: Option<Trouble>) -> Answer {
        let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
        match parts.as_slice() {
            ["payment_intents"] => self.new_intent(params, trouble),
            ["payment_intents", id, "cancel"] => self.cancel(id, params),
            ["payment_intents", id, "capture"] => self.capture(id, params, trouble),
            ["refunds"] => self.new_refund(params, trouble),
            ["transfers"] => self.new_transfer(params, trouble),
            ["transfers", id] => self.update("transfers", id, params),
            ["transfers", id, "reversals"] => self.new_reversal(id, params, trouble),
            ["disputes", id] => self.answer_dispute(id, params),
            ["charges", id] => {
                if trouble == Some(Trouble::RefundedOutside) {
                    self.refund_outside(id);
                }
                let answer = self.update("charges", id, params);
                if answer.0 == 200 {
                    self.happened("charge.updated", id);
                }
                answer
            }
            ["customers"] => {
                let id = self.id("cus");
                let customer = json!({
                    "id": id, "object": "customer", "created": self.now, "livemode": false,
                    "metadata": nested(params, "metadata"), "invoice_settings": { "default_payment_method": null },
                });
                self.customers.push(customer.clone());
                (200, customer)
            }
            ["customers", id] => self.update("customers", id, params),
            ["setup_intents"] => {
                let id = self.id("seti");
                let setup = json!({
                    "id": id, "object": "setup_intent", "created": self.now, "livemode": false,
                    "client_secret": format!("{id}_secret_double"), "customer": params.get("customer"),
                    "metadata": nested(params, "metadata"), "payment_method_types": ["card"],
                    "status": "requires_payment_method", "usage": params.get("usage"),
                });
                self.setups.push(setup.clone());
                (200, setup)
            }
            ["payment_methods", id, "detach"] => match self.cards.iter_mut().find(|c| c["id"] == **id) {
                Some(card) => {
                    card["customer"] = Value::Null;
                    (200, card.clone())
                }
                None => missing("payment_method"),
            },
            ["accounts"] => {
                let id = self.id("acct");
                let account = json!({
                    "id": id, "object": "account", "created": self.now, "type": params.get("type"),
                    "charges_enabled": false, "payouts_enabled": false, "details_submitted": false,
                    "capabilities": { "transfers": "inactive" }, "metadata": nested(params, "metadata"),
                });
                self.accounts.push(account.clone());
                (200, account)
            }
            ["account_links"] => {
                match self.accounts.iter().any(|a| a["id"].as_str() == params.get("account").map(|a| &**a)) {
                    true => {
                        let id = self.id("link");
                        let url = format!("https://connect.stripe.com/setup/{id}");
                        (
                            200,
                            json!({ "object": "account_link", "created": self.now, "expires_at": self.now + 300, "url": url }),
                        )
                    }
                    false => missing("account"),
                }
            }
            _ => (404, error("invalid_request_error", None, "Unrecognized request URL")),
        }
    }

    // ── payments ─────────────────────────────────────────────────────────────────────────────

    fn new_intent(&mut self, params: &Params, trouble: Option<Trouble>) -> Answer {
        let amount: i64 = params["amount"].parse().unwrap();
        if amount < 50 {
            let message = "Amount must be at least €0.50 eur";
            return (400, error("invalid_request_error", Some("amount_too_small"), message));
        }
        let card = params.get("payment_method");
        if let Some(card) = card
            && !self
                .cards
                .iter()
                .any(|c| c["id"] == **card && c["customer"].as_str() == params.get("customer").map(|c| &**c))
        {
            let mut body = error("invalid_request_error", Some("resource_missing"), "No such PaymentMethod");
            body["error"]["param"] = "payment_method".into();
            return (400, body);
        }
        let id = self.id("pi");
        let currency = if trouble == Some(Trouble::OtherCurrency) { "usd" } else { &params["currency"] };
        let amount = amount + i64::from(trouble == Some(Trouble::OtherAmount));
        let intent = json!({
            "id": id, "object": "payment_intent", "amount": amount, "amount_capturable": 0, "amount_received": 0,
            "capture_method": params.get("capture_method").map_or("automatic_async", |m| m),
            "confirmation_method": "automatic", "created": self.now, "currency": currency, "livemode": false,
            "client_secret": format!("{id}_secret_double"), "customer": params.get("customer"),
            "metadata": nested(params, "metadata"), "payment_method_types": ["card"], "payment_method": card,
            "transfer_group": params.get("transfer_group"), "status": "requires_payment_method",
            "latest_charge": null, "last_payment_error": null, "cancellation_reason": null,
        });
        self.intents.push(intent);
        if params.get("confirm").is_some_and(|confirm| confirm == "true") {
            match trouble {
                Some(Trouble::Declined) => return self.declined(&id, "insufficient_funds", params),
                Some(Trouble::NeedsAction) => return self.declined(&id, "authentication_required", params),
                Some(Trouble::Processing(ending)) => {
                    self.intent(&id)["status"] = "processing".into();
                    self.processing.push((id.clone(), ending));
                    self.happened("payment_intent.processing", &id);
                }
                _ => self.take(&id, trouble == Some(Trouble::FeeLater)),
            }
        }
        let intent = self.intent(&id).clone();
        (200, self.expanded(intent, params, ""))
    }

    fn declined(&mut self, id: &str, code: &str, params: &Params) -> Answer {
        self.refuse(id, code);
        let intent = self.intent(id).clone();
        let intent = self.expanded(intent, params, "");
        let (top, decline) = if code == "authentication_required" { (code, code) } else { ("card_declined", code) };
        let mut body = error("card_error", Some(top), "Your card was declined.");
        body["error"]["decline_code"] = decline.into();
        body["error"]["payment_intent"] = intent;
        (402, body)
    }

    /// The card or its holder said no.
    pub fn refuse(&mut self, id: &str, code: &str) {
        let top = if code == "insufficient_funds" { "card_declined" } else { code };
        let intent = self.intent(id);
        intent["status"] = "requires_payment_method".into();
        intent["last_payment_error"] =
            json!({ "type": "card_error", "code": top, "decline_code": code, "message": "Your card was declined." });
        self.happened("payment_intent.payment_failed", id);
    }

    /// The money is taken, or reserved.
    pub fn take(&mut self, id: &str, fee_later: bool) {
        let intent = self.intent(id).clone();
        let charge = self.id("ch");
        let manual = intent["capture_method"] == "manual";
        let before = if manual { json!(self.now + self.authorised) } else { Value::Null };
        let made = json!({
            "id": charge, "object": "charge", "amount": intent["amount"], "amount_captured": 0, "amount_refunded": 0,
            "billing_details": {}, "captured": false, "created": self.now, "currency": intent["currency"],
            "disputed": false, "livemode": false, "metadata": intent["metadata"], "paid": true, "refunded": false,
            "status": "succeeded", "payment_intent": id, "customer": intent["customer"], "balance_transaction": null,
            "transfer_group": intent["transfer_group"],
            "payment_method_details": { "type": "card", "card": { "capture_before": before, "exp_month": 12, "exp_year": 2031 } },
        });
        self.charges.push(made);
        let intent = self.intent(id);
        intent["latest_charge"] = charge.clone().into();
        intent["last_payment_error"] = Value::Null;
        if manual {
            intent["status"] = "requires_capture".into();
            intent["amount_capturable"] = intent["amount"].clone();
            self.happened("payment_intent.amount_capturable_updated", id);
        } else {
            let amount = int(&intent["amount"]);
            self.captured(id, &charge, amount, fee_later);
        }
    }

    fn captured(&mut self, id: &str, charge: &str, amount: i64, fee_later: bool) {
        let currency = self.charge(charge)["currency"].clone();
        let booked = self.book_charge(amount, &currency, charge);
        let object = self.charge(charge);
        object["captured"] = true.into();
        object["amount_captured"] = amount.into();
        object["balance_transaction"] = if fee_later { Value::Null } else { booked.clone().into() };
        object["fee_comes"] = booked.into();
        let intent = self.intent(id);
        intent["status"] = "succeeded".into();
        intent["amount_received"] = amount.into();
        intent["amount_capturable"] = 0.into();
        self.happened("payment_intent.succeeded", id);
    }

    fn cancel(&mut self, id: &str, params: &Params) -> Answer {
        let Some(intent) = self.intents.iter_mut().find(|i| i["id"] == *id) else { return missing("intent") };
        if matches!(intent["status"].as_str(), Some("succeeded" | "canceled" | "processing")) {
            let message = "You cannot cancel this PaymentIntent";
            return (400, error("invalid_request_error", Some("payment_intent_unexpected_state"), message));
        }
        intent["status"] = "canceled".into();
        intent["amount_capturable"] = 0.into();
        intent["cancellation_reason"] = params.get("cancellation_reason").cloned().into();
        self.happened("payment_intent.canceled", id);
        (200, self.intent(id).clone())
    }

    fn capture(&mut self, id: &str, params: &Params, trouble: Option<Trouble>) -> Answer {
        let Some(intent) = self.intents.iter_mut().find(|i| i["id"] == *id) else { return missing("intent") };
        let amount: i64 = params["amount_to_capture"].parse().unwrap();
        if trouble == Some(Trouble::RefundedOutside) {
            intent["status"] = "canceled".into();
            intent["amount_capturable"] = 0.into();
            intent["cancellation_reason"] = "automatic".into();
        }
        if intent["status"] != "requires_capture" || amount > int(&intent["amount_capturable"]) {
            let message = "This PaymentIntent could not be captured";
            return (400, error("invalid_request_error", Some("payment_intent_unexpected_state"), message));
        }
        merge(&mut intent["metadata"], nested(params, "metadata"));
        let charge = intent["latest_charge"].as_str().unwrap().to_owned();
        self.captured(id, &charge, amount, trouble == Some(Trouble::FeeLater));
        let intent = self.intent(id).clone();
        (200, self.expanded(intent, params, ""))
    }

    // ── dividing ─────────────────────────────────────────────────────────────────────────────

    fn new_refund(&mut self, params: &Params, trouble: Option<Trouble>) -> Answer {
        if trouble == Some(Trouble::RefundedOutside) {
            self.refund_outside(&params["charge"]);
        }
        let Some(charge) = self.charges.iter().find(|c| c["id"] == *params["charge"]).cloned() else {
            return missing("charge");
        };
        let amount: i64 = params["amount"].parse().unwrap();
        if trouble == Some(Trouble::Declined) {
            let message = "Charge has already been refunded";
            return (400, error("invalid_request_error", Some("charge_already_refunded"), message));
        }
        if self.is_contested(&params["charge"]) {
            let message = "This charge has been charged back";
            return (400, error("invalid_request_error", Some("charge_disputed"), message));
        }
        if amount > int(&charge["amount_captured"]) - int(&charge["amount_refunded"]) {
            let message = "Charge has already been refunded";
            return (400, error("invalid_request_error", Some("charge_already_refunded"), message));
        }
        let amount = amount + i64::from(trouble == Some(Trouble::OtherAmount));
        let currency = if trouble == Some(Trouble::OtherCurrency) { json!("usd") } else { charge["currency"].clone() };
        let (id, charge) = (self.id("re"), params["charge"].clone());
        let booked = self.book(-amount, 0, &currency, "refund", &id, self.now);
        let refund = json!({
            "id": id, "object": "refund", "amount": amount, "created": self.now, "currency": currency,
            "charge": charge, "status": "succeeded", "metadata": nested(params, "metadata"),
            "balance_transaction": booked,
        });
        self.refunds.push(refund.clone());
        let refund = self.expanded(refund, params, "");
        let charge = self.charge(&charge);
        let refunded = int(&charge["amount_refunded"]) + amount;
        charge["amount_refunded"] = refunded.into();
        charge["refunded"] = (refunded >= int(&charge["amount_captured"])).into();
        (200, refund)
    }

    /// Somebody gives the payer everything back in the dashboard.
    pub fn refund_outside(&mut self, charge: &str) {
        let left = {
            let charge = self.charge(charge);
            int(&charge["amount_captured"]) - int(&charge["amount_refunded"])
        };
        if left > 0 {
            let params = [("charge".into(), charge.into()), ("amount".into(), left.to_string())].into();
            self.new_refund(&params, None);
        }
    }

    fn new_transfer(&mut self, params: &Params, trouble: Option<Trouble>) -> Answer {
        let refused = |code: &str, message: &str| (400, error("invalid_request_error", Some(code), message));
        let source = params.get("source_transaction");
        if let (Some(Trouble::RefundedOutside), Some(source)) = (trouble, source) {
            self.refund_outside(source);
        }
        let destination = &params["destination"];
        let Some(account) = self.accounts.iter().find(|a| a["id"] == **destination) else {
            let (status, mut body) = missing("destination");
            body["error"]["message"] = "No such destination".into();
            return (status, body);
        };
        if account["capabilities"]["transfers"] != "active" {
            return refused("insufficient_capabilities_for_transfer", "Your destination account needs transfers");
        }
        let amount: i64 = params["amount"].parse().unwrap();
        let available_on = match source {
            Some(source) => {
                let Some(charge) = self.charges.iter().find(|c| c["id"] == **source) else { return missing("source") };
                let moved: i64 = self
                    .transfers
                    .iter()
                    .filter(|t| t["source_transaction"] == **source)
                    .map(|t| int(&t["amount"]))
                    .sum();
                let settled = match charge["balance_transaction"].as_str().or(charge["fee_comes"].as_str()) {
                    Some(booked) => self.booked.iter().find(|b| b["id"] == *booked).map_or(0, |b| int(&b["amount"])),
                    None => int(&charge["amount_captured"]),
                };
                let contested = self.is_contested(source);
                if contested || charge["refunded"] == true || moved + amount > settled {
                    return (400, error("invalid_request_error", None, "Transfers must not exceed the source amount"));
                }
                self.now + PENDING
            }
            None if self.available() < amount => {
                return refused("balance_insufficient", "You have insufficient available funds");
            }
            None => self.now,
        };
        let amount = amount + i64::from(trouble == Some(Trouble::OtherAmount));
        let currency = if trouble == Some(Trouble::OtherCurrency) { "usd".into() } else { params["currency"].clone() };
        let id = self.id("tr");
        let booked = self.book(-amount, 0, &currency.clone().into(), "transfer", &id, available_on);
        let transfer = json!({
            "id": id, "object": "transfer", "amount": amount, "amount_reversed": 0, "created": self.now,
            "currency": currency, "destination": destination, "livemode": false, "reversed": false,
            "metadata": nested(params, "metadata"), "source_transaction": source,
            "transfer_group": params.get("transfer_group"), "balance_transaction": booked,
            "reversals": { "object": "list", "data": [], "has_more": false, "url": format!("/v1/transfers/{id}/reversals") },
        });
        self.transfers.push(transfer.clone());
        (200, transfer)
    }

    /// A worker's share is taken back, if its account has it.
    fn new_reversal(&mut self, transfer: &str, params: &Params, trouble: Option<Trouble>) -> Answer {
        let refused = |code: &str, message: &str| (400, error("invalid_request_error", Some(code), message));
        let Some(found) = self.transfers.iter().find(|t| t["id"] == *transfer).cloned() else { return missing("id") };
        let amount: i64 = params["amount"].parse().unwrap();
        let account = found["destination"].as_str().unwrap().to_owned();
        if trouble == Some(Trouble::Declined) || self.at_account(&account) < amount {
            return refused("balance_insufficient", "The connected account has insufficient funds");
        }
        if amount > int(&found["amount"]) - int(&found["amount_reversed"]) {
            let (status, mut body) = refused("parameter_invalid_integer", "It is more than is left of the transfer");
            body["error"]["param"] = "amount".into();
            return (status, body);
        }
        let amount = amount + i64::from(trouble == Some(Trouble::OtherAmount));
        let currency = if trouble == Some(Trouble::OtherCurrency) { json!("usd") } else { found["currency"].clone() };
        let id = self.id("trr");
        let booked = self.book(amount, 0, &currency, "transfer_refund", &id, self.now);
        let reversal = json!({
            "id": id, "object": "transfer_reversal", "amount": amount, "created": self.now, "currency": currency,
            "metadata": nested(params, "metadata"), "transfer": transfer, "balance_transaction": booked,
            "destination_payment_refund": null, "source_refund": null,
        });
        self.reversals.push(reversal.clone());
        let found = self.transfers.iter_mut().find(|t| t["id"] == *transfer).unwrap();
        let reversed = int(&found["amount_reversed"]) + amount;
        found["amount_reversed"] = reversed.into();
        found["reversed"] = (reversed >= int(&found["amount"])).into();
        (200, reversal)
    }

    /// What a connected account has.
    pub fn at_account(&self, account: &str) -> i64 {
        let to = self.transfers.iter().filter(|t| t["destination"] == *account);
        let got: i64 = to.map(|t| int(&t["amount"]) - int(&t["amount_reversed"])).sum();
        let sent = self.payouts.iter().filter(|(of, p)| of == account && p["status"] != "failed");
        got - sent.map(|(_, p)| int(&p["amount"])).sum::<i64>()
    }

    /// A connected account sends everything to its bank, by its schedule.
    pub fn empty(&mut self, account: &str) {
        let left = self.at_account(account);
        if left > 0 {
            self.send_to_bank(account, left, json!({}), true);
        }
    }

    /// A connected account is told to send money to its bank.
    pub fn new_payout(&mut self, account: &str, params: &Params) -> Answer {
        let refused = |code: &str, message: &str| (400, error("invalid_request_error", Some(code), message));
        let Some(found) = self.accounts.iter().find(|a| a["id"] == *account) else { return missing("account") };
        let amount: i64 = params["amount"].parse().unwrap();
        if found["payouts_enabled"] != true {
            return refused("payouts_not_allowed", "This account cannot currently make payouts");
        }
        if self.at_account(account) < amount {
            return refused("balance_insufficient", "You have insufficient funds in your Stripe account");
        }
        (200, self.send_to_bank(account, amount, nested(params, "metadata"), false))
    }

    fn send_to_bank(&mut self, account: &str, amount: i64, metadata: Value, automatic: bool) -> Value {
        let id = self.id("po");
        let payout = json!({
            "id": id, "object": "payout", "amount": amount, "arrival_date": self.now + 86_400, "automatic": automatic,
            "created": self.now, "currency": "eur", "failure_code": null, "livemode": false, "metadata": metadata,
            "method": "standard", "reconciliation_status": "not_applicable", "source_type": "card",
            "status": "pending", "type": "bank_account",
        });
        self.payouts.push((account.to_owned(), payout.clone()));
        payout
    }

    /// A bank takes a payout, or sends it back.
    pub fn arrive(&mut self, payout: &str, failure: Option<&str>) {
        let (_, payout) = self.payouts.iter_mut().find(|(_, p)| p["id"] == *payout).unwrap();
        payout["status"] = if failure.is_some() { "failed" } else { "paid" }.into();
        payout["failure_code"] = failure.into();
    }

    // ── disputes ─────────────────────────────────────────────────────────────────────────────

    fn is_contested(&self, charge: &str) -> bool {
        let of = self.disputes.iter().filter(|d| d["charge"] == *charge);
        of.clone().any(|d| matches!(d["status"].as_str(), Some("needs_response" | "under_review" | "lost")))
    }

    /// The cardholder's bank takes what is left of a charge back, for a fee. Whether there was anything.
    pub fn dispute(&mut self, charge: &str) -> bool {
        let found = self.charge(charge).clone();
        let amount = int(&found["amount_captured"]) - int(&found["amount_refunded"]);
        let some = amount > 0 && !self.is_contested(charge);
        if some {
            self.dispute_some(charge, amount);
        }
        some
    }

    /// The cardholder's bank takes a part of a charge back.
    pub fn dispute_some(&mut self, charge: &str, amount: i64) {
        let found = self.charge(charge).clone();
        self.charge(charge)["disputed"] = true.into();
        let id = self.id("dp");
        let booked = self.book(-amount, 2_000, &found["currency"], "adjustment", &id, self.now);
        let booked = self.booked.iter().find(|b| b["id"] == *booked).cloned();
        self.disputes.push(json!({
            "id": id, "object": "dispute", "amount": amount, "balance_transactions": [booked], "charge": charge,
            "created": self.now, "currency": found["currency"], "enhanced_eligibility_types": [],
            "evidence": { "enhanced_evidence": {} },
            "evidence_details": {
                "due_by": self.now + 7 * 86_400, "enhanced_eligibility": {}, "has_evidence": false, "past_due": false,
                "submission_count": 0,
            },
            "is_charge_refundable": false, "livemode": false, "metadata": {}, "network_reason_code": null,
            "payment_intent": found["payment_intent"], "reason": "product_not_received", "status": "needs_response",
        }));
        self.happened("charge.dispute.created", &id);
        self.happened("charge.dispute.funds_withdrawn", &id);
    }

    /// The bank asks a question about a charge; no money moves.
    pub fn inquire(&mut self, charge: &str) {
        assert!(self.dispute(charge), "there is something to ask about");
        self.booked.retain(|b| b["type"] != "adjustment");
        self.events.retain(|e| e["type"] != "charge.dispute.funds_withdrawn");
        let dispute = self.disputes.last_mut().unwrap();
        dispute["balance_transactions"] = json!([]);
        dispute["status"] = "warning_closed".into();
        let id = dispute["id"].as_str().unwrap().to_owned();
        self.happened("charge.dispute.closed", &id);
    }

    /// The bank decides about the open dispute of a charge. Whether there was one.
    pub fn decide(&mut self, charge: &str, won: bool) -> bool {
        let open = self.disputes.iter().position(|d| d["charge"] == *charge && d["status"] == "needs_response");
        let Some(index) = open else { return false };
        let (id, amount) = (self.disputes[index]["id"].clone(), int(&self.disputes[index]["amount"]));
        let id = id.as_str().unwrap().to_owned();
        self.disputes[index]["status"] = if won { "won" } else { "lost" }.into();
        if won {
            let currency = self.disputes[index]["currency"].clone();
            let booked = self.book(amount, -1_500, &currency, "adjustment", &id, self.now);
            let booked = self.booked.iter().find(|b| b["id"] == *booked).cloned().unwrap();
            self.disputes[index]["balance_transactions"].as_array_mut().unwrap().push(booked);
        }
        self.happened("charge.dispute.closed", &id);
        if won {
            self.happened("charge.dispute.funds_reinstated", &id);
        }
        true
    }

    fn answer_dispute(&mut self, id: &str, params: &Params) -> Answer {
        let Some(dispute) = self.disputes.iter_mut().find(|d| d["id"] == *id) else { return missing("id") };
        if dispute["status"] != "needs_response" {
            return (400, error("invalid_request_error", None, "This dispute is already closed"));
        }
        merge(&mut dispute["evidence"], nested(params, "evidence"));
        dispute["evidence_details"]["has_evidence"] = true.into();
        if params.get("submit").is_some_and(|submit| submit == "true") {
            dispute["evidence_details"]["submission_count"] = 1.into();
            dispute["status"] = "under_review".into();
        }
        (200, dispute.clone())
    }

    // ── the balance ──────────────────────────────────────────────────────────────────────────

    /// A charge comes into the balance, exchanged, less its fee.
    fn book_charge(&mut self, amount: i64, currency: &Value, charge: &str) -> String {
        let (settled, _) = self.exchanged(amount, currency);
        self.book(amount, settled * 15 / 1000 + 25, currency, "charge", charge, self.now + PENDING)
    }

    /// What an amount is in the balance, and in which currency.
    fn exchanged(&self, amount: i64, currency: &Value) -> (i64, Value) {
        match self.exchange.filter(|_| *currency == "usd") {
            Some((euros, dollars)) => (amount * euros / dollars, json!("eur")),
            None => (amount, currency.clone()),
        }
    }

    fn book(
        &mut self,
        amount: i64,
        fee: i64,
        currency: &Value,
        type_: &str,
        source: &str,
        available_on: i64,
    ) -> String {
        let id = self.id("txn");
        let category = type_;
        let (amount, currency) = self.exchanged(amount, currency);
        self.booked.push(json!({
            "id": id, "object": "balance_transaction", "amount": amount, "available_on": available_on,
            "balance_type": "payments", "created": self.now, "currency": currency, "fee": fee, "fee_details": [],
            "net": amount - fee, "reporting_category": category, "source": source, "status": "pending", "type": type_,
        }));
        id
    }

    /// Has at least this much available, with money of the platform's own. Refunds of charges that are
    /// pending may have taken more than there was.
    pub fn top_up(&mut self, amount: i64) {
        let short = (-self.available()).max(0);
        self.book(amount + short, 0, &json!("eur"), "topup", "tu", self.now);
    }

    fn sum(&self, available: bool) -> i64 {
        let of = self.booked.iter().filter(|b| (int(&b["available_on"]) <= self.now) == available);
        of.map(|b| int(&b["net"])).sum()
    }

    fn available(&self) -> i64 {
        self.sum(true)
    }

    /// What the platform has at Stripe in all, in cents, whatever their currency.
    pub fn total(&self) -> i64 {
        self.booked.iter().map(|b| int(&b["net"])).sum()
    }

    fn balance(&self, available: i64, pending: i64) -> Value {
        let part = |amount: i64| json!([{ "amount": amount, "currency": "eur", "source_types": { "card": amount } }]);
        json!({ "object": "balance", "livemode": false, "available": part(available), "pending": part(pending) })
    }

    // ── what is done by hand ─────────────────────────────────────────────────────────────────

    /// Lets time pass: what was pending becomes available, what takes a while ends, fees are booked.
    pub fn pass(&mut self, seconds: i64) {
        self.now += seconds;
        for (id, ending) in std::mem::take(&mut self.processing) {
            match ending {
                Ending::Done => self.take(&id, false),
                Ending::Declined => self.refuse(&id, "insufficient_funds"),
            }
        }
        for charge in &mut self.charges {
            charge["balance_transaction"] = charge["fee_comes"].clone();
        }
        let overdue =
            |i: &&Value| i["status"] == "requires_capture" && int(&i["created"]) + self.authorised <= self.now;
        let dead: Vec<String> =
            self.intents.iter().filter(overdue).map(|i| i["id"].as_str().unwrap().to_owned()).collect();
        dead.iter().for_each(|id| self.expire(id));
    }

    /// An authorisation dies.
    pub fn expire(&mut self, id: &str) {
        let intent = self.intent(id);
        intent["status"] = "canceled".into();
        intent["amount_capturable"] = 0.into();
        intent["cancellation_reason"] = "automatic".into();
        let charge = intent["latest_charge"].as_str().unwrap().to_owned();
        self.happened("payment_intent.canceled", id);
        self.charge(&charge)["refunded"] = true.into();
        self.happened("charge.expired", &charge);
    }

    /// The payer of a payment that waits does what it is asked for.
    pub fn confirm(&mut self, secret: &str) {
        let waits =
            self.intents.iter().find(|i| i["client_secret"] == *secret && i["status"] == "requires_payment_method");
        if let Some(id) = waits.map(|i| i["id"].as_str().unwrap().to_owned()) {
            self.take(&id, false);
        }
    }

    pub fn customer(&mut self) -> String {
        let (_, customer) = self.post("/v1/customers", &Params::new(), None);
        customer["id"].as_str().unwrap().into()
    }

    pub fn card(&mut self, customer: &str) -> String {
        let id = self.id("pm");
        self.cards.push(json!({
            "id": id, "object": "payment_method", "billing_details": {}, "created": self.now, "customer": customer,
            "livemode": false, "metadata": {}, "type": "card",
            "card": { "brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2031, "funding": "credit" },
        }));
        id
    }

    /// Somebody detaches every card in the dashboard.
    pub fn detach_all(&mut self) {
        self.cards.iter_mut().for_each(|card| card["customer"] = Value::Null);
    }

    /// An account as the rail makes it for an agent, with onboarding finished.
    pub fn account(&mut self, agent: Uuid) -> String {
        let params = [("metadata[tradepost_agent]".into(), agent.to_string())].into();
        let (_, account) = self.post("/v1/accounts", &params, None);
        let id: String = account["id"].as_str().unwrap().into();
        self.onboard(&id);
        id
    }

    /// Onboarding is finished.
    pub fn onboard(&mut self, id: &str) {
        let account = self.accounts.iter_mut().find(|a| a["id"] == *id).unwrap();
        account["capabilities"]["transfers"] = "active".into();
        for flag in ["charges_enabled", "payouts_enabled", "details_submitted"] {
            account[flag] = true.into();
        }
        self.account_updated(id);
    }

    /// Stripe stops an account.
    pub fn close(&mut self, id: &str) {
        let account = self.accounts.iter_mut().find(|a| a["id"] == *id).unwrap();
        account["capabilities"]["transfers"] = "inactive".into();
        account["payouts_enabled"] = false.into();
        self.account_updated(id);
    }

    fn account_updated(&mut self, id: &str) {
        let account = self.accounts.iter().find(|a| a["id"] == *id).unwrap().clone();
        let mut event = self.event("account.updated", account);
        event["account"] = id.into();
        self.account_events.push(event);
    }

    pub fn intent(&mut self, id: &str) -> &mut Value {
        self.intents.iter_mut().find(|i| i["id"] == *id).unwrap()
    }

    pub fn charge(&mut self, id: &str) -> &mut Value {
        self.charges.iter_mut().find(|c| c["id"] == *id).unwrap()
    }

    fn happened(&mut self, type_: &str, id: &str) {
        let object = match type_.split('.').nth(1) {
            Some("dispute") => self.disputes.iter().find(|d| d["id"] == *id).unwrap().clone(),
            _ if type_.starts_with("charge") => self.charge(id).clone(),
            _ => self.intent(id).clone(),
        };
        self.tell(type_, object);
    }

    /// Writes an event about an object.
    pub fn tell(&mut self, type_: &str, object: Value) {
        let event = self.event(type_, object);
        self.events.push(event);
    }

    fn event(&mut self, type_: &str, object: Value) -> Value {
        json!({
            "id": self.id("evt"), "object": "event", "api_version": null, "created": self.now, "type": type_,
            "data": { "object": object }, "livemode": false, "pending_webhooks": 1, "request": null,
        })
    }

    // ── how answers look ─────────────────────────────────────────────────────────────────────

    fn list(&self, kind: &str) -> Option<&Vec<Value>> {
        Some(match kind {
            "payment_intents" => &self.intents,
            "charges" => &self.charges,
            "customers" => &self.customers,
            "accounts" => &self.accounts,
            "transfers" => &self.transfers,
            "refunds" => &self.refunds,
            "disputes" => &self.disputes,
            _ => return None,
        })
    }

    fn update(&mut self, kind: &str, id: &str, params: &Params) -> Answer {
        let list = match kind {
            "charges" => &mut self.charges,
            "transfers" => &mut self.transfers,
            _ => &mut self.customers,
        };
        let Some(object) = list.iter_mut().find(|o| o["id"] == *id) else { return missing("id") };
        merge(&mut object["metadata"], nested(params, "metadata"));
        if let Some(card) = params.get("invoice_settings[default_payment_method]") {
            object["invoice_settings"]["default_payment_method"] = card.clone().into();
        }
        (200, object.clone())
    }

    /// Newest first, as Stripe lists.
    fn page(&self, mut found: Vec<Value>, path: &str, params: &Params) -> Answer {
        found.reverse();
        let limit = params.get("limit").and_then(|l| l.parse().ok()).unwrap_or(10usize);
        let place = |id: &String| found.iter().position(|o| o["id"] == **id);
        let (from, to, more) = if let Some(after) = params.get("starting_after") {
            let Some(at) = place(after) else { return missing("starting_after") };
            (at + 1, (at + 1 + limit).min(found.len()), at + 1 + limit < found.len())
        } else if let Some(before) = params.get("ending_before") {
            let Some(at) = place(before) else { return missing("ending_before") };
            (at.saturating_sub(limit), at, at > limit)
        } else {
            (0, limit.min(found.len()), limit < found.len())
        };
        let data: Vec<Value> = found[from..to].iter().map(|o| self.expanded(o.clone(), params, "data.")).collect();
        (200, json!({ "object": "list", "url": path, "data": data, "has_more": more }))
    }

    /// Puts objects in place of their names where the request asks for it.
    fn expanded(&self, mut object: Value, params: &Params, prefix: &str) -> Value {
        let asked = params.iter().filter(|(key, _)| key.starts_with("expand"));
        for (_, path) in asked {
            let Some(path) = path.strip_prefix(prefix) else { continue };
            let mut at = &mut object;
            for field in path.split('.') {
                if field == "refunds" {
                    let of = self.refunds.iter().filter(|r| r["charge"] == at["id"]).cloned().collect::<Vec<_>>();
                    at["refunds"] = json!({ "object": "list", "url": "/v1/refunds", "data": of, "has_more": false });
                }
                at = &mut at[field];
                let known = at.as_str().and_then(|id| {
                    let mut all = self.charges.iter().chain(&self.booked);
                    all.find(|o| o["id"] == *id).cloned()
                });
                if let Some(known) = known {
                    *at = known;
                }
                if field == "data" && !path.starts_with("data.") {
                    // Deeper inside a list that was put in place.
                    let rest = path.rsplit('.').next().unwrap_or_default();
                    for entry in at.as_array_mut().into_iter().flatten() {
                        let known = self.booked.iter().find(|b| b["id"] == entry[rest]).cloned();
                        entry[rest] = known.unwrap_or_default();
                    }
                    break;
                }
                if at.is_null() {
                    break;
                }
            }
        }
        object
    }
}

fn missing(param: &str) -> Answer {
    let mut body = error("invalid_request_error", Some("resource_missing"), "No such object");
    body["error"]["param"] = param.into();
    (404, body)
}

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn nested(params: &Params, name: &str) -> Value {
    let prefix = format!("{name}[");
    let inner = |key: &String| Some(key.strip_prefix(&prefix)?.strip_suffix(']')?.to_owned());
    let map: Map<String, Value> =
        params.iter().filter_map(|(key, value)| Some((inner(key)?, value.clone().into()))).collect();
    map.into()
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
