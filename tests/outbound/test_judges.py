"""Third-party code verifies what really arrives: `v1` by the libraries of the specification, `v1a` by libsodium."""

import json
import subprocess
from base64 import b64decode, b64encode
from pathlib import Path
from time import time_ns

import pytest
import standardwebhooks
import svix
from msgspec.structs import replace
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from hookbrook import verify
from hookbrook.core.endpoint import Retired

from .conftest import Arrived, Peer, Serve
from .rig import SECRET, VirtualTime, rig_on

NODE = Path(__file__).parents[1] / "node"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = '{"amount": 1E400, "name": "Zoë"}'
PRIVATE = SigningKey(bytes(range(32)))
DAY_US = 86_400_000_000


async def arrived(tmp_path: Path, serve: Serve, *, later_s: float = 0.0) -> Arrived:
    """A webhook of an endpoint that has both kinds of keys, both header names, and has just been rotated.

    With `later_s` it was rotated that long ago: the rig's clock begins at the real time, which the judges read.
    """
    requests: list[Arrived] = []

    async def receive(peer: Peer) -> None:
        requests.append(await peer.request())
        await peer.answer()

    now = time_ns() // 1000
    expires = now + DAY_US - round(later_s * 1_000_000)
    async with rig_on(tmp_path / "a.db", time=VirtualTime(now)) as rig:
        await rig.start()
        endpoint = await rig.endpoint(
            (await serve(receive)).url,
            secrets=(SECRET,),
            signatures=("v1", "v1a"),
            signing_key="whsk_" + b64encode(bytes(PRIVATE)).decode(),
            svix_headers=True,
        )
        await rig.change(replace(endpoint, retired=(Retired(key=OTHER, expires=expires),)))
        await rig.publish("evt_1", data=BODY.encode())
        await rig.settled()
    [request] = requests
    return request


def node_accepts(judge: str, secret: str, body: str, headers: dict[str, str]) -> bool:
    request = {"judge": judge, "do": "accepts", "secret": secret, "body": body, "headers": headers}
    done = subprocess.run(
        ["node", "judges.mjs"], cwd=NODE, input=json.dumps(request) + "\n", capture_output=True, text=True, check=True
    )
    return bool(json.loads(done.stdout)["accepted"])


async def test_the_libraries_of_the_specification_verify_with_the_new_secret_and_the_old(
    tmp_path: Path, serve: Serve
) -> None:
    request = await arrived(tmp_path, serve)
    headers = {name.lower(): value for name, value in request.headers}
    by_svix = {name: value for name, value in headers.items() if name.startswith("svix-")}
    assert set(by_svix) == {"svix-id", "svix-timestamp", "svix-signature"}
    for secret in (SECRET, OTHER):
        standardwebhooks.Webhook(secret).verify(request.body, headers)
        svix.Webhook(secret).verify(request.body, by_svix)
        assert node_accepts("standardwebhooks", secret, BODY, headers)
        assert node_accepts("svix", secret, BODY, by_svix)
    stranger = "whsec_" + b64encode(bytes(32)).decode()
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(stranger).verify(request.body, headers)
    with pytest.raises(svix.WebhookVerificationError):
        svix.Webhook(SECRET).verify(request.body + b" ", headers)
    for judge in ("standardwebhooks", "svix"):
        assert not node_accepts(judge, SECRET, BODY + " ", headers)
        assert not node_accepts(judge, stranger, BODY, headers)


async def test_the_old_secret_no_longer_verifies_once_the_overlap_is_over(tmp_path: Path, serve: Serve) -> None:
    request = await arrived(tmp_path, serve, later_s=86_401)
    headers = {name.lower(): value for name, value in request.headers}
    standardwebhooks.Webhook(SECRET).verify(request.body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(OTHER).verify(request.body, headers)


async def test_libsodium_verifies_the_ed25519_signature(tmp_path: Path, serve: Serve) -> None:
    request = await arrived(tmp_path, serve)
    signatures = [each.split(",") for each in (request.header("webhook-signature") or "").split()]
    [signature] = [b64decode(encoded) for version, encoded in signatures if version == "v1a"]
    signed = f"evt_1.{request.header('webhook-timestamp')}.".encode() + request.body
    PRIVATE.verify_key.verify(signed, signature)
    # Ours does as well, by either kind of key.
    headers = dict(request.headers)
    public = "whpk_" + b64encode(bytes(PRIVATE.verify_key)).decode()
    for key in (public, SECRET, OTHER):
        assert verify(key, headers, request.body).id == "evt_1"
    with pytest.raises(BadSignatureError):
        PRIVATE.verify_key.verify(signed + b" ", signature)
