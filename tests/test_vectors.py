"""
Project Wycheproof's public vectors, read where they lie beside the clone; skipped where they do not.

Apache License 2.0, https://github.com/C2SP/wycheproof, ``testvectors_v1``. Not part of the package.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from clerk_views import tokens
from clerk_views.exceptions import TokenRefused
from clerk_views.testing.minting import mint
from tests import strict_verifier
from tests.minted import CONFIG, KEY, OTHER_KEY, configured, judged

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


def rsa_key(jwk: Any) -> RSAPublicKey | None:
    """Return the key of a JWK if it is an RSA key; ours judge nothing with another."""
    if not isinstance(jwk, dict) or jwk.get("kty") != "RSA":
        return None
    key = jwt.algorithms.RSAAlgorithm.from_jwk(jwk)
    return key if isinstance(key, RSAPublicKey) else key.public_key()


def jwks_of(group: dict[str, Any]) -> Iterator[Any]:
    for name in ("public", "private"):
        jwk = group.get(name)
        yield from jwk["keys"] if isinstance(jwk, dict) and "keys" in jwk else [jwk]


def keys_for(group: dict[str, Any]) -> list[RSAPublicKey]:
    """Return the RSA keys that a group brings, and one of ours for those that bring none."""
    found = [rsa_key(jwk) for jwk in jwks_of(group)]
    return [key for key in found if key is not None] or [KEY.private_key.public_key()]


@pytest.mark.parametrize(
    ("name", "member", "count"),
    [
        ("json_web_signature", "jws", 401),
        ("json_web_crypto", "jws", 83),
        ("json_web_encryption", "jwe", 139),
        ("json_web_key", "jws", 26),
    ],
)
def test_as_bearer_tokens_all_are_refused(name: str, member: str, count: int) -> None:
    """TOK-01 to TOK-05: whatever they prove elsewhere, none is a session token; and none is more than refused."""
    seen = 0
    accepted = []
    for group, vector in vectors(name):
        seen += 1
        text = vector.get(member) or vector.get("jwe") or vector.get("jws")
        text = text if isinstance(text, str) else json.dumps(text)
        for config in CONFIGS:
            found = tokens.find({"HTTP_AUTHORIZATION": f"Bearer {text}", "HTTP_COOKIE": f"__session={text}"}, config)
            assert found.carrier == "header"
            in_cookie = tokens.find({"HTTP_COOKIE": f"__session={text}"}, config)
            candidates = {one for group_ in (*found.groups, *in_cookie.groups) for one in group_} | {text}
            for candidate in candidates:
                tokens.is_foreign(candidate, config)
                for key in keys_for(group):
                    try:
                        tokens.verify(tokens.parse(candidate), key, config)
                    except TokenRefused:
                        continue
                    accepted.append(vector["tcId"])
    assert seen == count
    assert not accepted


def test_rs256_step() -> None:
    """TOK-01, TOK-04: below the claims, the step that tokens.verify() stands on says what the vectors say."""
    wrong = []
    accepted = refused = 0
    for group, vector in vectors("json_web_signature"):
        good = False
        for key in keys_for(group):
            try:
                jwt.api_jws.decode(vector["jws"], key, algorithms=["RS256"])
                good = True
            except jwt.PyJWTError:
                pass
        # Valid under another algorithm is still not valid as RS256.
        expected = vector["result"] == "valid" and group.get("public", {}).get("alg", "RS256") == "RS256"
        expected = expected and group.get("public", {}).get("kty") == "RSA"
        accepted, refused = accepted + good, refused + (not good)
        if good != expected:
            wrong.append((vector["tcId"], vector["comment"]))
    assert not wrong
    assert (accepted, refused) == (8, 393)


def test_what_is_refused_before_the_key() -> None:
    """TOK-01, TOK-03: the second verifier and ours agree on the vectors' headers, seen with good claims inside."""
    for _, vector in vectors("json_web_signature"):
        parts = vector["jws"].split(".") if isinstance(vector["jws"], str) else []
        if len(parts) != 3:
            continue
        numbers = KEY.private_key.public_key().public_numbers()
        rules = strict_verifier.Rules(numbers.n, numbers.e)
        reason = judged(vector["jws"])
        try:
            strict_verifier.judge(vector["jws"], rules, tokens.now())
        except strict_verifier.Refused as refusal:
            assert (refusal.stage == "signature") == (reason == "token-invalid-signature"), vector["tcId"]
        assert reason != "good"


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


def test_second_verifier_accepts_what_we_mint() -> None:
    """Or agreeing on refusals would prove nothing."""
    text = mint({"alg": "RS256"}, {}, OTHER_KEY)
    signed, _, signature = text.rpartition(".")
    numbers = OTHER_KEY.private_key.public_key().public_numbers()
    assert strict_verifier.holds(signed.encode(), jwt.utils.base64url_decode(signature), numbers.n, numbers.e)
