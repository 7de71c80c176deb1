"""Signing keys: which are used, how long, and how often Clerk is asked for them."""

from __future__ import annotations

import base64
import logging
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from django.core.exceptions import ImproperlyConfigured

from clerk_views import keys
from clerk_views.calls import Budget
from clerk_views.conf import config
from clerk_views.exceptions import ClerkUnavailable, TokenRefused
from clerk_views.keys import FetchedKeyRing, KeyRing, get_key_ring, parse_pem
from clerk_views.testing import LocalClerk
from clerk_views.testing.minting import SigningKey

MINUTE = 60.0
HOUR = 60 * MINUTE


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ring(local_clerk: LocalClerk, clock: Clock) -> FetchedKeyRing:
    made = FetchedKeyRing(config(), clock)
    get_key_ring(config()).get(local_clerk.signing_key.kid, Budget(60))  # the SDK is imported
    local_clerk.calls.reset()
    return made


@pytest.fixture
def warm(ring: FetchedKeyRing, local_clerk: LocalClerk) -> FetchedKeyRing:
    """A ring that has just fetched its keys."""
    ring.get(local_clerk.signing_key.kid, Budget(5))
    local_clerk.calls.reset()
    return ring


def get(ring: KeyRing, key: SigningKey | str, seconds: float = 5) -> RSAPublicKey:
    return ring.get(key if isinstance(key, str) else key.kid, Budget(seconds))


def public(key: SigningKey) -> RSAPublicKey:
    return key.private_key.public_key()


def refused(ring: KeyRing, kid: str | None) -> str:
    with pytest.raises(TokenRefused) as caught:
        ring.get(kid, Budget(5))
    return caught.value.reason


def unavailable(ring: KeyRing, kid: str, seconds: float = 5) -> ClerkUnavailable:
    with pytest.raises(ClerkUnavailable) as caught:
        ring.get(kid, Budget(seconds))
    assert caught.value.reason == "jwk-remote-failed-to-load"
    return caught.value


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something in the background has happened; fail after five seconds."""
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def fetched_in_background(ring: FetchedKeyRing) -> None:
    wait_for(lambda: not any(thread.name == "clerk_views keys" for thread in threading.enumerate()))


# The usual way


def test_a_key_is_fetched_once_and_then_in_memory(ring: FetchedKeyRing, local_clerk: LocalClerk) -> None:
    kid = local_clerk.signing_key.kid
    assert ring.peek(kid) is None
    assert local_clerk.calls.total == 0
    key = get(ring, kid)
    assert key == public(local_clerk.signing_key)
    assert ring.peek(kid) is key
    assert get(ring, kid) is key
    assert ring.peek("ins_other") is None
    assert ring.peek(None) is None
    assert local_clerk.calls.key_fetches == 1


def test_many_threads_at_a_cold_start_fetch_once(ring: FetchedKeyRing, local_clerk: LocalClerk) -> None:
    """KEY-07."""
    local_clerk.faults.slow(0.1)
    barrier = threading.Barrier(64)

    def one(_: int) -> RSAPublicKey:
        barrier.wait()
        return get(ring, local_clerk.signing_key)

    with ThreadPoolExecutor(64) as pool:
        assert len({id(key) for key in pool.map(one, range(64))}) == 1
    assert local_clerk.calls.key_fetches == 1


def test_who_waits_for_another_threads_fetch_does_so_within_the_budget(
    ring: FetchedKeyRing, local_clerk: LocalClerk
) -> None:
    """KEY-07, F-03: and shares its failure, instead of waiting once more."""
    local_clerk.faults.drip()

    def one(_: int) -> float:
        began = time.monotonic()
        unavailable(ring, local_clerk.signing_key.kid, 0.3)
        return time.monotonic() - began

    with ThreadPoolExecutor(32) as pool:
        assert max(pool.map(one, range(32))) < 1
    assert local_clerk.calls.key_fetches <= 3  # then the breaker is open


def test_waiting_costs_the_waiters_budget(ring: FetchedKeyRing, local_clerk: LocalClerk) -> None:
    """DOS-02."""
    local_clerk.faults.slow(0.3)
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(get, ring, local_clerk.signing_key)
        wait_for(lambda: local_clerk.calls.total == 1)
        budget = Budget(5)
        assert ring.get(local_clerk.signing_key.kid, budget) is leader.result()
    assert budget.remaining < 4.95
    assert local_clerk.calls.key_fetches == 1


# Unknown key ids


@pytest.mark.parametrize("kid", [None, "", "a" * 257, "ins_\n", "ins_\0", "ïns", "ins_1\n"])
def test_an_impossible_id_is_refused_without_a_fetch(
    ring: FetchedKeyRing, local_clerk: LocalClerk, kid: str | None
) -> None:
    """KEY-05."""
    assert refused(ring, kid) == "jwk-kid-mismatch"
    assert local_clerk.calls.total == 0


def test_ten_thousand_unknown_ids_cost_two_fetches_at_most(
    ring: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock
) -> None:
    """KEY-01, I6."""
    for number in range(10_000):
        clock.now += 0.003
        assert refused(ring, f"ins_{number}") == "jwk-kid-mismatch"
    assert local_clerk.calls.key_fetches <= 2
    assert get(ring, local_clerk.signing_key) == public(local_clerk.signing_key)


def test_many_threads_with_unknown_ids_fetch_once(warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock) -> None:
    """KEY-01, KEY-07."""
    clock.now += 31
    local_clerk.faults.slow(0.1)
    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(lambda number: refused(warm, f"ins_{number}"), range(200))) == {"jwk-kid-mismatch"}
    assert local_clerk.calls.key_fetches == 1


def test_a_new_key_is_accepted_within_thirty_seconds_under_a_flood(
    warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock
) -> None:
    """KEY-03, F-19."""
    old = local_clerk.signing_key
    new = local_clerk.rotate_keys(keep_old=True)
    for number in range(299):
        clock.now += 0.1
        assert refused(warm, f"ins_{number}") == "jwk-kid-mismatch"
    assert refused(warm, new.kid) == "jwk-kid-mismatch"
    assert warm.peek(old.kid) == public(old)
    clock.now += 0.2
    assert get(warm, new) == public(new)
    assert warm.peek(old.kid) == public(old)
    assert local_clerk.calls.key_fetches == 1


def test_an_unknown_id_cannot_be_decided_while_the_api_is_away(
    warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock
) -> None:
    """F-01: 503 rather than 401, and the known key goes on working."""
    local_clerk.faults.status(500)
    clock.now += 31
    error = unavailable(warm, "ins_new")
    assert error.__cause__ is not None
    fetches = local_clerk.calls.key_fetches
    clock.now += 10
    for _ in range(50):
        assert unavailable(warm, "ins_new").retry_after == 20
    assert local_clerk.calls.key_fetches == fetches
    assert get(warm, local_clerk.signing_key) == public(local_clerk.signing_key)
    local_clerk.faults.clear()
    clock.now += 20
    assert refused(warm, "ins_new") == "jwk-kid-mismatch"
    assert refused(warm, "ins_new") == "jwk-kid-mismatch"
    assert local_clerk.calls.key_fetches == fetches + 1


def test_without_keys_every_caller_may_try(ring: FetchedKeyRing, local_clerk: LocalClerk) -> None:
    """CAC-07, F-01: the first request after an outage succeeds; the breaker bounds the rest."""
    local_clerk.faults.status(500, times=4)
    for _ in range(2):
        unavailable(ring, local_clerk.signing_key.kid)
    assert get(ring, local_clerk.signing_key) == public(local_clerk.signing_key)


def test_without_keys_a_failing_api_is_left_alone(ring: FetchedKeyRing, local_clerk: LocalClerk) -> None:
    """F-01, I6."""
    local_clerk.faults.status(500)
    for _ in range(100):
        error = unavailable(ring, local_clerk.signing_key.kid)
    assert local_clerk.calls.key_fetches == 6  # three calls, each with its retry
    assert error.retry_after == 5


def test_a_refused_secret_key_makes_tokens_undecidable_not_bad(
    warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock
) -> None:
    """F-08."""
    local_clerk.faults.status(401)
    clock.now += 31
    cause = unavailable(warm, "ins_new").__cause__
    assert isinstance(cause, ClerkUnavailable)
    assert cause.reason == "secret-key-invalid"
    assert get(warm, local_clerk.signing_key) == public(local_clerk.signing_key)


def test_the_log_and_the_error_carry_no_control_characters(warm: FetchedKeyRing) -> None:
    """LOG-03."""
    with pytest.raises(TokenRefused) as caught:
        get(warm, "~" * 256)
    assert len(str(caught.value)) < 150


# Age


def test_keys_are_refreshed_behind_the_scenes_from_half_an_hour_on(
    warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock
) -> None:
    """KEY-03: one at a time, while the old ones serve."""
    key = get(warm, local_clerk.signing_key)
    clock.now += 30 * MINUTE - 1
    assert get(warm, local_clerk.signing_key) is key
    fetched_in_background(warm)
    assert local_clerk.calls.total == 0
    clock.now += 1
    local_clerk.faults.slow(0.2)
    for _ in range(20):
        assert warm.peek(local_clerk.signing_key.kid) is key
    fetched_in_background(warm)
    assert local_clerk.calls.key_fetches == 1
    clock.now += 29 * MINUTE
    assert warm.peek(local_clerk.signing_key.kid) is key  # an hour old, and fresh
    fetched_in_background(warm)
    assert local_clerk.calls.key_fetches == 1


def test_a_refresh_in_vain_is_tried_again_after_thirty_seconds(
    warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock
) -> None:
    """KEY-03."""
    local_clerk.faults.status(500)
    clock.now += 30 * MINUTE
    for _ in range(4):
        for _ in range(10):
            assert warm.peek(local_clerk.signing_key.kid)
        fetched_in_background(warm)
        clock.now += 10
    assert local_clerk.calls.key_fetches == 4  # two calls, each with its retry


def test_after_an_hour_the_next_caller_asks_first(warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock) -> None:
    """KEY-03, F-19: a key that Clerk has withdrawn ends here."""
    old, new = local_clerk.signing_key, local_clerk.rotate_keys()
    clock.now += HOUR
    assert warm.peek(old.kid) is None
    assert refused(warm, old.kid) == "jwk-kid-mismatch"
    assert warm.peek(new.kid) == public(new)
    assert local_clerk.calls.key_fetches == 1


def test_one_caller_asks_and_the_others_go_on_with_the_stale_key(
    warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock
) -> None:
    """KEY-03, KEY-07."""
    key = get(warm, local_clerk.signing_key)
    clock.now += HOUR
    local_clerk.faults.slow(2)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(get, warm, local_clerk.signing_key)
        wait_for(lambda: local_clerk.calls.total == 1)
        began = time.monotonic()
        assert warm.peek(local_clerk.signing_key.kid) is key
        assert get(warm, local_clerk.signing_key) is key
        assert time.monotonic() - began < 1
        assert asking.result() is key


def test_many_threads_after_an_hour_fetch_once(warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock) -> None:
    """KEY-07."""
    clock.now += HOUR
    local_clerk.faults.slow(0.1)
    barrier = threading.Barrier(64)

    def one(_: int) -> RSAPublicKey:
        barrier.wait()
        return get(warm, local_clerk.signing_key)

    with ThreadPoolExecutor(64) as pool:
        assert len({id(key) for key in pool.map(one, range(64))}) == 1
    assert local_clerk.calls.key_fetches == 1


@pytest.mark.parametrize("fault", ["down", "status", "slow", "garbage"])
def test_stale_keys_serve_for_a_day_while_the_api_is_away(
    warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock, fault: str
) -> None:
    """F-01, F-03, F-06, KEY-02: nobody is signed out; and after a day nobody is let in."""
    arguments = {"down": (), "status": (500,), "slow": (0.3,), "garbage": ("html",)}[fault]
    getattr(local_clerk.faults, fault)(*arguments)
    key = warm.peek(local_clerk.signing_key.kid)
    for _ in range(23):
        clock.now += HOUR
        assert get(warm, local_clerk.signing_key, 0.1) is key
        assert warm.peek(local_clerk.signing_key.kid) is key  # just tried: from memory, at once
    clock.now += HOUR - 1
    assert get(warm, local_clerk.signing_key, 0.1) is key
    clock.now += 1
    assert warm.peek(local_clerk.signing_key.kid) is None
    unavailable(warm, local_clerk.signing_key.kid, 0.1)


def test_the_first_request_after_a_day_succeeds_when_the_api_is_back(
    warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock
) -> None:
    """KEY-03: with nothing to serve there is no cool-down."""
    clock.now += 25 * HOUR
    local_clerk.faults.status(500, times=2)
    unavailable(warm, local_clerk.signing_key.kid)
    assert get(warm, local_clerk.signing_key) == public(local_clerk.signing_key)


def test_a_clock_set_back_changes_nothing(ring: FetchedKeyRing) -> None:
    """F-20: ages are told by a clock that only goes forward."""
    assert FetchedKeyRing(config())._clock is time.monotonic


# Bad signatures


def test_bad_signatures_cost_one_refresh_and_never_the_key(
    warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock
) -> None:
    """KEY-02, KEY-01."""
    kid = local_clerk.signing_key.kid
    key = get(warm, kid)
    clock.now += 31
    for _ in range(1000):
        assert warm.replace(kid, key, Budget(5)) is None
    assert local_clerk.calls.key_fetches == 1
    assert warm.peek(kid) is key  # the same object: verdicts that rest on it stand


def test_a_bad_signature_while_the_api_fails_signs_nobody_out(
    warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock
) -> None:
    """KEY-02."""
    kid = local_clerk.signing_key.kid
    key = get(warm, kid)
    local_clerk.faults.status(500)
    clock.now += 31
    for _ in range(10):
        assert warm.replace(kid, key, Budget(5)) is None
    assert local_clerk.calls.key_fetches == 2  # one call, with its retry
    assert get(warm, kid) is key


def test_another_key_under_the_same_id_replaces_the_old_one(
    warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock
) -> None:
    """F-19, KEY-02."""
    old = get(warm, local_clerk.signing_key)
    new = local_clerk.rotate_keys(same_kid=True)
    clock.now += 29
    assert warm.replace(new.kid, old, Budget(5)) is None
    clock.now += 1
    replaced = warm.replace(new.kid, old, Budget(5))
    assert replaced == public(new)
    clock.now += 31
    assert warm.replace(new.kid, old, Budget(0)) is replaced  # the next one finds it in memory
    assert local_clerk.calls.key_fetches == 1


def test_a_key_that_is_gone_is_not_replaced(warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock) -> None:
    """F-19."""
    old = local_clerk.signing_key
    key = get(warm, old)
    local_clerk.rotate_keys()
    clock.now += 31
    assert warm.replace(old.kid, key, Budget(5)) is None
    assert warm.replace(None, key, Budget(5)) is None
    assert warm.peek(old.kid) is None


# What a key set may hold

Entry = Callable[[SigningKey], Any]


def number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


def changed(**changes: Any) -> Entry:
    """Return what makes the entry of a key, with some members changed; None removes one."""

    def entry(key: SigningKey) -> Any:
        return {name: value for name, value in {**key.jwk, **changes}.items() if value is not None}

    return entry


def with_numbers(n: Callable[[int], int] = int, e: int = 65537) -> Entry:
    def entry(key: SigningKey) -> Any:
        return {**key.jwk, "n": number(n(public(key).public_numbers().n)), "e": number(e)}

    return entry


GOOD: dict[str, Entry] = {
    "as Clerk writes it": changed(),
    "without use and alg": changed(use=None, alg=None),
    "with other members": changed(x5c=["..."], jku="https://evil.example/keys", x=7, key_ops=["verify"]),
    "with private members": changed(d="AQAB", p="AQAB"),
    "with the longest id": changed(kid="~" * 256),
}

BAD: dict[str, Entry] = {
    "null": lambda key: None,
    "number": lambda key: 7,
    "text": lambda key: "RSA",
    "list": lambda key: [key.jwk],
    "empty": lambda key: {},
    "symmetric": lambda key: {"kty": "oct", "kid": key.kid, "k": key.jwk["n"], "alg": "HS256"},
    "EC": lambda key: {**key.jwk, "kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"},
    "kty spelt differently": changed(kty="rsa"),
    "for encryption": changed(use="enc"),
    "use of another type": changed(use=["sig"]),
    "other algorithm": changed(alg="RS512"),
    "alg none": changed(alg="none"),
    "alg of another type": changed(alg=256),
    "512 bits": lambda key: {**key.jwk, "n": number((1 << 511) | 1)},
    "2047 bits": with_numbers(lambda n: (n >> 1) | 1),
    "8193 bits": with_numbers(lambda n: (1 << 8192) | 1),
    "even modulus": with_numbers(lambda n: n - 1),
    "exponent 1": with_numbers(e=1),
    "exponent 3": with_numbers(e=3),
    "even exponent": with_numbers(e=65538),
    "exponent of 33 bits": with_numbers(e=2**32 + 1),
    "without n": changed(n=None),
    "without e": changed(e=None),
    "n is no text": changed(n=65537),
    "n is empty": changed(n=""),
    "n padded": lambda key: {**key.jwk, "n": key.jwk["n"] + "=="},
    "n in the other alphabet": lambda key: {**key.jwk, "n": "+/" + key.jwk["n"][2:]},
    "n with spare bits": lambda key: {**key.jwk, "n": key.jwk["n"][:-1] + chr(ord(key.jwk["n"][-1]) + 1)},
    "n of impossible length": lambda key: {**key.jwk, "n": key.jwk["n"] + "AAA"},
    "without kid": changed(kid=None),
    "kid of another type": changed(kid=7),
    "kid empty": changed(kid=""),
    "kid too long": changed(kid="a" * 257),
    "kid with a line break": changed(kid="ins\n"),
    "kid not ASCII": changed(kid="ïns"),
}


@pytest.mark.parametrize("entry", GOOD.values(), ids=GOOD.keys())
def test_a_good_entry_is_used(
    ring: FetchedKeyRing, local_clerk: LocalClerk, entry: Callable[[SigningKey], Any]
) -> None:
    """KEY-04, F-24."""
    jwk = entry(local_clerk.signing_key)
    local_clerk.key_set_override([jwk])
    assert get(ring, jwk["kid"]) == public(local_clerk.signing_key)


@pytest.mark.parametrize("entry", BAD.values(), ids=BAD.keys())
def test_a_bad_entry_is_skipped(
    ring: FetchedKeyRing, local_clerk: LocalClerk, entry: Callable[[SigningKey], Any]
) -> None:
    """KEY-04: and does not cost the good ones beside it."""
    bad = SigningKey("ins_bad", local_clerk.signing_key.private_key)
    local_clerk.key_set_override([entry(bad), local_clerk.signing_key.jwk])
    assert get(ring, local_clerk.signing_key) == public(local_clerk.signing_key)
    assert refused(ring, "ins_bad") == "jwk-kid-mismatch"


@pytest.mark.parametrize("entry", BAD.values(), ids=BAD.keys())
def test_a_set_without_a_good_key_replaces_nothing(
    warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock, entry: Entry
) -> None:
    """KEY-04, F-06."""
    key = get(warm, local_clerk.signing_key)
    local_clerk.key_set_override([entry(local_clerk.signing_key)])
    clock.now += HOUR
    assert get(warm, local_clerk.signing_key) is key
    assert local_clerk.calls.key_fetches == 1
    unavailable(warm, "ins_new")


def test_with_no_good_key_at_all_clerk_is_not_asked_for_every_request(
    ring: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock
) -> None:
    """KEY-04, I6: here the breaker is no help, for the API answers."""
    local_clerk.key_set_override([])
    for _ in range(50):
        unavailable(ring, local_clerk.signing_key.kid)
    assert local_clerk.calls.key_fetches == 1
    local_clerk.key_set_override(None)
    clock.now += 5
    assert get(ring, local_clerk.signing_key) == public(local_clerk.signing_key)


def test_an_id_that_stands_for_two_keys_stands_for_none(ring: FetchedKeyRing, local_clerk: LocalClerk) -> None:
    """KEY-04."""
    one = local_clerk.signing_key
    other = local_clerk.rotate_keys(same_kid=True)
    third = local_clerk.rotate_keys()
    local_clerk.key_set_override([one.jwk, other.jwk, one.jwk, third.jwk, third.jwk])
    assert get(ring, third) == public(third)  # twice the same is no contradiction
    assert refused(ring, one.kid) == "jwk-kid-mismatch"


def test_a_hundred_keys_are_looked_at(ring: FetchedKeyRing, local_clerk: LocalClerk) -> None:
    """KEY-04: of ten thousand."""
    template = local_clerk.signing_key.jwk
    local_clerk.key_set_override([{**template, "kid": f"ins_{number}"} for number in range(2000)])
    assert get(ring, "ins_99") == public(local_clerk.signing_key)
    assert refused(ring, "ins_100") == "jwk-kid-mismatch"


# PEM


def pem(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_bytes(serialization.Encoding.PEM, form).decode())


def test_a_pem_key_needs_no_network_and_no_id(local_clerk: LocalClerk, settings: Any) -> None:
    """KEY-06."""
    settings.CLERK_JWT_KEY = local_clerk.signing_key.public_pem.replace("\n", "\\n")
    ring = get_key_ring(config())
    key = public(local_clerk.signing_key)
    for kid in ("ins_other", None, "\0"):
        assert ring.peek(kid) == key
        assert ring.get(kid, Budget(0)) == key
        assert ring.replace(kid, key, Budget(0)) is None
    assert local_clerk.calls.total == 0


WEAK = {
    "1024 bits": lambda: rsa.generate_private_key(65537, 1024).public_key(),  # noqa: S505  # weak on purpose
    "exponent 3": lambda: rsa.generate_private_key(3, 2048).public_key(),
    "elliptic curve": lambda: ec.generate_private_key(ec.SECP256R1()).public_key(),
    "Ed25519": lambda: ed25519.Ed25519PrivateKey.generate().public_key(),
}


@pytest.mark.parametrize("make", WEAK.values(), ids=WEAK.keys())
def test_a_pem_that_is_no_strong_rsa_key_is_refused(
    local_clerk: LocalClerk, settings: Any, make: Callable[[], Any]
) -> None:
    """KEY-06, CFG-03: with a text that helps and shows nothing of the key."""
    text = pem(make())
    with pytest.raises(ValueError, match="RSA"):
        parse_pem(text)
    settings.CLERK_JWT_KEY = text
    with pytest.raises(ImproperlyConfigured, match="CLERK_JWT_KEY is PEM, but its? .*Copy") as caught:
        get_key_ring(config())
    assert text.splitlines()[1] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "text",
    ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "ï"],
    ids=["empty", "not DER", "not ASCII"],
)
def test_a_text_that_is_no_key_is_refused(text: str) -> None:
    """KEY-06."""
    with pytest.raises(ValueError, match="cannot be read"):
        parse_pem(text)


def test_a_private_key_is_refused_and_not_shown(local_clerk: LocalClerk) -> None:
    """KEY-06."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    text = local_clerk.signing_key.private_key.private_bytes(encoding, form, serialization.NoEncryption()).decode()
    with pytest.raises(ValueError, match="cannot be read") as caught:
        parse_pem(text)
    assert text.splitlines()[1] not in "".join(traceback.format_exception(caught.value))


# One ring per configuration


def test_the_same_settings_have_the_same_ring(local_clerk: LocalClerk, settings: Any) -> None:
    """CFG-05, TOK-16: keys belong to an address and a secret key, never to a key id alone."""
    ring = get_key_ring(config())
    assert get_key_ring(config()) is ring
    settings.CLERK_TIMEOUT_MS = 1000
    assert get_key_ring(config()) is ring
    assert get(ring, local_clerk.signing_key) == public(local_clerk.signing_key)
    settings.CLERK_SECRET_KEY = "sk_test_other"
    other = get_key_ring(config())
    assert other.peek(local_clerk.signing_key.kid) is None
    unavailable(other, local_clerk.signing_key.kid)
    settings.CLERK_JWT_KEY = local_clerk.signing_key.public_pem
    assert get_key_ring(config()) not in (ring, other)
    settings.CLERK_JWT_KEY = ""
    settings.CLERK_SECRET_KEY = local_clerk.secret_key
    assert get_key_ring(config()) is ring


def test_rings_of_settings_long_gone_are_forgotten(local_clerk: LocalClerk, settings: Any) -> None:
    ring = get_key_ring(config())
    for number in range(keys.MAX_RINGS):
        settings.CLERK_SECRET_KEY = f"sk_test_{number}"
        get_key_ring(config())
    settings.CLERK_SECRET_KEY = local_clerk.secret_key
    assert get_key_ring(config()) is not ring


# Interrupted, forked, shut down


class Interrupted(BaseException):
    """As a signal handler or a server's worker timeout raises it."""


def test_nobody_waits_for_a_fetch_that_was_interrupted(ring: FetchedKeyRing, local_clerk: LocalClerk) -> None:
    """KEY-07, F-30, CTX-02: and the next caller fetches."""
    local_clerk.faults.slow(1.5, times=1)

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    def wait_in_vain() -> float:
        wait_for(lambda: local_clerk.calls.total == 1)
        began = time.monotonic()
        unavailable(ring, local_clerk.signing_key.kid)
        return time.monotonic() - began

    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(wait_in_vain)
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            with pytest.raises(Interrupted):
                get(ring, local_clerk.signing_key)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert waiter.result() < 1
    assert get(ring, local_clerk.signing_key) == public(local_clerk.signing_key)


FORK = """
import os, sys, threading, time
from django.conf import settings
settings.configure(CLERK_SECRET_KEY=sys.argv[1], CLERK_API_URL=sys.argv[2])
from clerk_views import keys
from clerk_views.calls import Budget
from clerk_views.conf import Config, config, read_raw
keys.get_key_ring(Config({**read_raw(), "CLERK_JWT_KEY": sys.argv[4]}))
ring = keys.get_key_ring(config())
key = ring.get(sys.argv[3], Budget(5))
ring._clock = lambda: time.monotonic() + 31  # a refresh is allowed again
waiting = threading.Thread(target=lambda: ring.replace(sys.argv[3], key, Budget(5)))
waiting.start()  # fetches, and does not come to the child
while ring._flight is None:
    time.sleep(0.01)
child = os.fork()
if not child:
    assert keys.get_key_ring(config()) is ring
    assert ring.peek(sys.argv[3]) is key, "the keys stay"
    began = time.monotonic()
    assert ring.replace(sys.argv[3], key, Budget(5)) is None
    assert 0.4 < time.monotonic() - began < 3, "it did not fetch for itself"
    os._exit(0)
waiting.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_keeps_the_keys_and_waits_for_no_thread_of_its_parent(local_clerk: LocalClerk) -> None:
    """F-29, CTX-03."""
    local_clerk.faults.slow(0, times=1)
    local_clerk.faults.slow(0.5)
    key = local_clerk.signing_key
    arguments = (local_clerk.secret_key, local_clerk.url, key.kid, key.public_pem)
    subprocess.run([sys.executable, "-c", FORK, *arguments], check=True, timeout=30)
    assert local_clerk.calls.key_fetches == 3


def test_keys_serve_where_no_thread_can_be_started(warm: FetchedKeyRing, local_clerk: LocalClerk, clock: Clock) -> None:
    """F-29: as while the interpreter shuts down. The refresh is put off."""
    clock.now += 30 * MINUTE
    threading.stack_size(2**46)  # more than there is: no thread starts with that
    try:
        assert warm.peek(local_clerk.signing_key.kid)
        assert warm.peek(local_clerk.signing_key.kid)
    finally:
        threading.stack_size(0)
    assert local_clerk.calls.total == 0
    clock.now += 30
    assert warm.peek(local_clerk.signing_key.kid)
    fetched_in_background(warm)
    assert local_clerk.calls.key_fetches == 1


def test_nothing_is_logged_of_keys(
    ring: FetchedKeyRing, local_clerk: LocalClerk, caplog: pytest.LogCaptureFixture
) -> None:
    """LOG-01, KEY-06."""
    caplog.set_level(logging.DEBUG)
    get(ring, local_clerk.signing_key)
    refused(ring, "ins_new")
    assert local_clerk.signing_key.jwk["n"] not in caplog.text
    assert local_clerk.secret_key not in caplog.text
    assert local_clerk.secret_key not in repr(vars(ring))
