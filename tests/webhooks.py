"""Compares the library's webhook signatures with those of the package `standardwebhooks`, both ways.

The only argument is the program of tests/webhooks. Its last line of output counts what was compared.
"""

import json
import subprocess
import sys
from datetime import datetime, timezone

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

program = sys.argv[1]
passed = failed = 0


def check(what: str, holds: bool) -> None:
    global passed, failed
    if holds:
        passed += 1
    else:
        failed += 1
        print(f"not so: {what}")


def takes(secret: str, body: str, headers: dict[str, str]) -> bool:
    try:
        Webhook(secret).verify(body.encode(), headers)
    except WebhookVerificationError:
        return False
    except json.JSONDecodeError:
        return True  # the signature held; the package then wants JSON
    return True


signed = subprocess.run([program, "sign"], check=True, capture_output=True, text=True).stdout.splitlines()
lines = [json.loads(line) for line in signed]
secrets = sorted({secret for line in lines for secret in line["secrets"]})
for line in lines:
    for secret in secrets:
        known = secret in line["secrets"]
        check(f"{secret} takes {line}: {known}", takes(secret, line["body"], line["headers"]) == known)
    forged = line["body"] + " "
    check(f"a changed body is refused: {line}", not takes(line["secrets"][0], forged, line["headers"]))

ours = []
for secret in secrets:
    for number, body in enumerate(sorted({line["body"] for line in lines})):
        now, name = datetime.now(timezone.utc), f"msg_py_{number}"
        headers = {
            "webhook-id": name,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(name, now, body),
        }
        ours.append(json.dumps({"secret": secret, "headers": headers, "body": body}))
answer = subprocess.run([program, "verify"], input="\n".join(ours) + "\n", capture_output=True, text=True)
check(f"the library takes what Python signed: {answer.stderr}", answer.stdout == f"{len(ours)} verified\n")

print(f"webhooks: {passed} passed, {failed} failed")
sys.exit(failed > 0)
