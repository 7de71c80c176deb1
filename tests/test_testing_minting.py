"""Signatures and keys, as a library that is not ours sees them."""

from __future__ import annotations

import jwt

from clerk_views.testing.minting import mint, new_signing_key


def test_arbitrary_bytes_are_signed_genuinely() -> None:
    key = new_signing_key()

    token = mint(b'{"alg":"RS256"}', b"\xff not JSON", key)

    header, payload, signature = token.split(".")
    assert jwt.utils.base64url_decode(payload) == b"\xff not JSON"
    assert jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).verify(
        f"{header}.{payload}".encode(), key.private_key.public_key(), jwt.utils.base64url_decode(signature)
    )
    assert mint(b'{"alg":"RS256"}', b"\xff not JSON", key.private_key) == token


def test_a_key_shows_only_its_public_half() -> None:
    key = new_signing_key("ins_1")

    assert repr(key) == "SigningKey(kid='ins_1')"
    assert key.private_key.key_size == 2048
    assert set(key.jwk) == {"use", "kty", "kid", "alg", "n", "e"}
    assert jwt.PyJWK(key.jwk).key.public_numbers() == key.private_key.public_key().public_numbers()
