"""Runs the quickstart as a user would: each ending, each policy, and killed half-way.

    quickstart.py PATH/TO/quickstart
"""

import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

QUICKSTART = sys.argv[1]
ROOT = Path(__file__).resolve().parent.parent
POLICIES = ROOT / "marketplace" / "policies"
JOB = json.loads((ROOT / "examples" / "quickstart.json").read_text())
BUYER, WORKER = f"wallet/{JOB['buyer']}/available", f"wallet/{JOB['worker']}/available"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [QUICKSTART, "--database", str(folder / "market.db"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def money(folder: Path) -> dict[str, int]:
    """What every limited account holds, read past the engine."""
    with sqlite3.connect(folder / "market.db") as database:
        return dict(database.execute("SELECT account, balance FROM accounts"))


def ends(end: str, status: str, buyer: int, worker: int, *arguments: str):
    def case(folder: Path) -> None:
        done = run(folder, "--end", end, *arguments)
        assert done.returncode == 0, done.stderr
        assert status in done.stdout and "Sum over all accounts: 0. Findings of verify(): 0." in done.stdout, done.stdout
        balances = money(folder)
        assert (balances[BUYER], balances.get(WORKER, 0)) == (buyer, worker), balances
        assert all(balance == 0 for account, balance in balances.items() if account.startswith("escrow/")), balances
        # Once more: there is nothing left to do, and nothing moves.
        again = run(folder, "--end", end, *arguments)
        assert again.returncode == 0 and money(folder) == balances, again.stdout + again.stderr

    case.__name__ = f"{end} {' '.join(Path(a).name for a in arguments)}".strip()
    return case


def killed_half_way(folder: Path) -> None:
    """Killed after each line it prints, then run again until it is through: the money is right all the same."""
    for lines in range(5):
        process = subprocess.Popen([QUICKSTART, "--database", str(folder / "market.db")], stdout=subprocess.PIPE)
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    ends("approve", "completed", 8000, 1800)(folder)


def killed_in_a_crowd(folder: Path) -> None:
    """Six at once carry the same job on in one file, and all are killed at work, again and again."""
    command = [QUICKSTART, "--database", str(folder / "market.db")]
    for lines in range(6):
        crowd = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(6)]
        for _ in range(lines):
            crowd[lines].stdout.readline()
        for process in crowd:
            process.kill()
            process.communicate()
    ends("approve", "completed", 8000, 1800)(folder)


def refuses(reason: str, *arguments: str):
    def case(folder: Path) -> None:
        done = run(folder, *arguments)
        assert done.returncode != 0 and reason in done.stderr and "panicked" not in done.stderr, done.stderr

    case.__name__ = f"refuses: {reason}"
    return case


def odd_files(folder: Path) -> dict[str, str]:
    """Bad job and policy files, each written where a case can name it."""
    unknown, poor, policy = folder / "unknown.json", folder / "poor.json", folder / "policy.toml"
    unknown.write_text(json.dumps(JOB | {"colour": "red"}))
    poor.write_text(json.dumps(JOB | {"wallet": "1.00"}))
    policy.write_text((POLICIES / "voxpact.toml").read_text().replace("max = 2,", "max = 2, colour = 1,"))
    return {"unknown": str(unknown), "poor": str(poor), "policy": str(policy)}


shared = Path(tempfile.mkdtemp(prefix="tradepost-quickstart-"))
odd = odd_files(shared)
credits_job = shared / "credits.json"
credits_job.write_text(json.dumps(JOB | {"wallet": "100", "order": JOB["order"] | {"amount": "20"}}))

CASES = [
    ends("approve", "completed", 8000, 1800),  # VP-21: silver, 10 %
    ends("auto-release", "completed", 8000, 1800),  # VP-20
    ends("cancel", "cancelled", 9500, 500),  # VP-23: a quarter once in progress
    ends("refund", "refunded", 10000, 0),
    ends("approve", "completed", 79_400_000, 20_000_000, "--policy", str(POLICIES / "justpayai.toml")),  # JP-10: 3 %
    ends("approve", "completed", 80, 18, "--policy", str(POLICIES / "agentmarket.toml"), "--job", str(credits_job)),  # AM-07
    killed_half_way,
    killed_in_a_crowd,
    refuses("unknown field `colour`", "--job", odd["unknown"]),
    refuses("jobs.revisions", "--policy", odd["policy"]),
    refuses("20.00 EUR is needed", "--job", odd["poor"]),
    refuses("cannot be read", "--job", str(shared / "nowhere.json")),
]

passed = 0
for case in CASES:
    try:
        case(Path(tempfile.mkdtemp(prefix="market-", dir=shared)))
        passed += 1
        print(f"ok   {case.__name__}")
    except (AssertionError, subprocess.TimeoutExpired, KeyError, sqlite3.Error) as error:
        print(f"FAIL {case.__name__}: {error!r}")
print(f"quickstart: {passed} passed, {len(CASES) - passed} failed")
sys.exit(passed != len(CASES))
