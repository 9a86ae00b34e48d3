"""Signatures of webhooks (spec/docs/webhooks.md)."""

import base64
import hashlib
import hmac

from readings import altered

PREFIX = "whsec_"


def key(secret):
    encoded = secret.removeprefix(PREFIX)
    return encoded.encode() if altered("the secret is the key") else base64.b64decode(encoded)


def signature(secret, case):
    signed = f"{case['id']}.{case['at']}.{case['body']}"
    if altered("the id is not signed"):
        signed = f"{case['at']}.{case['body']}"
    if altered("the time is not signed"):
        signed = f"{case['id']}.{case['body']}"
    digest = hmac.new(key(secret), signed.encode(), hashlib.sha256).digest()
    encode = base64.urlsafe_b64encode if altered("signatures are in URL-safe base64") else base64.b64encode
    return "v1," + encode(digest).decode()


def run(case):
    secrets = case["secrets"][:1] if altered("only the new secret signs") else case["secrets"]
    signatures = [signature(secret, case) for secret in secrets]
    return " ".join(sorted(signatures) if altered("signatures are in no order") else signatures)
