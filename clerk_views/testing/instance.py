"""
Who the stand-in is: its names, its keys and secrets, and the Django settings that point at it.

The parts of the kit that write tokens or say who answers are given this; LocalClerk is one of these that also listens.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from typing import Any

from clerk_views.testing.minting import SigningKey, base64url, key_pool, new_signing_key
from clerk_views.testing.places import HOST, PROXY_PATH, Places
from clerk_views.testing.webhooks import new_webhook_secret
from clerk_views.values import PublishableKey

#: Origins of Django's test client and of its development server.
DEFAULT_PARTIES = (
    "http://testserver",
    "http://localhost",
    "http://127.0.0.1",
    "http://localhost:8000",
    "http://127.0.0.1:8000",
)


class Instance:
    """One instance of Clerk on a port of this machine. Arguments and attributes are described at LocalClerk."""

    secret_key: str
    webhook_secret: str
    instance_id: str
    signing_key: SigningKey

    def __init__(
        self,
        *,
        host: str,
        port: int,
        parties: Sequence[str] | None,
        secret_key: str | None,
        production: bool,
    ) -> None:
        self.places = Places(host)
        if self.places.domain and not production:
            raise ValueError(f"A development instance shares no domain with its applications, so not {host!r}.")
        self.production = production
        self.parties = tuple(DEFAULT_PARTIES if parties is None else parties)
        self._port = port
        self._lock = threading.Lock()
        self._published: list[SigningKey] = []
        self._borrowed: list[SigningKey] = []
        self._key_set: list[Any] | None = None
        self._renew(secret_key)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, or the host as it was given. Raises RuntimeError before the port is known."""
        if not self._port:
            raise RuntimeError("LocalClerk has no port yet: call start(), or use it in a with statement.")
        return f"http://{self.places.host}:{self._port}"

    @property
    def frontend_host(self) -> str:
        """
        The host name in the publishable key. It leads nowhere: ``CLERK_PROXY_URL`` stands in its place.

        With a development key it must be of Clerk's development domain, since clerk-js gives no other a development
        browser. It differs from port to port, and so do the issuer and the names of suffixed cookies; but where
        applications share the domain of the stand-in, it is the stand-in's own.
        """
        port = self.url.rpartition(":")[2]
        if self.places.domain:
            return self.places.host
        return f"clerk.local-{port}.test" if self.production else f"local-{port}.clerk.accounts.dev"

    @property
    def publishable_key(self) -> str:
        """The publishable key, ``pk_test_…`` or ``pk_live_…``."""
        mode = "live" if self.production else "test"
        return f"pk_{mode}_{base64url(self.frontend_host.encode() + b'$')}"

    @property
    def issuer(self) -> str:
        """What stands in ``iss``: ``https://`` and the host name in the publishable key."""
        return f"https://{self.frontend_host}"

    @property
    def cookie_suffix(self) -> str:
        """The end of this instance's suffixed cookie names."""
        return PublishableKey(self.publishable_key, self.frontend_host, self.production).cookie_suffix

    def settings(self, **overrides: Any) -> dict[str, Any]:
        """
        Return the Django settings that point at this server.

        Settings that would make a project refuse these tokens (a PEM key, an issuer, an audience, …), or that would
        lead its visitors elsewhere (another site's pages, a satellite's primary), are put back to their defaults. What
        a project decides about its own views, users and caches is not among them. ``overrides`` come last.
        """
        page = f"{self.url}/sign-in"
        return {
            "CLERK_SECRET_KEY": self.secret_key,
            "CLERK_MACHINE_SECRET_KEY": "",  # not None, which would let the environment speak
            "CLERK_JWT_KEY": "",  # likewise
            "CLERK_PUBLISHABLE_KEY": self.publishable_key,
            # A name of the stand-in is known to the browser alone.
            "CLERK_API_URL": self.url.replace(self.places.host, HOST) if self.places.domain else self.url,
            "CLERK_SIGN_IN_URL": page,
            "CLERK_SIGN_UP_URL": page,  # one page for both
            "CLERK_AFTER_SIGN_OUT_URL": None,
            "CLERK_AUTH_PARTIES": list(self.parties),
            "CLERK_ISSUER": None,
            "CLERK_AUDIENCE": None,
            "CLERK_PROXY_URL": f"{self.url}{PROXY_PATH}",
            "CLERK_DOMAIN": None,
            "CLERK_IS_SATELLITE": False,
            "CLERK_SATELLITE_AUTO_SYNC": False,
            "CLERK_CHECK_REVOKED_SESSIONS": False,
            "CLERK_WEBHOOK_SIGNING_SECRET": self.webhook_secret,
            **overrides,
        }

    def rotate_keys(self, *, same_kid: bool = False, keep_old: bool = False) -> SigningKey:
        """
        Sign with a new key from now on, and publish it.

        Args:
            same_kid: Keep the key id, as Clerk may when it rotates an instance's key.
            keep_old: Go on publishing the keys so far.
        """
        with self._lock:
            key = new_signing_key(self.signing_key.kid if same_kid else None)
            self._borrowed.append(key)
            self._published = [*(self._published if keep_old else ()), key]
            self.signing_key = key
        return key

    def key_set_override(self, keys: list[Any] | None) -> None:
        """Serve these entries as the key set, whatever they are; None goes back to the genuine keys."""
        with self._lock:
            self._key_set = keys

    @property
    def key_set(self) -> list[Any]:
        """The entries of the key set as it is served now."""
        with self._lock:
            return [key.jwk for key in self._published] if self._key_set is None else self._key_set

    def _renew(self, secret_key: str | None = None) -> None:
        """Become another instance, with fresh keys and secrets; the signing keys so far may be used again."""
        with self._lock:
            for key in self._borrowed:
                key_pool.give_back(key.private_key)
            self.secret_key = secret_key or f"sk_{'live' if self.production else 'test'}_{secrets.token_hex(20)}"
            self.webhook_secret = new_webhook_secret()
            self.signing_key = new_signing_key()
            self.instance_id = self.signing_key.kid
            self._published, self._borrowed = [self.signing_key], [self.signing_key]
            self._key_set = None
