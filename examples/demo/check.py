"""
``run.py --check``: visit every door over real HTTP, as a browser and as a program, and say what was seen.

Each step says in words what should happen, and the answer is put into the same words; where the two differ, something
is wrong.
"""

from __future__ import annotations

import html
import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx
import uvicorn
from django.core.cache import cache

if TYPE_CHECKING:
    from clerk_views.testing import LocalClerk

#: The doors that ask for Clerk, and answer programs themselves.
VIEWS = {"Function view": "/required/", "Async view": "/async/", "Class-based view": "/class/"}
API = "/api/me/"

COLUMNS = ("door", "who", "expected", "seen", "ok")
WIDEST = 56  # characters; what is longer is shown shortened, and compared in full


class Row(NamedTuple):
    """One line of the table."""

    door: str
    who: str
    expected: str
    seen: str

    @property
    def ok(self) -> bool:
        """Whether it was as it should be."""
        return self.expected == self.seen


class Visitor(httpx.Client):
    """Somebody with a cookie jar. Redirects are looked at, not followed."""

    def browse(self, url: str) -> httpx.Response:
        """Open a page as a browser does."""
        return self.get(url, headers={"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Dest": "document"})

    def ask(self, url: str, token: str | None = None, method: str = "GET") -> httpx.Response:
        """Ask as a program does."""
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        return self.request(method, url, headers=headers)

    def sign_in(self, page: httpx.Response, name: str) -> httpx.Response:
        """Choose a user on the sign-in page; return the answer to its form."""
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
        button = re.search(rf'<button name="(\w+)" value="(\w+)"[^>]*>(?:(?!</button>).)*{name}', page.text, re.DOTALL)
        form = {key: html.unescape(value) for key, value in fields.items()}
        return self.post(page.url.join("/sign-in"), data=form | ({button[1]: button[2]} if button else {}))

    def sign_out(self, page: httpx.Response) -> httpx.Response:
        """Press the button on a page of the site; return the answer to its form."""
        form = re.search(r'<form method="post" action="([^"]*/sign-out)">.*?value="([^"]*)"', page.text)
        return self.post(form[1], data={"redirect_url": form[2]}) if form else page


def walk(server: uvicorn.Server, site: socket.socket, clerk: LocalClerk) -> int:
    """Serve, visit, print; return the exit code."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [site]})
    thread.start()
    try:
        base = "http://{}:{}".format(*site.getsockname())
        rows = Walk(base, clerk).rows()
    finally:
        server.should_exit = True
        thread.join()
    print(table(rows))
    wrong = [row for row in rows if not row.ok]
    for row in wrong:
        print(f"WRONG  {row.door}, {row.who}: expected {row.expected}; saw {row.seen}")
    print(f"{len(rows) - len(wrong)} of {len(rows)} as they should be.")
    return 1 if wrong else 0


class Walk:
    """The whole way: who goes where, and what should happen."""

    def __init__(self, base: str, clerk: LocalClerk) -> None:
        self.base = base
        self.clerk = clerk
        self._rows: list[Row] = []

    def rows(self) -> list[Row]:
        """Go it, and return what was seen."""
        steps: tuple[Callable[[], None], ...] = (
            self.strangers,
            self.somebody,
            self.programs,
            self.impostors,
            self.staff,
            self.suspended,
            self.outage,
        )
        for step in steps:
            try:
                step()
            except httpx.HTTPError as error:
                self.note(step.__name__, "the check itself", "an answer", f"{type(error).__name__}: {error}")
        return self._rows

    def note(self, door: str, who: str, expected: str, seen: str) -> None:
        """Add a line."""
        self._rows.append(Row(door, who, expected, seen))

    def visitor(self) -> Visitor:
        """Return somebody new."""
        return Visitor(base_url=self.base, timeout=20)

    def seen(self, response: httpx.Response) -> str:
        """Put an answer into words."""
        target = response.headers.get("Location")
        if target:
            parts = urlsplit(target)
            back = parse_qs(parts.query)
            if target.startswith(f"{self.clerk.url}/sign-in?"):
                return f"{response.status_code} to sign in, then {self.here(back.get('redirect_url', ['?'])[0])}"
            return f"{response.status_code} to {self.here(target)}"
        if response.headers.get("Content-Type", "").startswith("application/json"):
            body = response.json()
            words = [next(body[key] for key in ("code", "name", "clerk", "detail") if key in body)]
            words += [response.headers["WWW-Authenticate"]] if "WWW-Authenticate" in response.headers else []
        else:
            heading = re.search(r"<h1>(.*?)</h1>", response.text, re.DOTALL)
            words = [re.sub(r"<.*?>", "", html.unescape(heading[1])).strip() if heading else "no heading"]
        words += ["Retry-After"] if "Retry-After" in response.headers else []
        return f"{response.status_code} {', '.join(words)}"

    def here(self, url: str) -> str:
        """Shorten an address of the site to its path."""
        return url.removeprefix(self.base)

    def strangers(self) -> None:
        """Nobody signed in."""
        with self.visitor() as nobody:
            home = self.seen(nobody.browse("/"))
            self.note("Home", "stranger, browser", "200 Put Clerk in front of a view with one line.", home)
            for door, path in VIEWS.items():
                self.note(door, "stranger, browser", f"302 to sign in, then {path}", self.seen(nobody.browse(path)))
                expected = "401 session-token-and-uat-missing, Bearer"
                self.note(door, "stranger, program", expected, self.seen(nobody.ask(path)))
            query = nobody.browse("/required/?page=2&next=//evil.example")
            self.note("Function view", "stranger, with a query", "302 to sign in, then the same query", same(query))
            members = nobody.browse("/members/")
            self.note("login_required", "stranger, browser", "302 to /login/?next=/members/", self.seen(members))
            expected = "302 to sign in, then /login/?next=/members/"
            self.note(
                "login_required", "stranger, one step on", expected, self.seen(nobody.browse("/login/?next=/members/"))
            )
            expected = "401 session-token-and-uat-missing, Bearer"
            self.note("REST framework", "stranger", expected, self.seen(nobody.ask(API)))
            self.note("clerk_optional", "stranger", "200 Hello, stranger.", self.seen(nobody.browse("/optional/")))
            self.note("Who am I?", "stranger", "200 Nobody is signed in", self.seen(nobody.browse("/whoami/")))

    def somebody(self) -> None:
        """Ada signs in like a browser, goes everywhere, and signs out."""
        with self.visitor() as ada:
            page = ada.browse(ada.browse("/required/").headers["Location"])
            self.note("Sign-in page", "stranger", "200 Sign in", self.seen(page))
            back = ada.sign_in(page, "Ada")
            self.note("Sign-in page", "Ada", "303 to /required/", self.seen(back))
            for door, path in {**VIEWS, "login_required": "/members/", "clerk_optional": "/optional/"}.items():
                answer = ada.browse(path)
                self.note(door, "Ada, cookie", "200 Hello, ada.", self.seen(answer))
                self.note(door, "its caching headers", "private, varies with who asks", caching(answer))
            me = ada.ask(API)
            self.note("REST framework", "Ada, cookie", "200 ada", self.seen(me))
            self.note("REST framework", "its caching headers", "private, varies with who asks", caching(me))
            details = ada.browse("/whoami/")
            self.note("Who am I?", "Ada, cookie", "200 You are Ada Lovelace", self.seen(details))
            shown = [
                word
                for word in ("user_ada", *(value for key, value in ada.cookies.items() if "__session" in key))
                if word in details.text
            ]
            self.note(
                "Who am I?",
                "is the token on the page?",
                "no, only her id",
                "no, only her id" if shown == ["user_ada"] else "yes",
            )
            for door, path in {"REST framework": API, "Function view": "/required/"}.items():
                expected = "403 csrf-failed"
                self.note(door, "Ada, POST, no CSRF token", expected, self.seen(ada.ask(path, method="POST")))
            for target, then in (("/members/", "/members/"), ("//evil.example/", "/")):
                answer = ada.browse(f"/login/?next={target}")
                self.note("LOGIN_URL", f"Ada, next={target}", f"302 to {then}", self.seen(answer))
            self.clerk.calls.reset()
            for path in 5 * (*VIEWS.values(), "/members/", API):
                ada.browse(path)
            self.note("All of them", "Ada, 25 more visits", "no call to Clerk", calls(self.clerk.calls.total))
            home = ada.sign_out(ada.browse("/"))
            self.note("Sign-out", "Ada", "303 to /", self.seen(home))
            self.note(
                "Function view",
                "Ada, signed out",
                "302 to sign in, then /required/",
                self.seen(ada.browse("/required/")),
            )
            self.note("clerk_optional", "Ada, signed out", "200 Hello, stranger.", self.seen(ada.browse("/optional/")))

    def programs(self) -> None:
        """A program with a bearer token."""
        token = self.clerk.token("user_ada")
        with self.visitor() as program:
            for door, path in {**VIEWS, "login_required": "/members/", "clerk_optional": "/optional/"}.items():
                self.note(door, "Ada, bearer", "200 Hello, ada.", self.seen(program.ask(path, token)))
            self.note("REST framework", "Ada, bearer", "200 ada", self.seen(program.ask(API, token)))
            self.note("REST framework", "Ada, bearer, POST", "200 user_ada", self.seen(program.ask(API, token, "POST")))

    def impostors(self) -> None:
        """Tokens that are not what they claim to be."""
        good = self.clerk.token("user_ada")
        head, claims, signature = good.split(".")
        bad = {
            "claims exchanged": (
                f"{head}.{self.clerk.token('user_grace').split('.')[1]}.{signature}",
                "token-invalid-signature",
            ),
            "expired": (
                self.clerk.token("user_ada", issued_at=time.time() - 600),
                "session-token-expired-refresh-non-eligible-no-refresh-cookie",
            ),
            "for another site": (
                self.clerk.token("user_ada", azp="https://evil.example"),
                "token-invalid-authorized-parties",
            ),
        }
        with self.visitor() as impostor:
            for who, (token, reason) in bad.items():
                for door, path in {**VIEWS, "REST framework": API}.items():
                    expected = f'401 {reason}, Bearer error="invalid_token"'
                    self.note(door, f"bearer, {who}", expected, self.seen(impostor.ask(path, token)))
            self.note(
                "clerk_optional",
                "bearer, expired",
                "200 Hello, stranger.",
                self.seen(impostor.ask("/optional/", bad["expired"][0])),
            )
            impostor.cookies.update(self.clerk.session_cookies(bad["claims exchanged"][0]))
            for door, path in VIEWS.items():
                expected = f"302 to sign in, then {path}"
                self.note(door, "browser, forged cookie", expected, self.seen(impostor.browse(path)))
                impostor.cookies.delete("__clerk_redirect_count")

    def staff(self) -> None:
        """Django's admin, which is Django's own."""
        for name, user, expected in (
            ("Grace, staff", "user_grace", "200 Site administration"),
            ("Ada, no staff", "user_ada", "302 to /admin/login/?next=/admin/"),
        ):
            with self.visitor() as visitor:
                visitor.cookies.update(self.clerk.session_cookies(self.clerk.token(user)))
                self.note("Admin", name, expected, self.seen(visitor.browse("/admin/")))

    def suspended(self) -> None:
        """Alan is banned while he is signed in."""
        with self.visitor() as alan:
            alan.cookies.update(self.clerk.session_cookies(self.clerk.token("user_alan")))
            self.note("Function view", "Alan", "200 Hello, alan.", self.seen(alan.browse("/required/")))
            self.clerk.update_user("user_alan", banned=True)
            cache.clear()  # as if CLERK_CACHE_TIMEOUT had passed
            alan.cookies.update(self.clerk.session_cookies(self.clerk.token("user_alan")))  # each minute, at Clerk
            for door, path in {**VIEWS, "login_required": "/members/", "Home": "/"}.items():
                self.note(door, "Alan, banned since", "403 This door stays closed", self.seen(alan.browse(path)))
            self.note("REST framework", "Alan, banned since", "403 user-inactive", self.seen(alan.ask(API)))

    def outage(self) -> None:
        """Clerk does not answer: who is known comes in; who is not is asked to come back."""
        self.clerk.faults.down()
        cache.clear()
        logging.disable(logging.ERROR)  # Django logs each 503
        known, unknown = self.clerk.token("user_ada"), self.clerk.token("user_katherine")
        with self.visitor() as program:
            for door, path in {**VIEWS, "login_required": "/members/", "REST framework": API}.items():
                expected = "200 ada" if path == API else "200 Hello, ada."
                self.note(door, "Ada, Clerk is down", expected, self.seen(program.ask(path, known)))
            expected = "503 unexpected-error, Retry-After"
            for door, path in {**VIEWS, "REST framework": API}.items():
                self.note(door, "first visit, Clerk is down", expected, self.seen(program.ask(path, unknown)))
        with self.visitor() as katherine:
            katherine.cookies.update(self.clerk.session_cookies(unknown))
            for door, path in {**VIEWS, "login_required": "/members/", "Home": "/"}.items():
                expected = "503 Back in a moment, Retry-After"
                self.note(door, "first visit, in a browser", expected, self.seen(katherine.browse(path)))
        logging.disable(logging.WARNING)
        self.clerk.faults.clear()


def same(response: httpx.Response) -> str:
    """Say whether the way back leads to the very address that was asked for."""
    back = parse_qs(urlsplit(response.headers.get("Location", "")).query).get("redirect_url")
    return f"{response.status_code} to sign in, then {'the same query' if back == [str(response.url)] else back}"


def caching(response: httpx.Response) -> str:
    """Say whether shared caches keep their hands off a response."""
    varies = {name.strip() for name in response.headers.get("Vary", "").split(",")}
    private = response.headers.get("Cache-Control", "nothing said")
    return f"{private}, {'varies with who asks' if {'Cookie', 'Authorization'} <= varies else sorted(varies)}"


def calls(number: int) -> str:
    """Say how often Clerk was called."""
    return f"{number} calls to Clerk" if number else "no call to Clerk"


def table(rows: list[Row]) -> str:
    """Return the rows as text."""
    lines: list[tuple[str, ...]] = [
        COLUMNS,
        *((row.door, row.who, short(row.expected), short(row.seen), "ok" if row.ok else "NO") for row in rows),
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def short(text: str) -> str:
    """Leave out the middle of what is too long."""
    half = WIDEST // 2 - 1
    return text if len(text) <= WIDEST else f"{text[:half]}…{text[-half:]}"
