"""
Project Wycheproof's public vectors, read where they lie beside the clone; skipped where they do not.

Apache License 2.0, https://github.com/C2SP/wycheproof, ``testvectors_v1``. Not part of the package.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from clerk_views import keys, tokens
from clerk_views.exceptions import TokenRefused
from clerk_views.testing.minting import mint
from tests import strict_verifier
from tests.minted import CONFIG, KEY, claims, configured, judged, public_key

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "wycheproof"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="Project Wycheproof's vectors are not beside the clone, in ../shared/wycheproof"
)

# Ours, and one that compares nothing but what it must; so that no vector is refused for our own settings alone.
CONFIGS = (CONFIG, configured(CLERK_PUBLISHABLE_KEY=None, CLERK_AUTH_PARTIES=[]))

Vector = dict[str, Any]


def vectors(name: str) -> Iterator[tuple[dict[str, Any], Vector]]:
    """Yield each vector of a file with its group."""
    for group in json.loads((FOLDER / f"{name}_test.json").read_text())["testGroups"]:
        for vector in group["tests"]:
            yield group, vector


def key_set_of(group: dict[str, Any]) -> list[Any]:
    """Return what a group verifies with, as entries of a key set."""
    keys = group.get("public") or group["private"]
    entries: list[Any] = keys.get("keys", [keys])
    return entries


def usable_keys(group: dict[str, Any]) -> list[RSAPublicKey]:
    """Return those that we would use, had Clerk's key set contained them."""
    return list(keys.usable(key_set_of(group)).values())


@pytest.mark.parametrize(
    ("name", "count"),
    [("json_web_signature", 401), ("json_web_crypto", 83), ("json_web_encryption", 139), ("json_web_key", 26)],
)
def test_as_bearer_tokens_all_are_refused(name: str, count: int) -> None:
    """TOK-01 to TOK-05: whatever they prove elsewhere, none is a session token; and none is more than refused."""
    seen = 0
    accepted = []
    for group, vector in vectors(name):
        seen += 1
        text = vector.get("jws", vector.get("jwe"))
        text = text if isinstance(text, str) else json.dumps(text)
        meta = {"HTTP_COOKIE": f"__session={text}"}
        for config in CONFIGS:
            in_cookie = tokens.find(meta, config)
            in_header = tokens.find(meta | {"HTTP_AUTHORIZATION": f"Bearer {text}"}, config)
            assert in_header.carrier == "header"
            for candidate in {text, *(one for group in (*in_header.groups, *in_cookie.groups) for one in group)}:
                tokens.is_foreign(candidate, config)
                for key in usable_keys(group) or [public_key()]:
                    try:
                        tokens.verify(tokens.parse(candidate), key, config)
                    except TokenRefused:
                        continue
                    accepted.append(vector["tcId"])
    assert seen == count
    assert not accepted


# What the vectors refuse for a member of a key that the threat model does not name: "key_ops", where Clerk has "use".
KEY_OPS = {355}


def test_rs256_step() -> None:
    """TOK-01, TOK-04, KEY-04: below the claims, the step that tokens.verify() stands on says what the vectors say."""
    good, expected = set(), set()
    for group, vector in vectors("json_web_signature"):
        for key in usable_keys(group):
            with suppress(TokenRefused, ValueError, AttributeError):
                head, payload, signature = vector["jws"].split(".")
                is_good = tokens.rs256().verify(f"{head}.{payload}".encode(), key, tokens.decode(signature))
                if is_good and json.loads(tokens.decode(head))["alg"] == "RS256":
                    good.add(vector["tcId"])
        # Valid under another algorithm is still not valid as RS256.
        if vector["result"] == "valid" and "public" in group and group["public"].get("alg") == "RS256":
            expected.add(vector["tcId"])
    assert len(expected) == 8
    assert good - KEY_OPS == expected


def test_keys() -> None:
    """KEY-04: none crashes, and of all only RSA signing keys of 2048 bits and more are used."""
    used = {vector["tcId"] for group, vector in vectors("json_web_key") if usable_keys(group)}
    assert used == {5, 7}  # 7 was made with a weak generator, which nobody sees who trusts Clerk's key set


def test_headers() -> None:
    """TOK-01, TOK-03, TOK-05: the vectors' headers over good claims, genuinely signed, judged by both verifiers."""
    numbers = public_key().public_numbers()
    rules = strict_verifier.Rules(numbers.n, numbers.e)
    heads = set()
    for name in ("json_web_signature", "json_web_crypto", "json_web_encryption"):
        for _, vector in vectors(name):
            text = vector.get("jws", vector.get("jwe"))
            with suppress(binascii.Error):
                heads.add(base64.b64decode(text.split(".")[0] + "==", "-_") if isinstance(text, str) else b"")
    wrong = []
    for head in heads:
        text = mint(head, claims(), KEY)
        reason = judged(text)
        try:
            strict_verifier.judge(text, rules, tokens.now())
            stage = "good"
        except strict_verifier.Refused as refused:
            stage = refused.stage
        if (reason == "good") != (stage == "good"):
            wrong.append((head, reason, stage))
    assert len(heads) > 60
    assert not wrong


def test_rsa_step() -> None:
    """TOK-01: raw PKCS#1 v1.5 with SHA-256, by the step we use and by the second verifier."""
    step = jwt.get_algorithm_by_name("RS256")
    seen = {"valid": 0, "acceptable": 0, "invalid": 0}
    wrong = []
    for group, vector in vectors("rsa_signature_2048_sha256"):
        key = load_pem_public_key(group["publicKeyPem"].encode())
        assert isinstance(key, RSAPublicKey)
        message, signature = bytes.fromhex(vector["msg"]), bytes.fromhex(vector["sig"])
        numbers = key.public_numbers()
        verdicts = {
            step.verify(message, key, signature),
            strict_verifier.holds(message, signature, numbers.n, numbers.e),
        }
        seen[vector["result"]] += 1
        if vector["result"] != "acceptable" and verdicts != {vector["result"] == "valid"}:
            wrong.append(vector["tcId"])
    assert seen == {"valid": 9, "acceptable": 1, "invalid": 249}
    assert not wrong
