"""
Signing keys, and tokens of Clerk's shape signed with them: good ones, odd ones, and arbitrary bytes.

``mint`` knows nothing of Clerk and signs whatever it is given; the two ``session_…`` functions say what a session
token looks like. LocalClerk.token() puts them together. For tests only: the keys live in this process.
"""

from __future__ import annotations

import base64
import json
import secrets
import string
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

#: Token categories, the ``cat`` of a token's header. Source: Clerk, "token category".
SESSION_CATEGORY = "cl_B7d4PD111AAA"
TEMPLATE_CATEGORY = "cl_B7d4PD222AAA"
MACHINE_CATEGORY = "cl_B7d4PD333AAA"
IGNORE_CATEGORY = "cl_I7d4PD111III"

_ALPHABET = string.ascii_letters + string.digits


def new_id(prefix: str) -> str:
    """Return a fresh id of Clerk's form: the prefix ("user", "sess", "ins", …), "_", and 27 letters and digits."""
    return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(27))


def base64url(data: bytes) -> str:
    """Encode as JWTs do: the URL alphabet, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class SigningKey:
    """An RSA key pair and the id it is published under. Its private half never shows in ``repr``."""

    kid: str
    private_key: rsa.RSAPrivateKey = field(repr=False)

    @property
    def public_pem(self) -> str:
        """The public half as ``CLERK_JWT_KEY`` takes it."""
        return (
            self.private_key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half as an entry of Clerk's key set."""
        numbers = self.private_key.public_key().public_numbers()
        return {
            "use": "sig",
            "kty": "RSA",
            "kid": self.kid,
            "alg": "RS256",
            "n": _unsigned(numbers.n),
            "e": _unsigned(numbers.e),
        }


def _unsigned(number: int) -> str:
    return base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))


class _Pool:
    """
    RSA keys that were used and may be used again, because making one takes a tenth of a second.

    First in, first out, and never fewer than four at rest: a key that has just been given back is not handed out
    again at once, so servers that follow each other in one test have different keys.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_rest: deque[rsa.RSAPrivateKey] = deque()

    def take(self) -> rsa.RSAPrivateKey:
        with self._lock:
            if len(self._at_rest) > 4:
                return self._at_rest.popleft()
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def give_back(self, key: rsa.RSAPrivateKey) -> None:
        with self._lock:
            self._at_rest.append(key)


key_pool = _Pool()


def new_signing_key(kid: str | None = None) -> SigningKey:
    """Return a key pair that nobody else uses, under the given id or a fresh instance id."""
    return SigningKey(kid or new_id("ins"), key_pool.take())


def mint(
    header: Mapping[str, Any] | bytes,
    payload: Mapping[str, Any] | bytes,
    key: SigningKey | rsa.RSAPrivateKey,
) -> str:
    """
    Sign a token: three parts in base64url, the last a genuine RS256 signature over the other two.

    Args:
        header: As a mapping it becomes compact JSON; as bytes it is signed as it stands, JSON or not. Whatever
            ``alg`` it names, the signature is RS256.
        payload: Likewise.
        key: The private key. ``kid`` is not filled in; it stands in the header if it should be there.
    """
    signed = f"{base64url(_encoded(header))}.{base64url(_encoded(payload))}"
    private_key = key.private_key if isinstance(key, SigningKey) else key
    signature = private_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{base64url(signature)}"


def _encoded(part: Mapping[str, Any] | bytes) -> bytes:
    return part if isinstance(part, bytes) else json.dumps(dict(part), separators=(",", ":")).encode()


def session_header(kid: str) -> dict[str, Any]:
    """Return the header of a session token as Clerk writes it."""
    return {"alg": "RS256", "cat": SESSION_CATEGORY, "kid": kid, "typ": "JWT"}


def session_claims(
    *,
    user_id: str,
    session_id: str,
    issuer: str,
    azp: str,
    version: int = 2,
    expires_in: float = 60,
    issued_at: float | None = None,
) -> dict[str, Any]:
    """
    Return the claims of a session token as Clerk writes them.

    Args:
        version: 2, or 1 for the older form without ``v``, ``jti`` and ``sts``.
        expires_in: Seconds from ``iat`` to ``exp``; below zero for a token that was never good.
        issued_at: Unix seconds; None means now.
    """
    iat = int(time.time() if issued_at is None else issued_at)
    claims: dict[str, Any] = {
        "azp": azp,
        "exp": iat + int(expires_in),
        "fva": [0, -1],
        "iat": iat,
        "iss": issuer,
        "nbf": iat - 10,
        "sid": session_id,
        "sub": user_id,
    }
    if version == 2:
        claims |= {"jti": secrets.token_hex(10), "sts": "active", "v": 2}
    return claims


def actor_claim(actor: str | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return an ``act`` claim: of an impersonator's id, or the mapping itself; None for none."""
    if actor is None:
        return None
    return {"sub": actor} if isinstance(actor, str) else dict(actor)


def overridden(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lay changes over a mapping; None removes a member."""
    return {name: value for name, value in {**base, **changes}.items() if value is not None}
