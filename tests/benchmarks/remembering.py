"""What a process keeps of the tokens that it has seen: ``python -m tests.benchmarks.remembering good 100000``."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import django
from django.test import RequestFactory, override_settings

from tests.benchmarks.worker import ROOT, environment

AT_MOST = 20  # MB, for 100 000 tokens
_ORIGIN = "https://app.example.com"


def measure(kind: str, count: int) -> list[float]:
    """Return how many MB a fresh process has grown after a half and after all of so many ``good`` or ``bad`` tokens."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", __name__, kind, str(count)],
        cwd=ROOT,
        env=environment(
            library="clerk_views",
            database={"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
            clerk={"CLERK_SECRET_KEY": "sk_test_x", "CLERK_AUTH_PARTIES": [_ORIGIN], "CLERK_ISSUER": _ORIGIN},
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    grown: list[float] = json.loads(done.stdout)
    return grown


def _resident() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(kind: str, count: int) -> None:
    django.setup()
    from clerk_views import authentication
    from clerk_views.testing.minting import mint, new_id, new_signing_key, session_claims, session_header

    ours, other = new_signing_key("ins_ours"), new_signing_key("ins_ours")
    header = session_header(ours.kid)

    def tokens(count: int) -> Iterator[str]:
        for _ in range(count):
            claims = session_claims(
                user_id=new_id("user"), session_id=new_id("sess"), issuer=_ORIGIN, azp=_ORIGIN, expires_in=86_400
            )
            # As long as tokens of an organisation are, and signed by Clerk's key or by another of the same name.
            claims |= {"o": {"id": new_id("org"), "rol": "admin", "slg": "acme"}, "more": "x" * 200}
            yield mint(header, claims, ours if kind == "good" else other)

    def see(count: int) -> None:
        for token in tokens(count):
            state = authentication.authenticate(RequestFactory().get("/", headers={"authorization": f"Bearer {token}"}))
            if state.is_signed_in is not (kind == "good"):
                raise RuntimeError(f"A {kind} token was taken for {state.status}: {state.reason}.")

    with override_settings(CLERK_JWT_KEY=ours.public_pem):
        see(50)  # what is imported and built once
        before = _resident()
        grown = []
        for _ in range(2):
            see(count // 2)
            grown.append(round(_resident() - before, 1))
    print(json.dumps(grown))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
