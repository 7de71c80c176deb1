"""
Clerk's two packages for browsers, served as the Frontend API serves them: which file does a script address mean?

The files come from a folder that npm filled; the kit brings none of them along and fetches none.
"""

from __future__ import annotations

import re
from pathlib import Path

#: Any selector may stand behind the "@", since both packages ask for their own parts under their exact version. A name
#: holds no slash and does not begin with a dot, so it cannot lead out of the folder.
_SCRIPT = re.compile(r"/npm/(@clerk/(?:clerk-js|ui))@[^/]+/dist/([A-Za-z0-9_-][A-Za-z0-9_.-]*\.js)")


def script(folder: Path | None, path: str) -> bytes | None:
    """
    Return the script at an address; None if there is none.

    Args:
        folder: Where ``npm install @clerk/clerk-js @clerk/ui`` was run, so that ``node_modules`` is in it. None for no
            scripts at all.
        path: As it stands on the request line, such as ``/npm/@clerk/clerk-js@6/dist/clerk.browser.js``.
    """
    asked = _SCRIPT.fullmatch(path)
    if folder is None or asked is None:
        return None
    package, name = asked.groups()
    file = folder / "node_modules" / package / "dist" / name
    return file.read_bytes() if file.is_file() else None
