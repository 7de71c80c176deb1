"""One key pair, one configuration, one good session token, and how to bend it. Used by the tests of tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from clerk_views import tokens
from clerk_views.conf import SETTINGS, Config
from clerk_views.exceptions import TokenRefused
from clerk_views.testing.minting import SigningKey, mint, new_signing_key, session_claims, session_header

KEY = new_signing_key("ins_ours")
OTHER_KEY = new_signing_key("ins_other")

ISSUER = "https://clerk.example.com"
ORIGIN = "https://app.example.com"
USER_ID = "user_2ABCdefGHIjklMNOpqrSTUvwxyz"
SESSION_ID = "sess_2ABCdefGHIjklMNOpqrSTUvwxyz"
PUBLISHABLE_KEY = "pk_live_" + base64.b64encode(b"clerk.example.com$").decode()

#: As the value of a member: leave it out. (None is JSON's null.)
ABSENT: Final = object()


def configured(**values: Any) -> Config:
    """Return a configuration that knows the issuer and one origin, with these settings laid over."""
    raw = {setting.name: setting.default for setting in SETTINGS}
    ours = {
        "CLERK_SECRET_KEY": "sk_live_abc",
        "CLERK_PUBLISHABLE_KEY": PUBLISHABLE_KEY,
        "CLERK_AUTH_PARTIES": [ORIGIN],
    }
    return Config(raw | ours | values)


CONFIG = configured()


def _changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**base, **changes}.items() if value is not ABSENT}


def header(**changes: Any) -> dict[str, Any]:
    """Return a session token's header with these members changed."""
    return _changed(session_header(KEY.kid), changes)


def claims(**changes: Any) -> dict[str, Any]:
    """Return a session token's claims, good from now for a day (a test may run long after), with these changed."""
    base = session_claims(user_id=USER_ID, session_id=SESSION_ID, issuer=ISSUER, azp=ORIGIN, expires_in=86_400)
    return _changed(base, changes)


def token(key: SigningKey = KEY, head: Mapping[str, Any] | bytes | None = None, **changes: Any) -> str:
    """Return a genuinely signed session token with these claims changed; of the header, ``head`` if given."""
    return mint(header() if head is None else head, claims(**changes), key)


def text_of(members: Mapping[str, Any]) -> bytes:
    """Return the JSON that stands in a token for these members."""
    return json.dumps(members, separators=(",", ":")).encode()


def public_key(key: SigningKey = KEY) -> RSAPublicKey:
    return key.private_key.public_key()


def judged(text: str, config: Config = CONFIG, key: SigningKey = KEY) -> str:
    """Return "good", or the reason for which the token is refused. Anything else it raises is a bug, and is raised."""
    try:
        tokens.verify(tokens.parse(text), public_key(key), config)
    except TokenRefused as refused:
        return refused.reason
    return "good"
