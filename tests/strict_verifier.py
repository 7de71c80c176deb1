"""
A second verifier of session tokens, written from the rules alone: to be compared with ours, never to be used.

It shares nothing with clerk_views nor with PyJWT: its own base64url, its own JSON, and RSA by modular exponentiation.
Slow, and not in constant time; which does not matter, because it only ever sees public keys and made-up tokens.

Sources: RFC 4648, RFC 7515, RFC 7519, RFC 8017 section 8.2.2, RFC 8259; Clerk, "Manual JWT verification".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NoReturn

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
ALPHABET = LETTERS + DIGITS + "-_"

# DER of DigestInfo { SHA-256 with NULL parameters, 32 octets }. RFC 8017, section 9.2, note 1.
SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")

YEAR_10000 = 253_402_300_800


class Refused(Exception):
    """
    No.

    Attributes:
        stage: ``shape``, ``header``, ``signature`` or ``claims``: how far the token got.
    """

    def __init__(self, stage: str, why: str) -> None:
        super().__init__(f"{stage}: {why}")
        self.stage = stage


@dataclass(frozen=True)
class Rules:
    """What one application accepts. Empty issuers, parties or audience: not compared. Leeway in seconds."""

    modulus: int
    exponent: int
    issuers: tuple[str, ...] = ()
    parties: tuple[str | None, ...] = ()
    audience: tuple[str, ...] = ()
    leeway: float = 5.0


def judge(token: str, rules: Rules, now: float) -> dict[str, Any]:
    """
    Return the claims of a good token.

    Raises:
        Refused: It is none.
    """
    if len(token) > 16_384:
        raise Refused("shape", "too long")
    parts = token.split(".")
    if len(parts) != 3:
        raise Refused("shape", "not three parts")
    head, body, signature = (_bytes_of(part) for part in parts)
    header, claims = _object_of(head), _object_of(body)
    _judge_header(header)
    signed = (parts[0] + "." + parts[1]).encode()
    if not holds(signed, signature, rules.modulus, rules.exponent):
        raise Refused("signature", "does not hold")
    _judge_times(claims, rules, now)
    _judge_identity(claims)
    _judge_relations(claims, rules)
    return claims


def holds(message: bytes, signature: bytes, modulus: int, exponent: int) -> bool:
    """Whether this is the RSASSA-PKCS1-v1_5 signature with SHA-256: the one that exists, built anew and compared."""
    size = (modulus.bit_length() + 7) // 8
    number = int.from_bytes(signature, "big")
    if len(signature) != size or number >= modulus:
        return False
    encoded = pow(number, exponent, modulus).to_bytes(size, "big")
    tail = SHA256_PREFIX + hashlib.sha256(message).digest()
    return encoded == b"\x00\x01" + b"\xff" * (size - len(tail) - 3) + b"\x00" + tail


def _judge_header(header: dict[str, Any]) -> None:
    if not _is(header.get("alg"), "RS256"):
        raise Refused("header", "alg")
    for name in header:
        if name in {"crit", "b64", "zip", "enc", "cty", "jwk", "jku", "x5u", "x5c"}:
            raise Refused("header", name)
    if "typ" in header and not _is(header["typ"], "JWT"):
        raise Refused("header", "typ")
    if "cat" in header and not _is(header["cat"], "cl_B7d4PD111AAA", "cl_I7d4PD111III"):
        raise Refused("header", "cat")
    if "kid" in header:
        kid = header["kid"]
        if type(kid) is not str or not 1 <= len(kid) <= 256 or any(not 32 <= ord(letter) <= 126 for letter in kid):
            raise Refused("header", "kid")


def _judge_times(claims: dict[str, Any], rules: Rules, now: float) -> None:
    for name in ("exp", "iat", "nbf"):
        if name not in claims and name == "nbf":
            continue
        value: Any = claims.get(name)
        if type(value) not in (int, float) or value < 0 or value >= YEAR_10000:
            raise Refused("claims", name)
    if claims["exp"] <= now - rules.leeway:
        raise Refused("claims", "exp is over")
    if max(claims["iat"], claims.get("nbf", 0)) > now + rules.leeway:
        raise Refused("claims", "not yet")
    if claims["exp"] < claims["iat"]:
        raise Refused("claims", "exp before iat")


def _judge_identity(claims: dict[str, Any]) -> None:
    subject, session = claims.get("sub"), claims.get("sid")
    if type(subject) is not str or not subject.startswith("user_"):
        raise Refused("claims", "sub")
    if not 1 <= len(subject[5:]) <= 250 or set(subject[5:]) - set(LETTERS + DIGITS):
        raise Refused("claims", "sub")
    if type(session) is not str or not 1 <= len(session) <= 255 or set(session) - set(LETTERS + DIGITS + "_"):
        raise Refused("claims", "sid")
    if "jti" in claims and type(claims["jti"]) is not str:  # RFC 7519, section 4.1.7
        raise Refused("claims", "jti")


def _judge_relations(claims: dict[str, Any], rules: Rules) -> None:
    if rules.issuers and not _is(claims.get("iss"), *rules.issuers):
        raise Refused("claims", "iss")
    audience: list[Any] = []
    if "aud" in claims:
        audience = claims["aud"] if type(claims["aud"]) is list else [claims["aud"]]
    if any(type(one) is not str for one in audience):
        raise Refused("claims", "aud")
    if rules.audience and not set(rules.audience) & set(audience):
        raise Refused("claims", "aud")
    party = claims.get("azp")
    if rules.parties and not (None in rules.parties if party in (None, "") else _is(party, *rules.parties)):
        raise Refused("claims", "azp")


def _is(value: Any, *texts: str | None) -> bool:
    """Whether the value is text, and exactly one of these."""
    return type(value) is str and value in texts


def _bytes_of(part: str) -> bytes:
    """Decode base64url as its one spelling: no padding, no other letters, no bits to spare."""
    bits = 0
    count = 0
    out = bytearray()
    for letter in part:
        value = ALPHABET.find(letter)
        if value < 0:
            raise Refused("shape", "a letter that is not base64url")
        bits, count = bits << 6 | value, count + 6
        if count >= 8:
            count -= 8
            out.append(bits >> count)
            bits &= (1 << count) - 1
    if not part or count == 6 or bits:
        raise Refused("shape", "empty, cut off, or bits to spare")
    return bytes(out)


def _object_of(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8", "strict")
    except UnicodeDecodeError:
        raise Refused("shape", "not UTF-8") from None
    value = _Json(text).document()
    if type(value) is not dict:
        raise Refused("shape", "not an object")
    return value


class _Json:
    """RFC 8259 read by hand, and no more than that: no constants, no name twice, nothing below the sixteenth level."""

    ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def document(self) -> Any:
        value = self._value(1)
        if self._peek():
            self._fail("more than one value")
        return value

    def _fail(self, why: str) -> NoReturn:
        raise Refused("shape", f"JSON: {why}")

    def _peek(self) -> str:
        """Return the next character that is no blank, or "" at the end."""
        while self.text[self.at : self.at + 1] in (" ", "\t", "\n", "\r"):
            self.at += 1
        return self.text[self.at : self.at + 1]

    def _take(self, wanted: str) -> None:
        if not self.text.startswith(wanted, self.at):
            self._fail(f"{wanted} expected")
        self.at += len(wanted)

    def _value(self, level: int) -> Any:
        first = self._peek()
        if first in ("{", "["):
            if level > 16:
                self._fail("too deep")
            return self._object(level) if first == "{" else self._list(level)
        if first == '"':
            return self._string()
        for word, meaning in (("true", True), ("false", False), ("null", None)):
            if first == word[0]:
                self._take(word)
                return meaning
        return self._number()

    def _object(self, level: int) -> dict[str, Any]:
        self._take("{")
        result: dict[str, Any] = {}
        if self._peek() == "}":
            self._take("}")
            return result
        while True:
            self._peek()
            name = self._string()
            if name in result:
                self._fail("a name twice")
            self._peek()
            self._take(":")
            result[name] = self._value(level + 1)
            if self._peek() == "}":
                self._take("}")
                return result
            self._take(",")

    def _list(self, level: int) -> list[Any]:
        self._take("[")
        result: list[Any] = []
        if self._peek() == "]":
            self._take("]")
            return result
        while True:
            result.append(self._value(level + 1))
            if self._peek() == "]":
                self._take("]")
                return result
            self._take(",")

    def _string(self) -> str:
        self._take('"')
        units: list[str] = []
        while True:
            letter = self.text[self.at : self.at + 1]
            self.at += 1
            if letter == '"':
                break
            if not letter or letter < " ":
                self._fail("a text that does not end, or a control character in it")
            units.append(self._escape() if letter == "\\" else letter)
        # Two escaped halves are one character; half of one is none.
        joined = "".join(units).encode("utf-16", "surrogatepass")
        try:
            return joined.decode("utf-16")
        except UnicodeDecodeError:
            self._fail("half a character")

    def _escape(self) -> str:
        letter = self.text[self.at : self.at + 1]
        self.at += 1
        if letter == "u":
            digits = self.text[self.at : self.at + 4]
            self.at += 4
            if len(digits) != 4 or set(digits.lower()) - set("0123456789abcdef"):
                self._fail("four hexadecimal digits expected")
            return chr(int(digits, 16))
        if letter not in self.ESCAPES:
            self._fail("no such escape")
        return self.ESCAPES[letter]

    def _number(self) -> int | float:
        start = self.at
        if self.text.startswith("-", self.at):
            self.at += 1
        whole = self._digits()
        if len(whole) > 1 and whole[0] == "0":
            self._fail("a nought in front")
        is_whole = True
        if self.text.startswith(".", self.at):
            is_whole = False
            self.at += 1
            self._digits()
        if self.text[self.at : self.at + 1] in ("e", "E"):
            is_whole = False
            self.at += 1
            if self.text[self.at : self.at + 1] in ("+", "-"):
                self.at += 1
            self._digits()
        text = self.text[start : self.at]
        if is_whole:
            if len(whole) > 4300:
                self._fail("more digits than Python reads")
            return int(text)
        value = float(text)
        if value in (float("inf"), float("-inf")):
            self._fail("beyond what a number holds")
        return value

    def _digits(self) -> str:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] in DIGITS:
            self.at += 1
        if start == self.at:
            self._fail("a digit expected")
        return self.text[start : self.at]
