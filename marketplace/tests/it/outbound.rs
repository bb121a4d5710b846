//! Requests to strangers' URLs: what is refused, and what a receiver cannot do.

use std::{collections::VecDeque, io, net::IpAddr, sync::Mutex, time::Duration};

use async_trait::async_trait;
use tradepost::{
    outbound::{Answer, Extent, Names, Outbound, OutboundError, Post, Reach, RetryAfter},
    testkit::receiver::{Manner, Receiver},
};

const SECRET: &str = "sig-7f3a";

/// A resolver whose answer changes from one question to the next; the last one stays.
struct Script(Mutex<VecDeque<Vec<IpAddr>>>);

impl Script {
    fn of(answers: &[&[&str]]) -> Self {
        let parsed = answers.iter().map(|answer| answer.iter().map(|a| a.parse().unwrap()).collect());
        Self(Mutex::new(parsed.collect()))
    }
}

#[async_trait]
impl Names for Script {
    async fn addresses(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        let mut answers = self.0.lock().unwrap();
        Ok(match answers.len() {
            1 => answers[0].clone(),
            _ => answers.pop_front().unwrap(),
        })
    }
}

fn post(url: &str) -> Post<'_> {
    Post { url, headers: &[], body: b"{}".to_vec(), within: Duration::from_secs(5), keep: 16 }
}

async fn ask(manner: Manner, within: Duration) -> (Receiver, Result<Answer, OutboundError>) {
    let receiver = Receiver::start(move |_| manner.clone()).await.unwrap();
    let url = receiver.url("/hook?token=hush");
    let answer = Outbound::new(Reach::Anywhere).unwrap().post(Post { within, ..post(&url) }).await;
    (receiver, answer)
}

/// AM-10, VP-01: `https` only, and no address inside a private network, however it is written.
#[tokio::test]
async fn am_10_urls_to_private_places_are_refused() {
    let outbound = Outbound::new(Reach::Public).unwrap();
    let private = [
        "0.0.0.0",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:8.8.8.8]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[2002:7f00:1::]",
        "[2001:0:4136:e378::1]",
        "[2001:db8::1]",
    ];
    for host in private {
        let url = format!("https://{host}/hook");
        let refused = outbound.check(&url);
        assert!(matches!(refused, Err(OutboundError::OutOfReach { .. })), "{url}: {refused:?}");
        assert_eq!(outbound.post(post(&url)).await.unwrap_err(), refused.unwrap_err());
    }
    let long = format!("https://example.com/{}", "a".repeat(2048));
    for url in [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://",
        "example.com",
        "",
        "https://user:pass@example.com/",
        "https://user@example.com/",
        "javascript:alert(1)",
        &long,
    ] {
        let refused = outbound.check(url);
        assert!(matches!(refused, Err(OutboundError::Url { .. })), "{url}: {refused:?}");
    }
    for url in [
        "https://example.com/hook",
        "https://93.184.216.34:8443/",
        "https://[2606:2800::1]/",
        "https://[64:ff9b::808:808]/",
    ] {
        assert_eq!(outbound.check(url), Ok(()), "{url}");
    }
}

/// A name that has a private address is refused when it is connected to, not when it was checked.
#[tokio::test]
async fn vp_01_a_name_that_resolves_to_a_private_address_later_is_refused() {
    let receiver = Receiver::start(|_| Manner::Status(200)).await.unwrap();
    let url = format!("https://rebinding.example:{}/hook", receiver.address().port());
    for answers in
        [&[&["127.0.0.1"][..]][..], &[&["::ffff:127.0.0.1", "169.254.169.254"]], &[&["fe80::1", "10.1.2.3", "::1"]]]
    {
        let outbound = Outbound::with_names(Reach::Public, Script::of(answers)).unwrap();
        assert_eq!(outbound.check(&url), Ok(()));
        let refused = outbound.post(post(&url)).await;
        assert_eq!(refused, Err(OutboundError::OutOfReach { host: "rebinding.example".into() }), "{answers:?}");
    }
    assert!(receiver.received().is_empty());
}

/// Each new connection asks the resolver again, and of a mixed answer only public addresses are tried.
#[tokio::test]
async fn vp_01_the_address_connected_to_is_the_one_judged() {
    let receiver = Receiver::start(|_| Manner::Status(200)).await.unwrap();
    let url = format!("https://mixed.example:{}/hook", receiver.address().port());
    // A public address that nobody answers at, within the time given, and the receiver's own.
    let names = Script::of(&[&["127.0.0.1", "2001:4860:4860::8888"], &["127.0.0.1"]]);
    let outbound = Outbound::with_names(Reach::Public, names).unwrap();
    let within = Duration::from_millis(300);
    let first = outbound.post(Post { within, ..post(&url) }).await;
    assert!(matches!(first, Err(OutboundError::NotSent { .. } | OutboundError::TimedOut { .. })), "{first:?}");
    assert!(matches!(outbound.post(post(&url)).await, Err(OutboundError::OutOfReach { .. })));
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn vp_01_an_answer_is_an_answer_whatever_its_status() {
    let (receiver, answer) = ask(Manner::Status(503), Duration::from_secs(5)).await;
    let body = b"received".to_vec();
    assert_eq!(answer, Ok(Answer { status: 503, retry_after: None, body, extent: Extent::Whole }));
    assert_eq!(receiver.wait_for(1).await[0].body, "{}");
}

/// A redirect is an answer like any other; the place it names is not asked.
#[tokio::test]
async fn am_10_a_redirect_is_not_followed() {
    let target = Receiver::start(|_| Manner::Status(200)).await.unwrap();
    let (_receiver, answer) = ask(Manner::Redirect(target.url("/inside")), Duration::from_secs(5)).await;
    assert_eq!(answer.unwrap().status, 307);
    assert!(target.received().is_empty());
}

#[tokio::test]
async fn pg_13_of_a_huge_answer_only_the_beginning_is_read() {
    let (_receiver, answer) = ask(Manner::Huge, Duration::from_secs(5)).await;
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.body.len(), answer.extent), (200, 16, Extent::Cut));
}

#[tokio::test]
async fn vp_01_time_covers_a_hanging_answer_and_a_hanging_body() {
    let within = Duration::from_millis(200);
    let (_receiver, hung) = ask(Manner::Hang, within).await;
    assert_eq!(hung, Err(OutboundError::TimedOut { host: "127.0.0.1".into(), within }));
    let (_receiver, stalled) = ask(Manner::Stall, within).await;
    let stalled = stalled.unwrap();
    assert_eq!((stalled.status, stalled.extent), (200, Extent::Broken));
}

#[tokio::test]
async fn pg_13_retry_after_is_read_as_seconds_and_as_a_date() {
    for (text, expected) in [
        ("120", Some(RetryAfter::Seconds(120))),
        ("Fri, 31 Dec 1999 23:59:59 GMT", Some(RetryAfter::At("1999-12-31T23:59:59Z".parse().unwrap()))),
        ("soon", None),
        ("-1", None),
        ("99999999999999", None),
    ] {
        let (_receiver, answer) = ask(Manner::Later(429, text), Duration::from_secs(5)).await;
        assert_eq!(answer.unwrap().retry_after, expected, "{text}");
    }
}

/// What is secret (the URL's path and query, headers, the body) is in no error.
#[tokio::test]
async fn pg_13_errors_carry_no_secret() {
    let outbound = Outbound::new(Reach::Anywhere).unwrap();
    let (receiver, broken) = ask(Manner::Close, Duration::from_secs(5)).await;
    assert!(matches!(broken, Err(OutboundError::Broken { .. })), "{broken:?}");
    let nobody = receiver.url("/hook?token=hush");
    drop(receiver);
    let headers = [("x-signature", SECRET.to_owned())];
    let request = |url| Post { headers: &headers, body: SECRET.into(), ..post(url) };
    let mut errors = vec![broken];
    for url in [&nobody, "https://nobody.invalid/hook?token=hush", "gopher://example.com/hush"] {
        errors.push(outbound.post(request(url)).await);
    }
    let bad = [("x-signature", format!("{SECRET}\n"))];
    errors.push(outbound.post(Post { headers: &bad, ..post("http://127.0.0.1:1/hush") }).await);
    for error in errors.into_iter().map(Result::unwrap_err) {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hush") && !shown.contains(SECRET), "{shown}");
    }
}
