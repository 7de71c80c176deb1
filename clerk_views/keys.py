"""
Which key verifies a token? Clerk's signing keys: from ``CLERK_JWT_KEY``, or fetched and kept in memory.

A key id is only ever looked up in the set of one configuration; nothing a token says leads to a key (KEY-08). A key is
never dropped before its replacement is in hand, so neither bad tokens nor an outage sign anybody out.
"""

from __future__ import annotations

import base64
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured

from clerk_views.api import get_api
from clerk_views.calls import Budget
from clerk_views.conf import Config
from clerk_views.exceptions import ClerkUnavailable, TokenRefused

if TYPE_CHECKING:  # 25 ms to import, so only when there is a key to read
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

# Ages of a key set, in seconds on the monotonic clock.
REFRESH_AGE = 30 * 60  # from here on it is refreshed in the background
FRESH_AGE = 60 * 60  # from here on the next caller refreshes it
USABLE_AGE = 24 * 60 * 60  # from here on it verifies nothing

COOL_DOWN = 30.0  # seconds from one attempt to refresh to the next
UNUSABLE_COOL_DOWN = 5.0  # seconds, when the API answers and nothing in it can be used

MAX_KEYS = 100
MAX_RINGS = 8

_KID = re.compile(r"[ -~]{1,256}")


class KeyRing(ABC):
    """The signing keys of one configuration. Safe to use from several threads."""

    config: Config

    @abstractmethod
    def peek(self, kid: str | None) -> RSAPublicKey | None:
        """Return the key if memory has it and it may be used as it is, else None. Never waits."""

    @abstractmethod
    def get(self, kid: str | None, budget: Budget) -> RSAPublicKey:
        """
        Return the key, fetching the set if need be.

        Raises:
            TokenRefused: ``jwk-kid-mismatch``, there is no such key.
            ClerkUnavailable: ``jwk-remote-failed-to-load``, it cannot be found out whether there is.
        """

    @abstractmethod
    def replace(self, kid: str | None, bad_key: RSAPublicKey, budget: Budget) -> RSAPublicKey | None:
        """Return the key that has taken this one's place under its id, or None. For signatures that did not hold."""


class PemKeyRing(KeyRing):
    """The one key of ``CLERK_JWT_KEY``; key ids do not matter and nothing is ever fetched."""

    def __init__(self, pem: str, config: Config) -> None:
        self.config = config
        try:
            self._key = parse_pem(pem)
        except ValueError as error:
            raise ImproperlyConfigured(
                f"CLERK_JWT_KEY is PEM, but {error}. Copy 'JWKS public key' (PEM) from the API keys page of Clerk's "
                "dashboard once more, whole; or remove the setting to fetch the keys from Clerk's API."
            ) from None

    def peek(self, kid: str | None) -> RSAPublicKey | None:
        return self._key

    def get(self, kid: str | None, budget: Budget) -> RSAPublicKey:
        return self._key

    def replace(self, kid: str | None, bad_key: RSAPublicKey, budget: Budget) -> RSAPublicKey | None:
        return None


class _KeySet(NamedTuple):
    keys: Mapping[str, RSAPublicKey]
    fetched: float


class _Flight:
    """One attempt to refresh, that others may wait for. Failed unless it says otherwise."""

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.error: ClerkUnavailable | None = None
        self.succeeded = False


class FetchedKeyRing(KeyRing):
    """
    The keys that Clerk's API publishes.

    Args:
        clock: Seconds that only ever go forward.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._held: _KeySet | None = None
        self._flight: _Flight | None = None
        self._not_before = clock()  # no attempt to refresh before this
        self._failed = False  # how the last attempt ended

    def peek(self, kid: str | None) -> RSAPublicKey | None:
        held = self._held
        key = held.keys.get(kid) if held is not None and kid is not None else None
        if held is None or key is None:
            return None
        age = self._clock() - held.fetched
        if age < REFRESH_AGE:
            return key
        if age < FRESH_AGE:
            self._refresh_behind(held)
            return key
        # When it may be asked whether this is still Clerk's key, get() does so first.
        return None if age >= USABLE_AGE or self._may_refresh() else key

    def get(self, kid: str | None, budget: Budget) -> RSAPublicKey:
        if kid is None or not _KID.fullmatch(kid):
            raise TokenRefused("jwk-kid-mismatch", "the token names no key")
        key = self.peek(kid)
        if key is not None:
            return key
        held = self._held
        stale = self._find(held, kid)
        try:
            self._refresh(held, budget, wait=stale is None)
        except ClerkUnavailable:
            if stale is None:
                raise
            return stale
        key = self._find(self._held, kid)
        if key is None:
            raise TokenRefused("jwk-kid-mismatch", f"no key has the id {kid!r:.100}")
        return key

    def replace(self, kid: str | None, bad_key: RSAPublicKey, budget: Budget) -> RSAPublicKey | None:
        held = self._held
        try:
            if self._find(held, kid) is bad_key:
                self._refresh(held, budget, wait=True)
        except ClerkUnavailable:
            return None
        key = self._find(self._held, kid)
        return None if key is bad_key else key

    def after_fork(self) -> None:
        """In a forked child: keep the keys; whoever held the lock or was fetching is no more."""
        self._lock = threading.Lock()
        self._flight = None

    def _find(self, held: _KeySet | None, kid: str | None) -> RSAPublicKey | None:
        if held is None or kid is None or not self._serves(held):
            return None
        return held.keys.get(kid)

    def _serves(self, held: _KeySet | None) -> bool:
        return held is not None and self._clock() - held.fetched < USABLE_AGE

    def _refresh(self, seen: _KeySet | None, budget: Budget, *, wait: bool) -> None:
        """
        See to it that the set is newer than the one seen, unless it is too early to ask again.

        Raises:
            ClerkUnavailable: The attempt failed, or another thread's is not over within the budget (without ``wait``:
                is not over yet).
        """
        with self._lock:
            own = self._take_off(seen)
            flight = own or self._flight
            failed, pause = self._failed, self._not_before - self._clock()
        if flight is None:
            if failed:
                raise _not_loaded(pause)
            return
        if own is not None:
            self._fetch(own, budget)
        else:
            with budget.spending():
                flight.landed.wait(max(0.0, budget.remaining) if wait else 0.0)
        if not flight.succeeded:
            raise _not_loaded(flight.error.retry_after if flight.error else 1) from flight.error

    def _refresh_behind(self, seen: _KeySet) -> None:
        with self._lock:
            flight = self._take_off(seen)
        if flight is None:
            return
        try:
            threading.Thread(
                target=self._fetch, args=(flight, Budget(self.config.timeout)), name="clerk_views keys", daemon=True
            ).start()
        except RuntimeError:  # no thread to be had, as while the interpreter shuts down
            self._land(flight, self._clock() + COOL_DOWN)

    def _take_off(self, seen: _KeySet | None) -> _Flight | None:
        """Return the attempt that the caller, who holds the lock, has to make; None if none may be made now."""
        if self._held is not seen or not self._may_refresh():
            return None
        self._flight = _Flight()
        return self._flight

    def _may_refresh(self) -> bool:
        return self._flight is None and self._clock() >= self._not_before

    def _fetch(self, flight: _Flight, budget: Budget) -> None:
        started = self._clock()
        # With nothing to serve every caller may try; the API itself is left alone when it keeps failing.
        serving = self._serves(self._held)
        pause = COOL_DOWN if serving else 0.0
        try:
            keys = usable(get_api(self.config).get_key_set(budget))
            if keys:
                self._held = _KeySet(self._same(keys), started)
                flight.succeeded = True
                pause = COOL_DOWN
            elif not serving:
                pause = UNUSABLE_COOL_DOWN
        except ClerkUnavailable as error:
            flight.error = error
        finally:
            # Whatever happens, nobody waits for a flight that will not land.
            self._land(flight, started + pause)

    def _land(self, flight: _Flight, not_before: float) -> None:
        with self._lock:
            self._flight = None
            self._failed = not flight.succeeded
            self._not_before = not_before
        flight.landed.set()

    def _same(self, keys: dict[str, RSAPublicKey]) -> dict[str, RSAPublicKey]:
        """Keep the object of a key that has not changed: verdicts on tokens hold as long as their key is the same."""
        old = self._held.keys if self._held is not None else {}
        return {kid: old[kid] if kid in old and old[kid] == key else key for kid, key in keys.items()}


def _not_loaded(retry_after: float) -> ClerkUnavailable:
    return ClerkUnavailable("jwk-remote-failed-to-load", "the signing keys cannot be had", retry_after=retry_after)


def parse_pem(pem: str) -> RSAPublicKey:
    """
    Return the RSA public key of a PEM text.

    Raises:
        ValueError: It is none, or too weak. The text says what is wrong, and nothing of the key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("it cannot be read as a public key") from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("it is not an RSA key")
    if not _is_strong(key.public_numbers()):
        raise ValueError("its RSA key has not 2048 to 8192 bits and an odd exponent from 65537 to 4294967295")
    return key


def _is_strong(numbers: RSAPublicNumbers) -> bool:
    # Upper bounds keep a check cheap, whatever a key set brings. Clerk signs with Go, whose exponents end at 2**31.
    return (
        2048 <= numbers.n.bit_length() <= 8192
        and 65537 <= numbers.e < 2**32
        and numbers.n & 1 == 1
        and numbers.e & 1 == 1
    )


def usable(entries: list[Any]) -> dict[str, RSAPublicKey]:
    """Return what a key set offers for RS256, by key id. An id that stands for two keys stands for none."""
    found: dict[str, RSAPublicKey] = {}
    ambiguous: set[str] = set()
    for entry in entries[:MAX_KEYS]:
        key = _read(entry)
        if key is not None and found.setdefault(entry["kid"], key) != key:
            ambiguous.add(entry["kid"])
    return {kid: key for kid, key in found.items() if kid not in ambiguous}


def _read(entry: Any) -> RSAPublicKey | None:
    if (
        not isinstance(entry, dict)
        or entry.get("kty") != "RSA"
        or entry.get("use", "sig") != "sig"
        or entry.get("alg", "RS256") != "RS256"
        or not isinstance(entry.get("kid"), str)
        or not _KID.fullmatch(entry["kid"])
    ):
        return None
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    try:
        numbers = RSAPublicNumbers(_number(entry.get("e")), _number(entry.get("n")))
        return numbers.public_key() if _is_strong(numbers) else None
    except ValueError:
        return None


def _number(text: Any) -> int:
    """Read a Base64urlUInt. Source: RFC 7518, section 2; only the one spelling that encoding gives."""
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise ValueError
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise ValueError
    return int.from_bytes(data, "big")


_lock = threading.Lock()
_rings: dict[tuple[str | None, ...], KeyRing] = {}
_latest: tuple[Config, KeyRing] | None = None


def get_key_ring(config: Config) -> KeyRing:
    """
    Return the keys of this configuration, the same object as long as what they depend on is the same.

    Raises:
        ImproperlyConfigured: ``CLERK_JWT_KEY`` is no RSA key.
    """
    global _latest
    latest = _latest
    if latest is not None and latest[0] is config:
        return latest[1]
    pem = config.jwt_key
    key = (config.api_url, config.secret_key) if pem is None else (pem,)
    with _lock:
        ring = _rings.pop(key, None)
        if ring is None:
            ring = FetchedKeyRing(config) if pem is None else PemKeyRing(pem, config)
        ring.config = config  # its timeout may be another
        _rings[key] = ring  # the latest used stands last
        if len(_rings) > MAX_RINGS:
            del _rings[next(iter(_rings))]
        _latest = (config, ring)
    return ring


def _start_anew() -> None:
    """In a forked child: fresh locks; the keys stay."""
    global _lock
    _lock = threading.Lock()
    for ring in list(_rings.values()):
        if isinstance(ring, FetchedKeyRing):
            ring.after_fork()


os.register_at_fork(after_in_child=_start_anew)
