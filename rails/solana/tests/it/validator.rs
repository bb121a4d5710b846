//! A real validator, where one is on PATH: `solana-test-validator`. Without one these tests fail; the part of
//! the test command leaves them out. `SOLANA_RPC_URL` names another cluster that may be used instead.

use std::process::{Child, Command, Stdio};

use solana_client::nonblocking::rpc_client::RpcClient;
use tradepost::testkit::eventually;

pub struct Validator {
    url: String,
    process: Option<Child>,
    folder: Option<tempfile::TempDir>,
}

impl Validator {
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Validator {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        self.folder.take();
    }
}

/// A cluster that is no simulation.
pub async fn start() -> Validator {
    if let Ok(url) = std::env::var("SOLANA_RPC_URL") {
        return Validator { url, process: None, folder: None };
    }
    let folder = tempfile::tempdir().unwrap();
    let (rpc, gossip, faucet) = (ports(2), ports(40), ports(1));
    let started = Command::new("solana-test-validator")
        .args(["--reset", "--quiet", "--bind-address", "127.0.0.1", "--ledger"])
        .arg(folder.path())
        .args(["--rpc-port", &rpc.to_string(), "--faucet-port", &faucet.to_string()])
        .args(["--gossip-port", &gossip.to_string()])
        // Slots of 50 ms instead of 400: finality is 32 of them.
        .args(["--ticks-per-slot", "8"])
        // The kit reads from the first block on; unasked the validator forgets it after some thousand slots.
        .args(["--limit-ledger-size", "50000000"])
        .args(["--dynamic-port-range", &format!("{}-{}", gossip + 1, gossip + 39)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let process = match started {
        Ok(process) => process,
        Err(error) => panic!(
            "solana-test-validator is needed on PATH, or SOLANA_RPC_URL; without them run with `-- --skip on_a_validator`: {error}"
        ),
    };
    let url = format!("http://127.0.0.1:{rpc}");
    let validator = Validator { url: url.clone(), process: Some(process), folder: Some(folder) };
    let client = RpcClient::new(url);
    let answers = async || client.get_slot().await.ok().filter(|slot| *slot > 0);
    eventually(answers).await.expect("the validator answers");
    validator
}

/// The first of so many neighbouring ports that were free a moment ago.
fn ports(count: u16) -> u16 {
    for _ in 0..100 {
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let Some(last) = first.checked_add(count - 1) else { continue };
        let free = |port| {
            std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
                && std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok()
        };
        if (first..=last).all(free) {
            return first;
        }
    }
    panic!("there are no free ports");
}
