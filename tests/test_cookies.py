"""Which of Clerk's cookies came, and which spelling of their names counts: the table of Clerk's SDK, row by row."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerk_views import cookies, tokens
from clerk_views.cookies import Cookies, Seen, Variant, is_ours, pairs, parse_int, read, use_suffixed
from clerk_views.testing.minting import mint
from tests.minted import CONFIG, KEY, PUBLISHABLE_KEY, claims, configured, header

SUFFIX = CONFIG.publishable_key.cookie_suffix  # type: ignore[union-attr]  # there is one
DEVELOPMENT = configured(
    CLERK_SECRET_KEY="sk_test_abc",
    CLERK_PUBLISHABLE_KEY="pk_test_" + base64.b64encode(b"clerk.example.com$").decode(),
)
SATELLITE = configured(CLERK_IS_SATELLITE=True, CLERK_DOMAIN="satellite.example")

NOW = 1000.0


def token(name: str, **values: Any) -> tuple[str, Seen]:
    """A token by name, and what is seen of it; by default one of ours, of middle age."""
    return name, Seen(**{"issuer": "https://clerk.example.com", "issued": 500, "expires": 2000, **values})


class Sent:
    """Cookies as ``S``, ``U``, ``SS`` and ``SU``: plain and suffixed session and client_uat."""

    def __init__(
        self, s: Any = (), u: str = "", ss: Any = (), su: str = "", config: Any = CONFIG, suffixed: bool = False
    ) -> None:
        self.known: dict[str, Seen] = {}
        self.expected = suffixed
        self.config = config
        self.cookies = Cookies(Variant(self._names(s), u), Variant(self._names(ss), su))

    def _names(self, given: Any) -> tuple[str, ...]:
        entries = given if isinstance(given, list) else [given] if given else []
        for entry in entries:
            if not isinstance(entry, str):
                self.known[entry[0]] = entry[1]
        return tuple(entry if isinstance(entry, str) else entry[0] for entry in entries)

    def decide(self) -> bool:
        return use_suffixed(self.cookies, self.config, self.known.get, NOW)


OURS, NEW, OLD = token("ours"), token("new", issued=900), token("old", issued=100)
FOREIGN = token("foreign", issuer="https://clerk.elsewhere.example")

TABLE = {
    "6.3-row-1 undecodable": Sent("junk", "1", OURS, "1"),
    "6.3-row-1 no issuer": Sent(token("a", issuer=None), "1", OURS, "1"),
    "6.3-row-1 empty issuer": Sent(token("a", issuer=""), "1", OURS, "1"),
    "6.3-row-2 another instance": Sent(FOREIGN, "1", OURS, "1", suffixed=True),
    "6.3-row-2 another instance, nothing suffixed": Sent(FOREIGN, "1", suffixed=True),
    "6.3-row-2 issuer of an odd type": Sent(token("a", issuer=["https://clerk.example.com"]), "1", suffixed=True),
    "6.3-row-2 slash at the end": Sent(token("a", issuer="https://clerk.example.com/"), "1", suffixed=True),
    "6.3-row-2 the scheme does not matter": Sent(token("a", issuer="http://clerk.example.com"), "1"),
    "6.3-row-2 before row 5": Sent(FOREIGN, "1", OURS, "0", suffixed=True),
    "6.3-row-2 satellite": Sent(OURS, "1", OURS, "1", config=SATELLITE, suffixed=True),
    "6.3-row-2 satellite, its own": Sent(
        token("a", issuer="https://clerk.satellite.example"), "1", config=SATELLITE, suffixed=False
    ),
    "6.3-row-3 nothing at all": Sent(),
    "6.3-row-3 plain alone": Sent(OURS, "1"),
    "6.3-row-3 plain client_uat alone": Sent("", "1"),
    "6.3-row-4 plain is newer": Sent(NEW, "1", OURS, "1"),
    "6.3-row-4 no plain client_uat": Sent(NEW, "", OURS, "1"),
    "6.3-row-4 no suffixed session": Sent(OURS, "1", "", "1"),
    "6.3-row-4 suffixed undecodable": Sent(OURS, "1", "junk", "1"),
    "6.3-row-4 not when it is as old": Sent(OURS, "1", token("b"), "1", suffixed=True),
    "6.3-row-4 not when it is older": Sent(OLD, "1", OURS, "1", suffixed=True),
    "6.3-row-4 not without a time": Sent(token("a", issued=None), "1", OURS, "1", suffixed=True),
    "6.3-row-4 not when plain is signed out": Sent(NEW, "0", OURS, "1", suffixed=True),
    "6.3-row-5 suffixed signed out, plain not": Sent(OLD, "1", OURS, "0"),
    "6.3-row-5 an absent client_uat is not 0": Sent(OLD, "", OURS, "0"),
    "6.3-row-5 not when both are": Sent(OLD, "0", OURS, "0", suffixed=True),
    "6.3-row-6 suffixed expired": Sent("", "0", token("b", expires=1000), "1", config=DEVELOPMENT),
    "6.3-row-6 not while it lives": Sent("", "0", token("b", expires=1001), "1", config=DEVELOPMENT, suffixed=True),
    "6.3-row-6 not without a time": Sent("", "0", token("b", expires=None), "1", config=DEVELOPMENT, suffixed=True),
    "6.3-row-6 not when undecodable": Sent("", "0", "junk", "1", config=DEVELOPMENT, suffixed=True),
    "6.3-row-6 not on production": Sent("", "0", token("b", expires=1000), "1", suffixed=True),
    "6.3-row-6 not when both are signed out": Sent(
        "", "0", token("b", expires=1000), "0", config=DEVELOPMENT, suffixed=True
    ),
    "6.3-row-7 no suffixed client_uat": Sent(OLD, "1", OURS, ""),
    "6.3-row-7 and no plain session": Sent("", "1", OURS, ""),
    "6.3-row-8 suffixed": Sent("", "", OURS, "1", suffixed=True),
    "6.3-row-8 the same twice": Sent(OURS, "1", OURS, "1", suffixed=True),
    "6.3-row-8 client_uat alone": Sent("", "", "", "1", suffixed=True),
    # Of several values the first that can be decoded speaks; with Clerk's SDK the first would (SRC-06).
    "SRC-06 junk before a plain one": Sent(["junk", OLD], "1", OURS, "1", suffixed=True),
    "SRC-06 another instance's first": Sent([FOREIGN, NEW], "1", OURS, "1", suffixed=True),
    "SRC-06 only four are looked at": Sent(["a", "b", "c", "d", FOREIGN], "1", OURS, "1"),
}


@pytest.mark.parametrize("sent", TABLE.values(), ids=TABLE)
def test_one_spelling_counts(sent: Sent) -> None:
    """SRC-05, and Clerk's decision between plain and suffixed cookies."""
    assert sent.decide() is sent.expected


def test_every_name_is_read() -> None:
    text = (
        f"a=b; __session=1.1.1; __client_uat=5; __clerk_db_jwt=dvb_a; __session_{SUFFIX}=2.2.2;"
        f" __client_uat_{SUFFIX}=6; __clerk_db_jwt_{SUFFIX}=dvb_b; __refresh_{SUFFIX}=r; __clerk_handshake=h;"
        " __clerk_handshake_nonce=n; __clerk_redirect_count=2"
    )
    assert read(text, SUFFIX) == Cookies(
        Variant(("1.1.1",), "5", "dvb_a"), Variant(("2.2.2",), "6", "dvb_b"), "r", "h", "n", "2"
    )
    assert read(text, None) == Cookies(Variant(("1.1.1",), "5", "dvb_a"), Variant(), "", "h", "n", "2")
    assert read(text, SUFFIX).of(False).dev_browser == "dvb_a"
    assert read(text, SUFFIX).of(True).dev_browser == "dvb_b"


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "nothing": ("", Cookies()),
        "nobody's": ("session=1; csrftoken=2", Cookies()),
        "look-alikes": ("__session_evil=1; __Session=2; __sessionx=3; x__session=4; __client_uat_evil=5", Cookies()),
        "plain refresh": ("__refresh=r; __refresh_evil=r", Cookies()),
        "empty is absent": ("__session=; __client_uat= ; __client_uat=5", Cookies(Variant((), "5"))),
        "no value": ("__session; __client_uat", Cookies()),
        "blanks go": ("__session\t=  1.1.1\t ;__client_uat =5", Cookies(Variant(("1.1.1",), "5"))),
        "quotes stay": ('__client_uat="5"', Cookies(Variant((), '"5"'))),
        "the first counts": ("__client_uat=5; __client_uat=0", Cookies(Variant((), "5"), repeated=("__client_uat",))),
        "once is once": ("__client_uat=5; __client_uat=%35; __client_uat=", Cookies(Variant((), "5"))),
        "but all sessions": ("__session=b; __session=a; __session=b", Cookies(Variant(("b", "a")))),
        "percent signs": ("__clerk_db_jwt=a%3Bb%20c", Cookies(Variant((), "", "a;b c"))),
        "decoded after splitting": (
            "__clerk_db_jwt=a%3B__session=1.1.1",
            Cookies(Variant((), "", "a;__session=1.1.1")),
        ),
        "not to be decoded": ("__clerk_db_jwt=a%zzb%20", Cookies(Variant((), "", "a%zzb%20"))),
        "not UTF-8": ("__clerk_db_jwt=%FF", Cookies(Variant((), "", "%FF"))),
        "tokens as they stand": ("__session=a%2Eb", Cookies(Variant(("a%2Eb",)))),
    }.values(),
)
def test_the_raw_header(text: str, expected: Cookies) -> None:
    """SRC-05, SRC-06, F-23. Source: Clerk's SDK, cookies; an encoded separator forges none."""
    assert read(text, SUFFIX) == expected


def test_values_show_nowhere() -> None:
    """LOG-01."""
    kept = read(
        "__session=secret; __clerk_db_jwt=secret; __clerk_handshake=secret; __clerk_handshake_nonce=secret", "x"
    )
    assert "secret" not in repr(kept)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1700000000", 1_700_000_000),
        ("0", 0),
        ("-0", 0),
        ("", 0),
        ("junk", 0),
        ("  12", 12),
        ("12.9", 12),
        ("12abc", 12),
        ("+12", 12),
        ("-12", -12),
        ("0x1F", 31),
        ("0x", 0),
        ("0xg", 0),
        ("--1", 0),
        ("\u0661", 0),
        ("1e3", 1),
        ("9" * 300, int("9" * 300)),
        ("9" * 10_000, float("inf")),
        ("-" + "9" * 10_000, float("-inf")),
    ],
)
def test_client_uat_is_read_as_javascript_reads_it(text: str, number: float) -> None:
    """5.3: parseInt(). A negative number counts as active."""
    assert parse_int(text) == number
    assert Variant((), text).last_change == number


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        *((name, True) for name in ("__session", "__client_uat", "__clerk_db_jwt", "__refresh")),
        *((f"{name}_{SUFFIX}", True) for name in ("__session", "__client_uat", "__clerk_db_jwt", "__refresh")),
        ("__clerk_handshake", True),
        ("__clerk_handshake_nonce", True),
        (f"__clerk_handshake_{SUFFIX}", False),
        ("__session_evil", False),
        ("__client", False),
        ("sessionid", False),
        ("csrftoken", False),
        ("", False),
        (f"_{SUFFIX}", False),
    ],
)
def test_whose_cookie_it_is(name: str, ours: bool) -> None:
    """RED-07."""
    assert is_ours(name, SUFFIX) is ours
    assert is_ours(name, None) is (ours and SUFFIX not in name)


def test_known_suffixes() -> None:
    """SRC-05: known answers, from Clerk's SDK; the key is hashed as it was configured."""
    for key, suffix in {
        "pk_live_Y2xlcmsuY2xlcmsuZGV2JA": "1Z8AzTQD",
        "pk_test_Y2xlcmsuY2xlcmsuZGV2JA": "QvfNY2dr",
        "pk_test_ZW5vdWdoLWFscGFjYS04Mi5jbGVyay5hY2NvdW50cy5sY2xjbGVyay5jb20k": "jtYvyt_H",
    }.items():
        secret = "sk_live_abc" if "live" in key else "sk_test_abc"
        configured_key = configured(CLERK_PUBLISHABLE_KEY=key, CLERK_SECRET_KEY=secret).publishable_key
        assert configured_key is not None
        assert configured_key.cookie_suffix == suffix
    assert PUBLISHABLE_KEY.startswith("pk_live_")


@given(st.text(max_size=60))
def test_any_header_is_read(text: str) -> None:
    """SRC-07, I2."""
    kept = read(f"__session={text}; {text}; __client_uat={text}; {text}", SUFFIX)
    assert isinstance(kept, Cookies)
    assert use_suffixed(kept, CONFIG, tokens.peek, NOW) in (True, False)
    assert isinstance(kept.plain.last_change, int | float)
    assert all(value for _, value in pairs(text))


def test_what_is_seen_of_a_token() -> None:
    seen = tokens.peek(mint(header(), claims(iat=5, exp=7.5, sid="sess_a", iss="i"), KEY))
    assert seen == Seen("i", 5, 7.5, "sess_a")
    assert tokens.peek(mint(header(), {"iat": True, "exp": "7"}, KEY)) == Seen(None, None, None)


@pytest.mark.parametrize("text", ["", "a.b.c", "x", "a.b", mint(b"[]", claims(), KEY), mint(header(), b"1", KEY)])
def test_nothing_is_seen_of_what_is_no_token(text: str) -> None:
    assert tokens.peek(text) is None
    good = mint(header(), claims(), KEY)
    assert tokens.peek(good + "=") is None
    assert tokens.peek(good[:-1]) is None
    assert cookies.NO_COOKIES.of(True) == Variant()


@pytest.mark.parametrize(
    ("host", "above"),
    [
        ("app.example.com", ("app.example.com", "example.com")),
        ("APP.Example.com", ("app.example.com", "example.com")),
        ("example.com", ("example.com",)),
        ("a.b.example.co.uk", ("a.b.example.co.uk", "b.example.co.uk", "example.co.uk", "co.uk")),
        ("localhost", ()),
        ("127.0.0.1", ()),
        ("[::1]", ()),
        ("", ()),
    ],
)
def test_the_domains_whose_cookies_a_host_gets(host: str, above: tuple[str, ...]) -> None:
    assert cookies.domains(host) == above
    own, *others = cookies.removals("a", host)
    assert own == "a=; Path=/; Max-Age=0"
    assert others == [f"{own}; Domain={domain}" for domain in above]
