"""The pictures of the stand-in. That a browser shows them is seen in test_testing_browser.py."""

from __future__ import annotations

import struct
import zlib
from urllib.parse import urlsplit

import clerk_backend_api
import httpx

from clerk_views.testing import LocalClerk
from clerk_views.testing.pictures import picture


def chunks(png: bytes) -> dict[bytes, bytes]:
    """Take a PNG apart, and see that each part is as its checksum says. Source: RFC 2083."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    found, at = {}, 8
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        data = png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length)[0] == zlib.crc32(kind + data)
        found[kind] = data
        at += length + 12
    return found


def test_it_is_a_png() -> None:
    parts = chunks(picture("user_1"))

    width, height, bits, *_ = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert len(zlib.decompress(parts[b"IDAT"])) == height * (1 + width * bits // 8)
    assert list(parts) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]


def test_the_colour_follows_from_the_id() -> None:
    assert picture("user_1") == picture("user_1")
    assert len({picture(f"user_{number}") for number in range(10)}) == 10


def test_users_and_organisations_have_one(server: LocalClerk) -> None:
    user, organization = server.add_user(), server.add_organization(name="Acme")
    addresses = [user.data["image_url"], user.data["profile_image_url"], organization.data["image_url"]]
    server.add_member(organization, user)

    for address, id in zip(addresses, (user.id, user.id, organization.id), strict=True):
        answer = httpx.get(f"{address}?width=80")  # as clerk-js asks for the size that it shows
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
        assert answer.content == picture(id)
    with clerk_backend_api.Clerk(bearer_auth=server.secret_key, server_url=f"{server.url}/v1") as sdk:
        assert sdk.users.get(user_id=user.id).image_url == addresses[0]


def test_scripts_of_this_machine_may_read_it_and_others_may_not(server: LocalClerk) -> None:
    """clerk-js asks for pictures as for data."""
    address = server.add_user().data["image_url"]

    local, other = (
        httpx.get(address, headers={"Origin": origin}) for origin in ("http://127.0.0.1:8000", "https://evil.example")
    )
    assert local.headers["Access-Control-Allow-Origin"] == "http://127.0.0.1:8000"
    assert "Access-Control-Allow-Origin" not in other.headers


def test_it_is_where_the_server_is() -> None:
    server = LocalClerk(port=1234, host="localhost")

    assert urlsplit(server.add_user().data["image_url"])[:2] == ("http", "localhost:1234")
    assert server.add_user(image_url="https://www.example.com/me.png").data["image_url"].endswith("/me.png")
    assert LocalClerk().add_user().data["image_url"] == ""  # nobody could fetch it


def test_an_id_may_need_quoting(server: LocalClerk) -> None:
    user = server.add_user(id="user/ü?")

    assert httpx.get(user.data["image_url"]).content == picture("user/ü?")
