"""Judges from PyPI. Each import stands in the function that needs it: some take a second, and most tests need few."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode

from tests.inbound import documented
from tests.inbound.judge import BODY, URL, Judge, Sent, changed_header, only_without

ID = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"


def _stripe_signs(secret: str, body: str, sent_at: int) -> Sent:
    import stripe

    header = stripe.WebhookSignature.generate_signature_header(body, secret, sent_at)
    return Sent(headers={"Stripe-Signature": header}, body=body)


def _stripe(secret: str, sent: Sent) -> bool:
    import stripe

    return bool(stripe.WebhookSignature.verify_header(sent.body, sent.headers.get("Stripe-Signature"), secret, 300))


def _slack_signs(secret: str, body: str, sent_at: int) -> Sent:
    from slack_sdk.signature import SignatureVerifier

    signature = SignatureVerifier(secret).generate_signature(timestamp=str(sent_at), body=body)
    assert signature is not None
    return Sent(headers={"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": str(sent_at)}, body=body)


def _slack(secret: str, sent: Sent) -> bool:
    from slack_sdk.signature import SignatureVerifier

    return SignatureVerifier(secret).is_valid_request(sent.body, dict(sent.headers))


def _standard_signs(secret: str, body: str, sent_at: int) -> Sent:
    import standardwebhooks

    signature = standardwebhooks.Webhook(secret).sign(ID, datetime.fromtimestamp(sent_at, UTC), body)
    headers = {"webhook-id": ID, "webhook-timestamp": str(sent_at), "webhook-signature": signature}
    return Sent(headers=headers, body=body)


def _standard(secret: str, sent: Sent) -> bool:
    import standardwebhooks

    standardwebhooks.Webhook(secret).verify(sent.body, dict(sent.headers))
    return True


def _svix_signs(secret: str, body: str, sent_at: int) -> Sent:
    import svix

    signature = svix.Webhook(secret).sign(ID, datetime.fromtimestamp(sent_at, UTC), body)
    return Sent(headers={"svix-id": ID, "svix-timestamp": str(sent_at), "svix-signature": signature}, body=body)


def _svix(secret: str, sent: Sent) -> bool:
    import svix

    svix.Webhook(secret).verify(sent.body, dict(sent.headers))
    return True


def _adyen_signs(secret: str, body: str, _: int) -> Sent:
    from Adyen.util import generate_notification_sig

    notification = json.loads(body)
    item = notification["notificationItems"][0]["NotificationRequestItem"]
    item["additionalData"] = {"hmacSignature": generate_notification_sig(item, secret).decode()}
    return Sent(body=json.dumps(notification))


def _adyen(secret: str, sent: Sent) -> bool:
    from Adyen.util import is_valid_hmac_notification

    return bool(is_valid_hmac_notification(json.loads(sent.body), secret))


def _adyen_without(sent: Sent) -> list[Sent]:
    notification = json.loads(sent.body)
    del notification["notificationItems"][0]["NotificationRequestItem"]["additionalData"]
    return [replace(sent, body=json.dumps(notification))]


def _adyen_platform_signs(secret: str, body: str, _: int) -> Sent:
    from Adyen.util import generate_payload_sig

    return Sent(headers={"HmacSignature": generate_payload_sig(body.encode(), secret).decode()}, body=body)


def _adyen_platform(secret: str, sent: Sent) -> bool:
    from Adyen.util import is_valid_hmac_payload

    return bool(is_valid_hmac_payload(sent.headers["HmacSignature"], secret, sent.body.encode()))


def _box(secret: str, sent: Sent) -> bool:
    from box_sdk_gen.managers.webhooks import WebhooksManager

    return WebhooksManager.validate_message(sent.body, dict(sent.headers), secret, secondary_key=secret)


def _messagebird(secret: str, sent: Sent) -> bool:
    from messagebird.request_validator import RequestValidator

    signature = sent.headers.get("MessageBird-Signature-JWT", "")
    return bool(RequestValidator(secret).validate_signature(signature, sent.url, sent.body.encode()))


def _razorpay(secret: str, sent: Sent) -> bool:
    import razorpay

    signature = sent.headers["X-Razorpay-Signature"]
    return bool(razorpay.Utility(razorpay.Client()).verify_webhook_signature(sent.body, signature, secret))


def _gocardless(secret: str, sent: Sent) -> bool:
    from gocardless_pro import webhooks

    return bool(webhooks.parse(sent.body, secret, sent.headers["Webhook-Signature"]))


def _easypost(secret: str, sent: Sent) -> bool:
    from easypost.util import validate_webhook

    return bool(validate_webhook(sent.body.encode(), dict(sent.headers), secret))


def _coinbase(secret: str, sent: Sent) -> bool:
    from coinbase_commerce.webhook import Webhook

    return bool(Webhook.construct_event(sent.body, sent.headers["X-CC-Webhook-Signature"], secret))


def _gitlab_shows(secret: str, body: str, _: int) -> Sent:
    headers = {"X-Gitlab-Token": secret, "X-Gitlab-Event": "Push Hook", "Content-Type": "application/json"}
    return Sent(headers=headers, body=body)


def _gitlab(secret: str, sent: Sent) -> bool:
    from gidgetlab.sansio import Event

    headers = {name.lower(): value for name, value in sent.headers.items()}
    return bool(Event.from_http(headers, sent.body.encode(), secret=secret))


def _twilio_signs_form(secret: str, body: str, _: int) -> Sent:
    from twilio.request_validator import RequestValidator

    fields = {name: str(value) for name, value in json.loads(body).items()} | {"Body": "a & b=c", "Blank": ""}
    signature = RequestValidator(secret).compute_signature(URL, fields)
    headers = {"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded"}
    return Sent(headers=headers, body=urlencode(fields))


def _twilio_form(secret: str, sent: Sent) -> bool:
    from twilio.request_validator import RequestValidator

    fields = dict(parse_qsl(sent.body, keep_blank_values=True))
    return bool(RequestValidator(secret).validate(sent.url, fields, sent.headers["X-Twilio-Signature"]))


def _twilio_signs_json(secret: str, body: str, _: int) -> Sent:
    from twilio.request_validator import RequestValidator

    url = f"{URL}?bodySHA256={hashlib.sha256(body.encode()).hexdigest()}"
    signature = RequestValidator(secret).compute_signature(url, {})
    return Sent(headers={"X-Twilio-Signature": signature, "Content-Type": "application/json"}, body=body, url=url)


def _twilio_json(secret: str, sent: Sent) -> bool:
    from twilio.request_validator import RequestValidator

    return bool(RequestValidator(secret).validate(sent.url, sent.body, sent.headers["X-Twilio-Signature"]))


def _square(secret: str, sent: Sent) -> bool:
    from square.utils.webhooks_helper import verify_signature

    return verify_signature(
        request_body=sent.body,
        signature_header=sent.headers["x-square-hmacsha256-signature"],
        signature_key=secret,
        notification_url=sent.url,
    )


def _hubspot(secret: str, sent: Sent) -> bool:
    from hubspot.utils.signature import Signature

    return bool(
        Signature.is_valid(
            signature=sent.headers["X-HubSpot-Signature-v3"],
            client_secret=secret,
            request_body=sent.body,
            http_uri=sent.url,
            http_method="POST",
            signature_version="v3",
            timestamp=sent.headers["X-HubSpot-Request-Timestamp"],
        )
    )


def _vonage(secret: str, sent: Sent) -> bool:
    from vonage_jwt.verify_jwt import verify_signature

    return bool(verify_signature(sent.headers["Authorization"].removeprefix("Bearer "), secret))


def _telnyx(secret: str, sent: Sent) -> bool:
    import telnyx
    from telnyx.webhook import WebhookSignature

    telnyx.public_key = documented.ed25519_public_base64(secret)
    headers = sent.headers
    signature, timestamp = headers["telnyx-signature-ed25519"], headers["telnyx-timestamp"]
    return bool(WebhookSignature.verify(sent.body, signature, timestamp, 300))


def _stream(secret: str, sent: Sent) -> bool:
    from stream_chat import StreamChat

    return StreamChat("key", secret).verify_webhook(sent.body.encode(), sent.headers["X-Signature"])


def _paypal(secret: str, sent: Sent) -> bool:
    """It wants Django's settings, and asks for the certificate by httpx; both are given to it here."""
    import django
    import httpx
    from django.conf import settings
    from django.http import HttpRequest

    if not settings.configured:
        settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "paypal_checkout"], LOGGING_CONFIG=None)
        django.setup()
    from paypal_checkout.config import PayPalConfig
    from paypal_checkout.webhooks.verify import signature_headers, verify_offline

    request = HttpRequest()
    request.META = {f"HTTP_{name.replace('-', '_')}": value for name, value in sent.headers.items()}
    pem = documented.certificate(documented.PAYPAL_KEY)
    return bool(
        verify_offline(
            config=PayPalConfig(client_id="a", client_secret="b", webhook_id=secret),
            headers=signature_headers(request),
            body=sent.body.encode(),
            transport=httpx.MockTransport(lambda _: httpx.Response(200, content=pem)),
        )
    )


ADYEN_BODY = json.dumps(
    {
        "live": "false",
        "notificationItems": [
            {
                "NotificationRequestItem": {
                    "pspReference": "7914073381342284",
                    "merchantAccountCode": "Shop",
                    "merchantReference": "TestPayment-1407325143704",
                    "amount": {"value": 1250, "currency": "EUR"},
                    "eventCode": "AUTHORISATION",
                    "success": "true",
                }
            }
        ],
    }
)
HEX_SECRETS = (hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"another").hexdigest())
GOCARDLESS_BODY = '{"events":[{"id":"EV1","resource_type":"payments","action":"paid_out","amount":1250}]}'
COINBASE_BODY = '{"event":{"id":"e1","type":"charge:created","data":{"amount":1250}}}'

PYTHON_JUDGES = [
    Judge(provider="stripe", name="stripe (PyPI)", sign=_stripe_signs, accepts=_stripe, stale_s=400),
    Judge(provider="slack", name="slack_sdk (PyPI)", sign=_slack_signs, accepts=_slack, stale_s=400),
    Judge(
        provider="standard-webhooks",
        name="standardwebhooks (PyPI)",
        sign=_standard_signs,
        accepts=_standard,
        stale_s=400,
    ),
    Judge(provider="svix", name="svix (PyPI)", sign=_svix_signs, accepts=_svix, stale_s=400),
    Judge(provider="resend", name="svix (PyPI), the same scheme", sign=_svix_signs, accepts=_svix, stale_s=400),
    Judge(provider="clerk", name="svix (PyPI), the same scheme", sign=_svix_signs, accepts=_svix, stale_s=400),
    *(
        Judge(
            provider=provider,
            name="standardwebhooks (PyPI), the same scheme",
            sign=_standard_signs,
            accepts=_standard,
            stale_s=400,
        )
        for provider in ("openai", "gitlab-signed")
    ),
    Judge(
        provider="adyen",
        name="adyen (PyPI)",
        sign=_adyen_signs,
        accepts=_adyen,
        body=ADYEN_BODY,
        secrets=HEX_SECRETS,
        without=_adyen_without,
    ),
    Judge(
        provider="adyen-platform",
        name="adyen (PyPI)",
        sign=_adyen_platform_signs,
        accepts=_adyen_platform,
        secrets=HEX_SECRETS,
    ),
    Judge(
        provider="box",
        name="boxsdk (PyPI)",
        sign=documented.box,
        accepts=_box,
        stale_s=700,
        without=only_without("box-signature-primary", "box-delivery-timestamp"),
    ),
    Judge(
        provider="box",
        name="boxsdk (PyPI), second key",
        sign=documented.box_secondary,
        accepts=_box,
        stale_s=700,
        without=only_without("box-delivery-timestamp"),
    ),
    Judge(
        provider="messagebird",
        name="messagebird (PyPI)",
        sign=documented.messagebird,
        accepts=_messagebird,
        stale_s=400,
    ),
    Judge(
        provider="paypal",
        name="dj-paypal-checkout (PyPI)",
        sign=documented.paypal,
        accepts=_paypal,
        secrets=("9XL90610J3647323C", "9XL90610J3647323D"),
        certificate=documented.certificate(documented.PAYPAL_KEY),
    ),
    Judge(
        provider="razorpay",
        name="razorpay (PyPI)",
        sign=documented.of_body("X-Razorpay-Signature"),
        accepts=_razorpay,
    ),
    Judge(
        provider="gocardless",
        name="gocardless-pro (PyPI)",
        sign=documented.of_body("Webhook-Signature"),
        accepts=_gocardless,
        body=GOCARDLESS_BODY,
    ),
    Judge(
        provider="easypost",
        name="easypost (PyPI)",
        sign=documented.of_body("X-Hmac-Signature", prefix="hmac-sha256-hex="),
        accepts=_easypost,
    ),
    Judge(
        provider="coinbase-commerce",
        name="coinbase-commerce (PyPI)",
        sign=documented.of_body("X-CC-Webhook-Signature"),
        accepts=_coinbase,
        body=COINBASE_BODY,
    ),
    Judge(
        provider="gitlab",
        name="gidgetlab (PyPI)",
        sign=_gitlab_shows,
        accepts=_gitlab,
        changed=changed_header("X-Gitlab-Token"),
        without=only_without("X-Gitlab-Token"),
    ),
    Judge(provider="twilio", name="twilio (PyPI), form", sign=_twilio_signs_form, accepts=_twilio_form),
    Judge(provider="twilio", name="twilio (PyPI), JSON", sign=_twilio_signs_json, accepts=_twilio_json),
    Judge(provider="square", name="squareup (PyPI)", sign=documented.square, accepts=_square),
    Judge(provider="hubspot", name="hubspot-api-client (PyPI)", sign=documented.hubspot, accepts=_hubspot, stale_s=400),
    Judge(
        provider="vonage",
        name="vonage-jwt (PyPI)",
        sign=documented.vonage,
        accepts=_vonage,
        stale_s=400,
        laxer={"changed byte": "its caller's task", "stale time": "its caller's task"},
    ),
    Judge(
        provider="telnyx",
        name="telnyx (PyPI)",
        sign=documented.telnyx,
        accepts=_telnyx,
        held=documented.ed25519_public_base64,
        stale_s=400,
    ),
    Judge(
        provider="stream", name="stream-chat (PyPI)", sign=documented.of_body("X-Signature"), accepts=_stream, body=BODY
    ),
]
