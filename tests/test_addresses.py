"""The addresses that visitors are led back to: nobody who chooses one can lead them elsewhere. RED-01."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import RequestFactory

from clerk_views import addresses
from clerk_views.testing import LocalClerk

HOSTILE_PATHS = [
    "//evil.example/",
    "///evil.example/",
    "/\\evil.example/",
    "/required//evil.example",
    "/required/%5cevil.example/%2f..",
    "/required/\u202eevil",
    "/required/@evil.example/",
    "/required/https://evil.example/",
    "/required/%0d%0aLocation:%20https://evil.example",
    "/required/%00",
]


@pytest.mark.parametrize("absolute", [True, False], ids=["clerk", "own"])
@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_the_way_back_cannot_be_turned_elsewhere(local_clerk: LocalClerk, path: str, absolute: bool) -> None:
    """RED-01: resolved as browsers do, the way back stays on this very host."""
    request = RequestFactory().get("/")
    request.path_info = request.path = path
    for query_string in ("", "next=//evil.example", "a=\\..\\evil", "x=\r\nLocation: evil", "u=\xfc"):
        request.META["QUERY_STRING"] = query_string
        back = addresses.return_url(request, absolute=absolute)
        assert back.isascii()
        assert not set(back) & set("\\\r\n\t \x00")
        if absolute:
            assert back.startswith("http://testserver/")
        else:
            assert back.startswith("/")
            assert not back.startswith("//")


@pytest.mark.parametrize(
    "url",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "https://evil.example/",
        "http://testserver@evil.example/",
        "http://testserver.evil.example/",
        "http:///evil.example",
        "http:/evil.example",
        "http:evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://testserver/",
        "//testserver\\@evil.example/",
        " /path",
        "/pa th",
        "/path\r\nSet-Cookie: a=b",
        "/p\x00ath",
        "/caf\xe9",
        "path",
        "",
        "?next=/",
        None,
        ["/path"],
        b"/path",
        "https://testserver:444/",
    ],
)
def test_what_is_not_plainly_ours_is_no_way_back(url: Any) -> None:
    """RED-01."""
    assert not addresses.is_safe_return_url(RequestFactory().get("/"), url)


@pytest.mark.parametrize("url", ["/", "/path?q=1#frag", "http://testserver/path", "https://testserver/"])
def test_what_is_ours_is_a_way_back(url: str) -> None:
    assert addresses.is_safe_return_url(RequestFactory().get("/"), url)


def test_over_https_the_way_back_is_https() -> None:
    request = RequestFactory().get("/", secure=True)
    assert not addresses.is_safe_return_url(request, "http://testserver/")
    assert addresses.return_url(request, absolute=True) == "https://testserver/"
