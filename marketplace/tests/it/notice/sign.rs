//! Signatures, against the independent `standardwebhooks` crate and against forgers. The Python package
//! of that name is asked by the part `webhooks` of the tests.

use std::collections::HashMap;

use chrono::TimeDelta;
use http::HeaderName;
use tradepost::{
    clock::{Clock, SystemClock, Timestamp},
    notice::{Unverified, Verifier, sign},
    policy::{SignatureStyle, Span},
    secret::Secret,
};

const OLD: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NEW: &str = "whsec_HxwdGhsYGRYXFBUSExARDg8MDQoLCAkGBwQFAgMAAQ8=";
const BODY: &str = r#"{"event":"job.created","title":"Übersetzen"}"#;

fn secrets(texts: &[&str]) -> Vec<Secret> {
    texts.iter().map(|text| Secret::new(*text)).collect()
}

fn styles() -> [SignatureStyle; 4] {
    let tolerance = Span::seconds(300);
    [
        SignatureStyle::Hex { header: "X-VoxPact-Signature".into() },
        SignatureStyle::PrefixedHex { header: "X-AgentMarket-Signature".into() },
        SignatureStyle::Timestamped { header: "X-Paegents-Signature".into(), tolerance },
        SignatureStyle::StandardWebhooks { tolerance },
    ]
}

fn now() -> Timestamp {
    "2026-04-02T12:00:00Z".parse().unwrap()
}

fn signed(style: &SignatureStyle, with: &[&str], at: Timestamp) -> HashMap<String, String> {
    let headers = sign(style, &secrets(with), "msg_1", at, BODY);
    headers.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect()
}

fn verify(
    style: &SignatureStyle,
    with: &[&str],
    headers: &HashMap<String, String>,
    body: &str,
    at: Timestamp,
) -> Result<tradepost::notice::Message, Unverified> {
    let header = |name: &str| headers.get(&name.to_lowercase()).map(String::as_str);
    Verifier::new(style.clone(), secrets(with)).verify(header, body, at)
}

/// The forms that the four systems publish, worked out apart with `openssl dgst -sha256 -hmac`.
#[test]
fn vp_37_am_10_jp_34_pg_13_headers_have_the_published_forms() {
    let [hex, prefixed, timestamped, _] = styles();
    let bare = signed(&hex, &[OLD], now())["x-voxpact-signature"].clone();
    assert_eq!(bare.len(), 64);
    assert_eq!(signed(&prefixed, &[OLD], now())["x-agentmarket-signature"], format!("sha256={bare}"));
    let stamped = signed(&timestamped, &[OLD], now())["x-paegents-signature"].clone();
    let (t, v1) = stamped.split_once(", v1=").unwrap();
    assert_eq!((t, v1.len()), ("t=1775131200", 64));
    assert_ne!(v1, bare);
}

#[test]
fn standard_webhooks_are_what_the_independent_crate_takes_and_makes() {
    let [.., style] = styles();
    let at = SystemClock.now();
    let headers = sign(&style, &secrets(&[NEW, OLD]), "msg_1", at, BODY);
    let map =
        headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect();
    for secret in [OLD, NEW] {
        let theirs = standardwebhooks::Webhook::new(secret).unwrap();
        theirs.verify(BODY.as_bytes(), &map).unwrap();
        let signature = theirs.sign("msg_1", at.timestamp(), BODY.as_bytes()).unwrap();
        let made = [
            ("webhook-id", "msg_1".into()),
            ("webhook-timestamp", at.timestamp().to_string()),
            ("webhook-signature", signature),
        ];
        let made = made.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        assert_eq!(verify(&style, &[secret], &made, BODY, at).unwrap().key, "msg_1");
    }
    let other = standardwebhooks::Webhook::new("whsec_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaA=").unwrap();
    assert!(other.verify(BODY.as_bytes(), &map).is_err());
}

/// A wrong secret, a changed body, a changed id or moment, another style's header, no header at all.
#[test]
fn pg_13_forged_signatures_are_refused() {
    for style in styles() {
        let headers = signed(&style, &[NEW], now());
        assert!(verify(&style, &[NEW], &headers, BODY, now()).is_ok(), "{style:?}");
        assert_eq!(verify(&style, &[OLD], &headers, BODY, now()), Err(Unverified::Forged), "{style:?}");
        assert_eq!(verify(&style, &[], &headers, BODY, now()), Err(Unverified::Forged), "{style:?}");
        assert_eq!(verify(&style, &[NEW], &headers, &BODY.replace("job", "jab"), now()), Err(Unverified::Forged));
        let none = HashMap::new();
        assert!(matches!(verify(&style, &[NEW], &none, BODY, now()), Err(Unverified::Header { .. })), "{style:?}");
        for (name, _) in headers.iter().filter(|(name, _)| *name != "webhook-id") {
            for garbage in ["", "=", "v1,", "t=,v1=", "t=99999999999999999999,v1=00", "sha256=zz", "v1,?? v1,", "\u{0}"]
            {
                let mut broken = headers.clone();
                broken.insert(name.clone(), garbage.into());
                assert!(verify(&style, &[NEW], &broken, BODY, now()).is_err(), "{style:?} {name} {garbage:?}");
            }
        }
    }
    let [.., style] = styles();
    for (name, value) in [("webhook-id", "msg_2"), ("webhook-timestamp", "1775131201")] {
        let mut headers = signed(&style, &[NEW], now());
        headers.insert(name.into(), value.into());
        assert_eq!(verify(&style, &[NEW], &headers, BODY, now()), Err(Unverified::Forged), "{name}");
    }
}

/// What was signed long ago, or in the future, is late; in time, a repetition has the first one's key,
/// whatever headers a replayer puts on it.
#[test]
fn pg_13_late_and_replayed_signatures_are_told() {
    for style in &styles()[2..] {
        let headers = signed(style, &[NEW], now());
        for apart in [TimeDelta::seconds(302), TimeDelta::seconds(-302)] {
            let late = verify(style, &[NEW], &headers, BODY, now() + apart);
            assert!(matches!(late, Err(Unverified::Late { .. })), "{late:?}");
        }
        assert_eq!(verify(style, &[NEW], &headers, BODY, now() + TimeDelta::seconds(299)).unwrap().at, Some(now()));
    }
    for style in styles() {
        let headers = signed(&style, &[NEW], now());
        let mut again = signed(&style, &[NEW], now() + TimeDelta::seconds(9));
        let first = verify(&style, &[NEW], &headers, BODY, now()).unwrap();
        assert_eq!(verify(&style, &[NEW], &again, BODY, now()).unwrap().key, first.key, "a retry, {style:?}");
        again.insert("webhook-id".into(), "msg_9".into());
        let renamed = verify(&style, &[NEW], &again, BODY, now());
        assert!(renamed.is_err() || renamed.unwrap().key == first.key, "{style:?}");
    }
}

/// While both secrets are valid, a receiver that knows either of them believes the delivery.
#[test]
fn pg_13_two_secrets_sign_at_once() {
    for style in styles() {
        let both = signed(&style, &[NEW, OLD], now());
        for known in [&[OLD][..], &[NEW], &[OLD, NEW]] {
            assert!(verify(&style, known, &both, BODY, now()).is_ok(), "{style:?} {known:?}");
        }
        assert_eq!(verify(&style, &[OLD], &signed(&style, &[NEW], now()), BODY, now()), Err(Unverified::Forged));
    }
}
