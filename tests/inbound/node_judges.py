"""Judges from npm: `tests/node/judges.mjs`, one process that is asked line by line."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.inbound import documented
from tests.inbound.judge import BODY, SECRET, URL, Judge, Sent, changed_header, only_without, without_member

FOLDER = Path(__file__).parents[1] / "node"


class Node:
    """The process, started at the first question."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, judge: str, do: str, **request: Any) -> dict[str, Any]:
        if self._process is None:
            self._process = _start()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"judge": judge, "do": do, "url": URL, **request}) + "\n")
        self._process.stdin.flush()
        reply: dict[str, Any] = json.loads(self._process.stdout.readline())
        return reply

    def stop(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        with self._process:
            assert self._process.wait(timeout=30) == 0
        self._process = None


def _start() -> "subprocess.Popen[str]":
    if not (FOLDER / "node_modules").is_dir():
        raise AssertionError("the judges are not installed: run `npm ci` in tests/node")
    return subprocess.Popen(
        ["node", "judges.mjs"],
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@contextmanager
def running() -> Iterator[Node]:
    node = Node()
    try:
        yield node
    finally:
        node.stop()


MANDRILL_BODY = urlencode({"mandrill_events": '[{"event":"send","_id":"m1","ts":1795000000,"amount":1250,"x":"é &"}]'})

#: By the name in judges.mjs.
NODE_JUDGES: dict[str, dict[str, Any]] = {
    "octokit": {"provider": "github", "package": "@octokit/webhooks-methods"},
    "stripe": {"provider": "stripe", "package": "stripe", "stale_s": 400},
    "standardwebhooks": {"provider": "standard-webhooks", "package": "standardwebhooks", "stale_s": 400},
    "rivet": {
        "provider": "zoom",
        "package": "@zoom/rivet",
        "sign": documented.zoom,
        "stale_s": 400,
        "laxer": {"stale time": "checks no time"},
    },
    "discord": {
        "provider": "discord",
        "package": "discord-interactions",
        "sign": documented.discord,
        "held": documented.ed25519_public_hex,
        "stale_s": 1_000,
        "laxer": {"stale time": "checks no time"},
    },
    "sendgrid": {
        "provider": "sendgrid",
        "package": "@sendgrid/eventwebhook",
        "sign": documented.sendgrid,
        "held": documented.ec_public_base64,
        "stale_s": 100_000,
        "laxer": {"stale time": "checks no time"},
    },
    "line": {
        "provider": "line",
        "package": "@line/bot-sdk",
        "sign": documented.of_body("x-line-signature", documented.b64mac),
    },
    "sanity": {
        "provider": "sanity",
        "package": "@sanity/webhook",
        "stale_s": 4_000,
        "laxer": {"stale time": "checks no age"},
    },
    "qstash": {"provider": "qstash", "package": "@upstash/qstash", "sign": documented.qstash, "stale_s": 1_000},
    "whatsapp": {
        "provider": "meta",
        "package": "whatsapp-api-js",
        # Meta escapes what is not ASCII, and signs what it sends.
        "body": BODY.replace("ë", "\\u00eb"),
        "sign": documented.of_body("X-Hub-Signature-256", prefix="sha256="),
    },
    "linear": {"provider": "linear", "package": "@linear/sdk", "sign": documented.linear, "stale_s": 90},
    "livekit": {"provider": "livekit", "package": "livekit-server-sdk", "stale_s": 1_000},
    "mux": {"provider": "mux", "package": "@mux/mux-node", "sign": documented.mux, "stale_s": 400},
    "pusher": {
        "provider": "pusher",
        "package": "pusher",
        "sign": documented.pusher,
        "stale_s": 1_000,
        "laxer": {"stale time": "checks no time"},
        "without": only_without("X-Pusher-Signature"),
    },
    "grammy": {
        "provider": "telegram",
        "package": "grammy",
        "sign": documented.telegram,
        "body": '{"update_id":7,"callback":{"id":"1"}}',
        "changed": changed_header("X-Telegram-Bot-Api-Secret-Token"),
    },
    "replicate": {
        "provider": "replicate",
        "package": "replicate",
        "sign": documented.standard,
        "stale_s": 400,
        "laxer": {"stale time": "checks no time"},
    },
    "mandrill": {"provider": "mandrill", "package": "mandrill-webhook-validator", "body": MANDRILL_BODY},
    "workos": {"provider": "workos", "package": "@workos-inc/node", "sign": documented.workos, "stale_s": 400},
    "sns": {
        "provider": "amazon-sns",
        "package": "sns-validator",
        "sign": documented.sns,
        "held": lambda _: documented.TOPIC,
        "stale_s": 8_000,
        "laxer": {"stale time": "checks no time"},
        "without": without_member("Signature"),
    },
    "sns-1": {
        "provider": "amazon-sns",
        "package": "sns-validator",
        "sign": documented.sns_version_1,
        "held": lambda _: documented.TOPIC,
        "stale_s": 8_000,
        "laxer": {"stale time": "checks no time"},
        "without": without_member("Signature"),
    },
    "shopify": {
        "provider": "shopify",
        "package": "@hookflo/tern",
        "sign": documented.of_body("X-Shopify-Hmac-Sha256", documented.b64mac),
    },
    "lemonsqueezy": {
        "provider": "lemon-squeezy",
        "package": "@hookflo/tern",
        "sign": documented.of_body("X-Signature"),
    },
    "woocommerce": {
        "provider": "woocommerce",
        "package": "@hookflo/tern",
        "sign": documented.of_body("X-WC-Webhook-Signature", documented.b64mac),
    },
    "doppler": {
        "provider": "doppler",
        "package": "@hookflo/tern",
        "sign": documented.of_body("X-Doppler-Signature", prefix="sha256="),
    },
    "sentry": {
        "provider": "sentry",
        "package": "@hookflo/tern",
        "sign": documented.of_body("Sentry-Hook-Signature"),
    },
    "paddle": {"provider": "paddle", "package": "@hookflo/tern", "sign": documented.paddle, "stale_s": 400},
    "polar": {"provider": "polar", "package": "@hookflo/tern", "sign": documented.polar, "stale_s": 400},
}


def node_judge(node: Node, key: str) -> Judge:
    facts = dict(NODE_JUDGES[key])
    name = f"{facts.pop('package')} (npm)"
    held = facts.get("held", str)
    if facts["provider"] == "amazon-sns":
        facts["certificate"] = documented.certificate(SECRET)
        name += ", version 1" if key == "sns-1" else ", version 2"
        # The judge fetches the certificate itself: from a server of its own, by this certificate.
        private = documented.private_pem(SECRET)
        held = lambda secret: json.dumps({"cert": documented.certificate(secret).decode(), "key": private})  # noqa: E731

    def sign(secret: str, body: str, sent_at: int) -> Sent:
        headers = node.ask(key, "sign", secret=secret, body=body, time=sent_at, id="msg_1")["headers"]
        return Sent(headers=headers, body=body)

    def accepts(secret: str, sent: Sent) -> bool:
        shown = {"secret": held(secret), "body": sent.body, "headers": dict(sent.headers)}
        return bool(node.ask(key.removesuffix("-1"), "accepts", **shown)["accepted"])

    facts.setdefault("sign", sign)
    return Judge(name=name, accepts=accepts, **facts)
