"""
The pictures of users and organisations: what is behind the addresses that their bodies name?

Clerk has them on a host of its own, which a test must not ask and a browser without a network cannot reach. Here each
is a small square of a colour that follows from the id, as PNG, which whoever stores or scales pictures can read.
"""

from __future__ import annotations

import colorsys
import struct
import zlib

#: What comes before the id.
PATH = "/images/"

_SIDE = 64  # pixels


def picture(id: str) -> bytes:
    """Return the picture for an id, whoever has it."""
    shade = colorsys.hls_to_rgb(zlib.crc32(id.encode()) / 2**32, 0.55, 0.5)
    palette = bytes(round(part * 255) for part in shade)
    row = bytes(1 + _SIDE // 8)  # no filter, then each pixel's one bit: the first and only colour of the palette
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">IIBBBBB", _SIDE, _SIDE, 1, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette),
            _chunk(b"IDAT", zlib.compress(row * _SIDE)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
