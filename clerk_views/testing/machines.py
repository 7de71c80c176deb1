"""
The machines of the stand-in and the tokens of machines: API keys, M2M tokens, OAuth access tokens.

Opaque ones are kept here, and verified as Clerk's Backend API does it; those that are JWTs are minted and forgotten, as
nobody asks Clerk about them. LocalClerk.create_api_key(), m2m_token() and oauth_token() say what their arguments mean.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from clerk_views.testing.directory import now_ms
from clerk_views.testing.faults import error_body
from clerk_views.testing.instance import Instance
from clerk_views.testing.minting import MACHINE_CATEGORY, SigningKey, mint, new_id, overridden

#: Where each kind of token is verified: the path, the member of the body, the prefix, and what the answer is called.
_KINDS = {
    "api_key": ("/api_keys/verify", "secret", "ak", "api_key"),
    "m2m_token": ("/m2m_tokens/verify", "token", "mt", "machine_to_machine_token"),
    "oauth_token": (
        "/oauth_applications/access_tokens/verify",
        "access_token",
        "oat",
        "clerk_idp_oauth_access_token",
    ),
}
_NOT_FOUND = {"api_key": "API key", "m2m_token": "Machine token", "oauth_token": "OAuth token"}

#: Paths of Clerk's Backend API that are not below /v1.
VERIFY_PATHS = tuple(path for path, *_ in _KINDS.values())


class LocalMachine:
    """
    A machine of the stand-in.

    Attributes:
        id: Clerk's id, ``mch_…``.
        name: What it is called.
        secret_key: For ``CLERK_MACHINE_SECRET_KEY``, ``ak_…``.
    """

    def __init__(self, name: str, id: str | None = None) -> None:
        self.id = id or new_id("mch")
        self.name = name
        self.secret_key = f"ak_{secrets.token_hex(24)}"

    def __repr__(self) -> str:
        return f"<LocalMachine {self.id}>"


class Machines:
    """
    All machines, and all opaque tokens with what Clerk answers about them. Safe to use from several threads.

    Args:
        instance: Who issues and signs those tokens that are JWTs.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._lock = threading.Lock()
        self._machines: dict[str, LocalMachine] = {}
        self._tokens: dict[str, tuple[str, dict[str, Any]]] = {}

    def add(self, machine: LocalMachine) -> LocalMachine:
        """Add a machine. Raises ValueError if the id is taken."""
        with self._lock:
            if machine.id in self._machines:
                raise ValueError(f"There is a machine {machine.id} already.")
            self._machines[machine.id] = machine
        return machine

    def create_api_key(
        self,
        subject: str,
        scopes: Iterable[str],
        claims: Mapping[str, Any] | None,
        expires_in: float | None,
        name: str,
    ) -> str:
        """Make an API key. See LocalClerk.create_api_key()."""
        members = {"type": "api_key", "name": name, "description": None, "created_by": None, "last_used_at": None}
        own = None if claims is None else dict(claims)
        return self._create("api_key", subject, scopes, expires_in, claims=own, **members)

    def m2m_token(
        self, subject: str, scopes: Iterable[str], claims: Mapping[str, Any] | None, expires_in: float | None
    ) -> str:
        """Make an opaque M2M token. See LocalClerk.m2m_token()."""
        own = None if claims is None else dict(claims)
        return self._create("m2m_token", subject, scopes, expires_in, claims=own, last_used_at=None)

    def m2m_jwt(
        self,
        subject: str,
        scopes: Iterable[str],
        claims: Mapping[str, Any] | None,
        expires_in: float | None,
        header: Mapping[str, Any] | None,
        key: SigningKey | None,
    ) -> str:
        """Make an M2M token that is a JWT. See LocalClerk.m2m_token()."""
        own = {"alg": "RS256", "cat": MACHINE_CATEGORY, "typ": "JWT", **(header or {})}
        return self._jwt(own, subject, expires_in, {"scopes": " ".join(scopes), **(claims or {})}, key)

    def oauth_token(self, subject: str, scopes: Iterable[str], client_id: str, expires_in: float | None) -> str:
        """Make an opaque OAuth access token. See LocalClerk.oauth_token()."""
        members = {"client_id": client_id, "type": "oauth:access_token"}
        return self._create("oauth_token", subject, scopes, expires_in, **members)

    def oauth_jwt(
        self,
        subject: str,
        scopes: Iterable[str],
        client_id: str,
        claims: Mapping[str, Any] | None,
        expires_in: float | None,
        header: Mapping[str, Any] | None,
        key: SigningKey | None,
    ) -> str:
        """Make an OAuth access token that is a JWT. See LocalClerk.oauth_token()."""
        own = {"alg": "RS256", "typ": "at+jwt", **(header or {})}
        told = {"client_id": client_id, "scp": list(scopes), **(claims or {})}
        return self._jwt(own, subject, expires_in, told, key)

    def _jwt(
        self,
        header: Mapping[str, Any],
        subject: str,
        expires_in: float | None,
        claims: Mapping[str, Any],
        key: SigningKey | None,
    ) -> str:
        """
        Mint a token.

        Args:
            header: Laid over the key id, and None removes a member; so with the claims over those that all have.
        """
        key = key or self._instance.signing_key
        iat = int(time.time())
        usual = {
            "exp": iat + int(3600 if expires_in is None else expires_in),
            "iat": iat,
            "iss": self._instance.issuer,
            "jti": secrets.token_hex(16),
            "nbf": iat - 10,
            "sub": subject,
        }
        return mint(overridden({"kid": key.kid}, header), overridden(usual, claims), key)

    def _create(
        self,
        kind: str,
        subject: str,
        scopes: Iterable[str],
        expires_in: float | None,
        **members: Any,
    ) -> str:
        """
        Make an opaque token, and return it.

        Args:
            members: Of the answer about it, laid over the usual ones.
        """
        _, _, prefix, name = _KINDS[kind]
        created = now_ms()
        body = {
            "object": name,
            "id": f"{prefix}_{secrets.token_hex(16)}",
            "subject": subject,
            "scopes": list(scopes),
            "revoked": False,
            "revocation_reason": None,
            "expired": False,
            "expiration": None if expires_in is None else created + int(expires_in * 1000),
            "created_at": created,
            "updated_at": created,
            **members,
        }
        token = f"{prefix}_{secrets.token_hex(16)}"
        with self._lock:
            self._tokens[token] = (kind, body)
        return token

    def update(self, token: str, members: Mapping[str, Any]) -> None:
        """Change members of the answer about a token. Raises LookupError if there is no such token."""
        with self._lock:
            kind, body = self._tokens[token]
            self._tokens[token] = (kind, {**body, **members, "updated_at": now_ms()})

    def remove(self, token: str) -> None:
        """Know a token no more. Raises LookupError if there is no such token."""
        with self._lock:
            del self._tokens[token]

    def verify(self, path: str, asked: Mapping[str, Any], authorization: str, secret_key: str) -> tuple[int, bytes]:
        """Answer whoever asks about a token: status and body."""
        kind = next(name for name, (where, *_) in _KINDS.items() if where == path)
        with self._lock:
            keys = [
                secret_key,
                *([machine.secret_key for machine in self._machines.values()] if kind[0] == "m" else []),
            ]
            found = self._tokens.get(asked.get(_KINDS[kind][1]) or "")
        if authorization not in (f"Bearer {key}" for key in keys):
            return 401, error_body(401, "clerk_key_invalid", "The provided secret key is invalid.")
        if list(asked) != [_KINDS[kind][1]]:
            return 422, error_body(422)
        if found is None or found[0] != kind:
            return 404, error_body(404, "resource_not_found", f"{_NOT_FOUND[kind]} not found")
        body = found[1]
        expired = body["expiration"] is not None and body["expiration"] <= now_ms()
        return 200, json.dumps({**body, "expired": body["expired"] or expired}).encode()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._machines.clear()
            self._tokens.clear()
