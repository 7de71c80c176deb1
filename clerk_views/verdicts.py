"""
Is this token good, and what does this process remember of it?

A verdict on a token is kept until the token expires, under the token's SHA-256 and for one configuration; it names no
Django user, who is looked up each time.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from django.views.decorators.debug import sensitive_variables

from clerk_views import handshake, keys, signals, tokens
from clerk_views.auth import ClerkAuth
from clerk_views.exceptions import ClerkUnavailable, NotInMemory, TokenRefused
from clerk_views.states import Memo, Verdict, send_once

if TYPE_CHECKING:  # 25 ms to import
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

#: Verdicts kept per configuration. Measured: 2.9 KB each with a token of 900 characters, so at most 12 MB.
MAX_VERDICTS = 4096

T = TypeVar("T")


class _Verdicts:
    """
    The verdicts of one configuration under the SHA-256 of their tokens, the oldest forgotten first.

    The digest is remembered with the verdict, for the token that it holds anyway. Measured: for 900 characters OpenSSL
    takes 1 µs by itself, but 8 µs in the midst of a request.
    """

    def __init__(self) -> None:
        self._entries: dict[bytes, Verdict] = {}
        self._digests: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def find(self, token: str) -> tuple[bytes, Verdict | None]:
        """Return a token's digest, and the verdict on it if there is one."""
        digest = self._digests.get(token) or hashlib.sha256(token.encode("utf-8", "replace")).digest()
        return digest, self._entries.get(digest)

    def put(self, digest: bytes, verdict: Verdict) -> None:
        with self._lock:
            if len(self._entries) >= MAX_VERDICTS:
                self._forget(next(iter(self._entries)))
            self._entries[digest] = verdict
            self._digests[verdict.token] = digest

    def drop(self, digest: bytes) -> None:
        with self._lock:
            self._forget(digest)

    def _forget(self, digest: bytes) -> None:
        gone = self._entries.pop(digest, None)
        if gone is not None:
            self._digests.pop(gone.token, None)


@lru_cache(maxsize=48)
def remembered(fingerprint: str, token_type: str, /) -> _Verdicts:
    """Return the verdicts on one kind of token, so that none is ever taken for another's (MCH-01)."""
    return _Verdicts()


os.register_at_fork(after_in_child=remembered.cache_clear)  # a lock held by another thread would stay held for ever


class Judged(NamedTuple):
    """
    What came of the tokens under one name.

    Attributes:
        verdict: None when none is good.
        refused: Why none is, and of which token it is said.
    """

    verdict: Verdict | None
    refused: TokenRefused
    token: str | None = None

    def __repr__(self) -> str:
        return f"<Judged {self.verdict or self.refused}>"


_UNREADABLE = TokenRefused("token-invalid", "not of a token's shape")
_RECOVERABLE = ("token-expired", handshake.STALE, *handshake.CLOCK_REASONS)


@sensitive_variables()
def judge_all(group: Iterable[str], memo: Memo, offline: bool, since: float = 0) -> Judged:
    """
    Judge the tokens that stand under one name. Those that verify must agree on who it is (SRC-06).

    Args:
        since: UNIX seconds; a token issued before is a left-over of an earlier sign-in.

    Raises:
        ClerkUnavailable: None is good, and of one it cannot be decided.
    """
    good: list[Verdict] = []
    refused: TokenRefused | None = None
    of: str | None = None
    unavailable: ClerkUnavailable | None = None
    for token in group:
        try:
            good.append(judge(token, memo, offline, since=since))
        except TokenRefused as error:
            # A token that may be renewed says more than junk beside it.
            if refused is None or (error.reason in _RECOVERABLE and refused.reason not in _RECOVERABLE):
                refused, of = error, token
        except ClerkUnavailable as error:
            unavailable = unavailable or error
    if len({verdict.session for verdict in good}) > 1:
        return Judged(None, TokenRefused("token-invalid", "two sessions under one name"), good[0].token)
    if good:
        return Judged(max(good, key=lambda verdict: verdict.issued), _UNREADABLE)
    if unavailable is not None:
        raise unavailable
    return Judged(None, refused or _UNREADABLE, of)


def recall(token: str, token_type: str, memo: Memo) -> tuple[bytes, Verdict | None]:
    """
    Return a token's digest, and the verdict on it that is in memory.

    The last answer is kept for the request, as the token's kind and the token itself are asked about: 1 µs each.
    """
    asked = (token, token_type)
    if memo.recalled is None or memo.recalled[0] != asked:
        memo.recalled = (asked, *remembered(memo.config.fingerprint, token_type).find(token))
    return memo.recalled[1:]


def apart(memo: Memo, token: str) -> tokens.Pieces:
    """Take a token apart. The last is kept for the request, for whoever looks at it once more: 15 µs each."""
    if memo.pieces is None or memo.pieces[0] != token:
        memo.pieces = (token, tokens.take_apart(token))
    return memo.pieces[1]


@sensitive_variables()
def judge(
    token: str,
    memo: Memo,
    offline: bool,
    *,
    token_type: str = "session_token",
    since: float = 0,
    leeway: float | None = None,
) -> Verdict:
    """
    Return the verdict on a good JWT, out of memory if it is there.

    Args:
        token_type: What it has to be.
        since: See judge_all().
        leeway: Clock difference allowed, in seconds; None for the configured one. What another one allows is not
            remembered.
    """
    settings = memo.config
    ring = keys.get_key_ring(settings)
    is_session = token_type == "session_token"
    verdicts = remembered(settings.fingerprint, token_type)
    digest, verdict = recall(token, token_type, memo)
    if verdict is not None:
        if verdict.holds(ring):
            if verdict.issued < since:
                raise TokenRefused(handshake.STALE)
            return verdict
        verdicts.drop(digest)
    taken = partial(apart, memo)
    parsed = tokens.parse(token, taken) if is_session else tokens.parse_machine(token, token_type, taken)
    seen = parsed.seen
    if seen.issued is not None and seen.issued < since:
        raise TokenRefused(handshake.STALE)

    def verify(key: RSAPublicKey) -> dict[str, Any]:
        send_once(signals.clerk_cache_miss, memo, token, offline)
        if is_session:
            return tokens.verify(parsed, key, settings, leeway=leeway)
        return tokens.verify_machine(parsed, key, settings, token_type)

    claims, key = with_key(parsed, memo, offline, verify)
    text = parsed.pieces.text
    verdict = Verdict(
        auth=ClerkAuth.from_session(token, claims, text)
        if is_session
        else ClerkAuth.from_machine(
            token,
            token_type,
            claims,
            text,
            scopes=tokens.scopes_of(claims, token_type),
            expires=claims["exp"],
            actor=claims.get("act"),
        ),
        token=token,
        claims=text,
        session=(claims["sub"], claims["sid"] if is_session else ""),
        issued=claims.get("iat", 0),
        not_before=claims.get("nbf", 0),
        expires=claims["exp"],
        key_id=parsed.key_id,
        key=key,
        seen=seen,
        has_party=bool(claims.get("azp")),
    )
    if leeway is None:
        verdicts.put(digest, verdict)
        memo.recalled = None
    return verdict


def with_key(
    parsed: tokens.Parsed, memo: Memo, offline: bool, verify: Callable[[RSAPublicKey], T]
) -> tuple[T, RSAPublicKey]:
    """Return what ``verify`` says, and the key with which it does not find the signature bad."""
    ring = keys.get_key_ring(memo.config)
    key = ring.peek(parsed.key_id) if offline else ring.get(parsed.key_id, memo.budget)
    if key is None:
        raise NotInMemory
    try:
        return verify(key), key
    except TokenRefused as refused:
        if refused.reason != "token-invalid-signature":
            raise
        if offline:
            raise NotInMemory from None
        # Clerk may have put another key under the same id; the ring looks, within its rate limit (KEY-02).
        another = ring.replace(parsed.key_id, key, memo.budget)
        if another is None:
            raise
        return verify(another), another
