"""
Where the stand-in is and may lead: which hosts, addresses and origins belong to this machine?

It serves applications on loopback, and otherwise only such as go by a name that no server of the Internet can have.
"""

from __future__ import annotations

import re
from urllib.parse import quote

HOST = "127.0.0.1"

#: The path of the Frontend API, as of Clerk's own proxies. clerk-js on a satellite with a production key makes of it an
#: address that would lead to another host if there were none.
PROXY_PATH = "/__clerk"

#: The names of loopback under which this machine may be asked for.
HOSTS = (HOST, "localhost")

_NAME = r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)"

# These two top-level domains are reserved (RFC 6761), so nobody's page is under them, nor can a name lead here and
# there by turns. One label at least stands before, as browsers take no cookies for a top-level domain.
_FRONTEND_API = re.compile(rf"clerk\.({_NAME}+(?:test|localhost))")


class Places:
    """
    The names of one LocalClerk and its applications.

    Args:
        host: Under which it is known to browsers: ``127.0.0.1``, ``localhost``, or ``clerk.`` and a domain.

    Attributes:
        host: As given.
        domain: Of the applications, ``example.test`` where the host is ``clerk.example.test``; None for loopback.

    Raises:
        ValueError: For another host.
    """

    def __init__(self, host: str) -> None:
        named = _FRONTEND_API.fullmatch(host)
        if host not in HOSTS and named is None:
            raise ValueError(
                f"LocalClerk serves this machine only, as {' or '.join(HOSTS)}, or as 'clerk.' and a domain under "
                f".test or .localhost, as in clerk.example.test; not as {host!r}."
            )
        self.host = host
        self.domain = named[1] if named else None
        self._served = {*HOSTS, host}
        ours = r"(?:127\.0\.0\.1|localhost)"
        if self.domain:
            ours = rf"(?:127\.0\.0\.1|localhost|{_NAME}*{re.escape(self.domain)})"
        self._url = re.compile(rf"http://{ours}(?::[0-9]{{1,5}})?(?:[/?#][!-~]*)?")
        self._origin = re.compile(rf"https?://{ours}(?::[0-9]{{1,5}})?")

    def serves(self, host: str) -> bool:
        """Say whether requests for a host, without its port, are meant for the stand-in."""
        return host in self._served

    def is_origin(self, origin: str) -> bool:
        """Say whether an ``Origin`` header names this machine."""
        return self._origin.fullmatch(origin) is not None

    def url(self, text: str) -> str | None:
        """
        Return an address to which a visitor may be sent on, percent-encoded where needed; None if it may not be used.

        Only plain http to this machine, on any port: the stand-in must not be a way to other sites.
        """
        # Encoding comes first: backslash, blanks and line breaks, which browsers read in ways of their own, are gone.
        encoded = quote(text, safe="%/:?#[]@!$&'()*+,;=~")
        return encoded if self._url.fullmatch(encoded) else None

    def host_for(self, host: str | None) -> str:
        """Return the name under which browsers take from the stand-in what is for an application of this host."""
        return self.host if host is None or self.shared_domain(host) else host

    def shared_domain(self, host: str | None) -> str | None:
        """Return the domain for whose cookies an application of this host may ask; None if it has its own only."""
        domain = self.domain
        return domain if domain and host and f".{host}".endswith(f".{domain}") else None

    @property
    def content_security_policy(self) -> str:
        """Of our own pages: nothing may be loaded. Some browsers hold the redirect after a form against form-action."""
        here = "http://127.0.0.1:* http://localhost:*"
        if self.domain:
            here += f" http://{self.domain}:* http://*.{self.domain}:*"
        return (
            f"default-src 'none'; style-src 'unsafe-inline'; form-action 'self' {here}; "
            "base-uri 'none'; frame-ancestors 'none'"
        )
