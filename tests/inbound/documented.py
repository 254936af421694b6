"""Webhooks signed by us after the providers' documentation, for judges that only verify."""

import base64
import hashlib
import json
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from hmac import digest

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.inbound.judge import URL, Sent

Sign = Callable[[str, str, int], Sent]


def hexmac(secret: str, message: str, hash_: str = "sha256") -> str:
    return digest(secret.encode(), message.encode(), hash_).hex()


def b64mac(secret: str, message: str, hash_: str = "sha256") -> str:
    return base64.b64encode(digest(secret.encode(), message.encode(), hash_)).decode()


def of_body(header: str, mac: Callable[[str, str], str] = hexmac, prefix: str = "") -> Sign:
    """The commonest scheme: one header with the HMAC of the body."""
    return lambda secret, body, _: Sent(headers={header: prefix + mac(secret, body)}, body=body)


def zoom(secret: str, body: str, sent_at: int) -> Sent:
    signature = hexmac(secret, f"v0:{sent_at}:{body}")
    return Sent(headers={"x-zm-signature": f"v0={signature}", "x-zm-request-timestamp": str(sent_at)}, body=body)


def standard(secret: str, body: str, sent_at: int, key: bytes | None = None) -> Sent:
    key = key or base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(digest(key, f"msg_1.{sent_at}.{body}".encode(), "sha256")).decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(sent_at), "webhook-signature": f"v1,{signature}"}
    return Sent(headers=headers, body=body)


def polar(secret: str, body: str, sent_at: int) -> Sent:
    return standard(secret, body, sent_at, secret.encode())


def paddle(secret: str, body: str, sent_at: int) -> Sent:
    return Sent(headers={"Paddle-Signature": f"ts={sent_at};h1={hexmac(secret, f'{sent_at}:{body}')}"}, body=body)


def mux(secret: str, body: str, sent_at: int) -> Sent:
    return Sent(headers={"Mux-Signature": f"t={sent_at},v1={hexmac(secret, f'{sent_at}.{body}')}"}, body=body)


def workos(secret: str, body: str, sent_at: int) -> Sent:
    time = sent_at * 1000
    return Sent(headers={"WorkOS-Signature": f"t={time}, v1={hexmac(secret, f'{time}.{body}')}"}, body=body)


def linear(secret: str, body: str, sent_at: int) -> Sent:
    body = json.dumps({**json.loads(body), "webhookTimestamp": sent_at * 1000})
    return Sent(headers={"Linear-Signature": hexmac(secret, body)}, body=body)


def pusher(secret: str, body: str, sent_at: int) -> Sent:
    body = json.dumps({**json.loads(body), "time_ms": sent_at * 1000})
    headers = {"X-Pusher-Key": "key", "X-Pusher-Signature": hexmac(secret, body), "Content-Type": "application/json"}
    return Sent(headers=headers, body=body)


def telegram(secret: str, body: str, _: int) -> Sent:
    return Sent(headers={"X-Telegram-Bot-Api-Secret-Token": secret}, body=body)


def box(secret: str, body: str, sent_at: int) -> Sent:
    time = datetime.fromtimestamp(sent_at, UTC).isoformat()
    headers = {
        "box-delivery-timestamp": time,
        "box-signature-version": "1",
        "box-signature-algorithm": "HmacSHA256",
        "box-signature-primary": b64mac(secret, body + time),
    }
    return Sent(headers=headers, body=body)


def box_secondary(secret: str, body: str, sent_at: int) -> Sent:
    """As it comes while the primary key has just been changed."""
    sent = box(secret, body, sent_at)
    primary = sent.headers["box-signature-primary"]
    stranger = b64mac("a key that was changed", body)
    return Sent(
        headers={**sent.headers, "box-signature-primary": stranger, "box-signature-secondary": primary}, body=body
    )


def square(secret: str, body: str, _: int) -> Sent:
    return Sent(headers={"x-square-hmacsha256-signature": b64mac(secret, URL + body)}, body=body)


def hubspot(secret: str, body: str, sent_at: int) -> Sent:
    time = str(sent_at * 1000)
    headers = {"X-HubSpot-Signature-v3": b64mac(secret, f"POST{URL}{body}{time}"), "X-HubSpot-Request-Timestamp": time}
    return Sent(headers=headers, body=body)


# Public keys: the private one is made from the text that the tests call the secret.


def ed25519_key(secret: str) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(secret.encode()).digest())


def ec_key(secret: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(secret.encode()).digest()[:31]), ec.SECP256R1())


def ed25519_public_hex(secret: str) -> str:
    return ed25519_key(secret).public_key().public_bytes_raw().hex()


def ed25519_public_base64(secret: str) -> str:
    return base64.b64encode(ed25519_key(secret).public_key().public_bytes_raw()).decode()


def ec_public_base64(secret: str) -> str:
    public = ec_key(secret).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(public).decode()


def discord(secret: str, body: str, sent_at: int) -> Sent:
    signature = ed25519_key(secret).sign(f"{sent_at}{body}".encode()).hex()
    return Sent(headers={"X-Signature-Ed25519": signature, "X-Signature-Timestamp": str(sent_at)}, body=body)


def telnyx(secret: str, body: str, sent_at: int) -> Sent:
    signature = base64.b64encode(ed25519_key(secret).sign(f"{sent_at}|{body}".encode())).decode()
    return Sent(headers={"telnyx-signature-ed25519": signature, "telnyx-timestamp": str(sent_at)}, body=body)


def sendgrid(secret: str, body: str, sent_at: int) -> Sent:
    signature = ec_key(secret).sign(f"{sent_at}{body}".encode(), ec.ECDSA(SHA256()))
    headers = {
        "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
        "X-Twilio-Email-Event-Webhook-Timestamp": str(sent_at),
    }
    return Sent(headers=headers, body=body)


# Tokens with the hash of the body.


def messagebird(secret: str, body: str, sent_at: int) -> Sent:
    claims = {
        "iss": "MessageBird",
        "nbf": sent_at,
        "exp": sent_at + 60,
        "jti": "0191c5a3-0000-7000-8000-000000000001",
        "url_hash": hashlib.sha256(URL.encode()).hexdigest(),
        "payload_hash": hashlib.sha256(body.encode()).hexdigest(),
    }
    return Sent(headers={"MessageBird-Signature-JWT": jwt.encode(claims, secret, "HS256")}, body=body)


def vonage(secret: str, body: str, sent_at: int) -> Sent:
    payload = hashlib.sha256(body.encode()).hexdigest()
    claims = {"iss": "Vonage", "iat": sent_at, "jti": "0191c5a3", "payload_hash": payload, "api_key": "a1b2c3d"}
    return Sent(headers={"Authorization": f"Bearer {jwt.encode(claims, secret, 'HS256')}"}, body=body)


def qstash(secret: str, body: str, sent_at: int) -> Sent:
    claims = {
        "iss": "Upstash",
        "sub": URL,
        "nbf": sent_at,
        "iat": sent_at,
        "exp": sent_at + 300,
        "jti": "jwt_1",
        "body": base64.urlsafe_b64encode(hashlib.sha256(body.encode()).digest()).decode(),
    }
    return Sent(headers={"Upstash-Signature": jwt.encode(claims, secret, "HS256")}, body=body)


# PayPal: one key signs for all, and the secret is the webhook's id.

PAYPAL_KEY = "PayPal"
PAYPAL_CERTIFICATE_URL = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77"


def paypal(secret: str, body: str, sent_at: int, key: str = PAYPAL_KEY) -> Sent:
    id_ = "d938e770-8046-11e6-8103-6b62a8a99ac4"
    time = datetime.fromtimestamp(sent_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    signed = f"{id_}|{time}|{secret}|{zlib.crc32(body.encode())}".encode()
    headers = {
        "PAYPAL-TRANSMISSION-ID": id_,
        "PAYPAL-TRANSMISSION-TIME": time,
        "PAYPAL-TRANSMISSION-SIG": base64.b64encode(rsa_key(key).sign(signed, padding.PKCS1v15(), SHA256())).decode(),
        "PAYPAL-CERT-URL": PAYPAL_CERTIFICATE_URL,
        "PAYPAL-AUTH-ALGO": "SHA256withRSA",
    }
    return Sent(headers=headers, body=body)


# Amazon SNS: the certificate stands for the key, and a topic for the secret.

TOPIC = "arn:aws:sns:us-east-1:123456789012:orders"
SNS_CERTIFICATE_URL = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"


@cache
def rsa_key(secret: str) -> rsa.RSAPrivateKey:
    """A key for each text, the same within one run."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def certificate(secret: str) -> bytes:
    """PEM of a self-signed certificate for `localhost`, by which the judge's fetch can be served too."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(rsa_key(secret).public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(rsa_key(secret), SHA256())
    )
    return made.public_bytes(Encoding.PEM)


def private_pem(secret: str) -> str:
    return rsa_key(secret).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def sns(secret: str, body: str, sent_at: int, version: str = "2", **more: str) -> Sent:
    message = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Subject": "An order",
        "Message": body,
        "Timestamp": datetime.fromtimestamp(sent_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "SignatureVersion": version,
        "SigningCertURL": SNS_CERTIFICATE_URL,
        **more,
    }
    if "SubscribeURL" in message:
        del message["Subject"]  # what is about the subscription itself has none
    names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    signed = "".join(f"{name}\n{message[name]}\n" for name in names if name in message).encode()
    hash_ = SHA256() if version == "2" else SHA1()
    message["Signature"] = base64.b64encode(rsa_key(secret).sign(signed, padding.PKCS1v15(), hash_)).decode()
    return Sent(headers={"Content-Type": "text/plain; charset=UTF-8"}, body=json.dumps(message))


def sns_version_1(secret: str, body: str, sent_at: int) -> Sent:
    return sns(secret, body, sent_at, "1")
