"""
``run.py --check``: visit every door over real HTTP, as a browser and as a program, and say what was seen.

Each step says in words what should happen, and the answer is put into the same words; where the two differ, something
is wrong. All is done twice: with the keys of a development instance, and with those of a production instance.
"""

from __future__ import annotations

import html
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx
import uvicorn
from django.core.cache import cache

if TYPE_CHECKING:
    from clerk_views.testing import LocalClerk

#: The doors that ask for Clerk, and answer programs themselves.
VIEWS = {"Function view": "/required/", "Async view": "/async/", "Class-based view": "/class/"}
DJANGO, OPEN, API = "/members/", "/optional/", "/api/me/"
ROLE, ORGANISATION, INVOICES, STEP_UP = "/administration/", "/orgs/acme/", "/api/invoices/", "/step-up/"

COLUMNS = ("keys", "door", "who", "expected", "seen", "ok")
WIDEST = 56  # characters; what is longer is shown shortened, and compared in full

LIFETIME = 1  # seconds, of the tokens that are left to expire

#: Detours in a row after which a browser would give up.
TOO_MANY = 20

CLOSED = "403 This door stays closed"


class Row(NamedTuple):
    """One line of the table."""

    keys: str
    door: str
    who: str
    expected: str
    seen: str

    @property
    def ok(self) -> bool:
        """Whether it was as it should be."""
        return self.expected == self.seen


class Visitor(httpx.Client):
    """
    Somebody with a cookie jar. Handshakes are followed, as a browser does at once; other redirects are looked at.

    Attributes:
        detours: Why the last page was not opened at once, in Clerk's words; one for each handshake.
    """

    detours: list[str]

    def browse(self, url: str | httpx.URL) -> httpx.Response:
        """Open a page as a browser does."""
        self.detours = []
        for _ in range(TOO_MANY):
            response = self.get(url, headers={"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Dest": "document"})
            if response.status_code != 307:
                break
            url = response.url.join(response.headers["Location"])
            self.detours += url.params.get_list("__clerk_hs_reason")
        return response

    def ask(self, url: str, token: str | None = None, method: str = "GET") -> httpx.Response:
        """Ask as a program does."""
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        return self.request(method, url, headers=headers)

    def submit(self, page: httpx.Response, action: str, button: str = "") -> httpx.Response:
        """Press a button of a form on a page, the first that says so; return the answer."""
        for attributes, form in re.findall(r"<form([^>]*)>(.*?)</form>", page.text, re.DOTALL):
            if f'action="{action}"' in attributes:
                fields = {}
                for tag in re.findall(r"<input[^>]*>", form):
                    name, value = (re.search(rf'{key}="([^"]*)"', tag) for key in ("name", "value"))
                    if name and value:
                        fields[name[1]] = html.unescape(value[1])
                for tag, text in re.findall(r"<button([^>]*)>(.*?)</button>", form, re.DOTALL):
                    if all(word in re.sub("<.*?>", "", html.unescape(text)) for word in button.split(" · ")):
                        chosen = re.search(r'name="(\w+)" value="([^"]*)"', tag)
                        return self.post(
                            page.url.join(action), data=fields | ({chosen[1]: chosen[2]} if chosen else {})
                        )
        return page


def walk(server: uvicorn.Server, site: socket.socket, clerk: LocalClerk) -> list[Row]:
    """Serve, visit, and return what was seen."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [site]})
    thread.start()
    try:
        return Walk("http://{}:{}".format(*site.getsockname()), clerk).rows()
    finally:
        server.should_exit = True
        thread.join()


def report(rows: list[Row]) -> int:
    """Print the table; return the exit code."""
    print(table(rows))
    wrong = [row for row in rows if not row.ok]
    for row in wrong:
        print(f"WRONG  {row.door}, {row.who}, {row.keys} keys: expected {row.expected}; saw {row.seen}")
    print(f"{len(rows) - len(wrong)} of {len(rows)} as they should be.")
    return 1 if wrong else 0


class Walk:
    """The whole way: who goes where, and what should happen."""

    def __init__(self, base: str, clerk: LocalClerk) -> None:
        self.base = base
        self.clerk = clerk
        self.keys = "production" if clerk.production else "development"
        self._rows: list[Row] = []

    def rows(self) -> list[Row]:
        """Go it, and return what was seen."""
        steps: tuple[Callable[[], None], ...] = (
            self.strangers,
            self.somebody,
            self.returning,
            self.organisations,
            self.step_up,
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

    def note(self, door: str, who: str, expected: str, seen: str | httpx.Response) -> None:
        """Add a line."""
        self._rows.append(Row(self.keys, door, who, expected, seen if isinstance(seen, str) else self.seen(seen)))

    def visitor(self) -> Visitor:
        """Return somebody new."""
        return Visitor(base_url=self.base, timeout=20)

    @contextmanager
    def signed_in(self, name: str) -> Iterator[Visitor]:
        """Somebody new, who has chosen a user on the sign-in page: "Ada" or "Ada · Acme"."""
        with self.visitor() as visitor:
            page = visitor.browse(visitor.browse("/required/").headers["Location"])
            visitor.submit(page, "/sign-in", name)
            yield visitor

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
            body |= body.get("clerk_error", {})
            words = [
                next(body[key] for key in ("code", "reason", "name", "created_by", "clerk", "detail") if key in body)
            ]
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
            first = nobody.browse("/")
            self.note("Home", "stranger, first visit", "200 Put Clerk in front of a view with one line.", first)
            # Clerk gets to know each browser of a development instance, which has no cookie of Clerk's own host.
            expected = "no detour" if self.clerk.production else "handshake, dev-browser-missing"
            self.note("Home", "its detour to Clerk", expected, detours(nobody))
            for door, path in VIEWS.items():
                self.note(door, "stranger, browser", f"302 to sign in, then {path}", nobody.browse(path))
                self.note(door, "stranger, program", "401 session-token-and-uat-missing, Bearer", nobody.ask(path))
            query = nobody.browse("/required/?page=2&next=//evil.example")
            self.note("Function view", "stranger, with a query", "302 to sign in, then the same query", same(query))
            members = nobody.browse(DJANGO)
            self.note("login_required", "stranger, browser", f"302 to /clerk/sign-in/?next={DJANGO}", members)
            next_page = nobody.browse(members.headers["Location"])
            self.note("login_required", "stranger, one step on", f"302 to sign in, then {DJANGO}", next_page)
            self.note("REST framework", "stranger", "401 session-token-and-uat-missing, Bearer", nobody.ask(API))
            self.note("clerk_optional", "stranger", "200 Hello, stranger.", nobody.browse(OPEN))
            self.note("Who am I?", "stranger", "200 Nobody is signed in", nobody.browse("/whoami/"))
            self.note("What may I do?", "stranger", "nothing", rights(nobody.browse("/may/")))
            for door, path in {"Role": ROLE, "Organisation in the URL": ORGANISATION, "Step-up": STEP_UP}.items():
                self.note(door, "stranger, browser", f"302 to sign in, then {path}", nobody.browse(path))
            answer = nobody.ask(INVOICES, method="POST")
            self.note("Permission", "stranger, POST", "401 session-token-and-uat-missing, Bearer", answer)

    def somebody(self) -> None:
        """Ada signs in like a browser, goes everywhere, and signs out."""
        with self.visitor() as ada:
            page = ada.browse(ada.browse("/required/").headers["Location"])
            self.note("Sign-in page", "stranger", "200 Sign in", page)
            banned = re.search(r"<button[^>]*disabled[^>]*>.*?Mallory.*?banned", page.text)
            self.note(
                "Sign-in page", "its button for Mallory, banned", "is disabled", "is disabled" if banned else "works"
            )
            answer = ada.post(page.url.join("/sign-in"), data={"user_id": "user_mallory"})
            self.note("Sign-in page", "Mallory, banned, all the same", "403 Sign in", answer)
            self.note("Sign-in page", "Ada", "303 to /required/", ada.submit(page, "/sign-in", "Ada"))
            for door, path in {**VIEWS, "login_required": DJANGO, "clerk_optional": OPEN}.items():
                answer = ada.browse(path)
                self.note(door, "Ada, cookie", "200 Hello, ada.", answer)
                self.note(door, "its caching headers", "private, varies with who asks", caching(answer))
            me = ada.ask(API)
            self.note("REST framework", "Ada, cookie", "200 ada", me)
            self.note("REST framework", "its caching headers", "private, varies with who asks", caching(me))
            details = ada.browse("/whoami/")
            self.note("Who am I?", "Ada, cookie", "200 You are Ada Lovelace", details)
            shown = [
                word
                for word in ("user_ada", *(value for key, value in ada.cookies.items() if "__session" in key))
                if word in details.text
            ]
            expected = "no, only her id"
            self.note("Who am I?", "is the token on the page?", expected, expected if shown == ["user_ada"] else "yes")
            scripts = re.findall(r'src="([^"]*/npm/@clerk/[^"]*)"', details.text)
            loaded = {ada.get(url).headers["Content-Type"] for url in scripts}
            expected = "text/javascript; charset=utf-8" if self.clerk.packages else "none"
            self.note("Clerk's JavaScript", "Ada's page", expected, ", ".join(loaded) or "none")
            for door, path in {"REST framework": API, "Function view": "/required/"}.items():
                self.note(door, "Ada, POST, no CSRF token", "403 csrf-failed", ada.ask(path, method="POST"))
            for target, then in ((DJANGO, DJANGO), ("//evil.example/", "/")):
                answer = ada.browse(f"/clerk/sign-in/?next={target}")
                self.note("LOGIN_URL", f"Ada, next={target}", f"302 to {then}", answer)
            self.clerk.calls.reset()
            for path in 5 * (*VIEWS.values(), DJANGO, API):
                ada.browse(path)
            self.note("All of them", "Ada, 25 more visits", "no call to Clerk", calls(self.clerk.calls.total))
            home = ada.browse("/")
            self.note("Sign-out", "Ada, no CSRF token", "403 Forbidden (403)", ada.post("/clerk/sign-out/"))
            self.note("Sign-out", "Ada", "303 to /", ada.submit(home, "/clerk/sign-out/"))
            over = "is over" if not self.clerk.sessions("user_ada") else "lives on"
            self.note("Sign-out", "Ada's session at Clerk", "is over", over)
            self.note("Function view", "Ada, signed out", "302 to sign in, then /required/", ada.browse("/required/"))
            self.note("clerk_optional", "Ada, signed out", "200 Hello, stranger.", ada.browse(OPEN))

    def returning(self) -> None:
        """Ada comes back after her token has expired, several times."""
        lifetime, self.clerk.session_lifetime = self.clerk.session_lifetime, LIFETIME
        expired = "session-token-expired-refresh-non-eligible-no-refresh-cookie"
        with self.signed_in("Ada") as ada:
            first = ada.cookies["__session"]
            self.note("Function view", "Ada, fresh token", "200 Hello, ada.", ada.browse("/required/"))
            time.sleep(LIFETIME + 0.1)
            self.note("Function view", "Ada, expired, with refresh token", "200 Hello, ada.", ada.browse("/required/"))
            self.note("Function view", "its detour to Clerk", "no detour", detours(ada))
            renewed = "a new one" if ada.cookies["__session"] != first else "the old one"
            self.note("Function view", "its token", "a new one", renewed)
            time.sleep(LIFETIME + 0.1)
            ada.cookies.delete(f"__refresh_{self.clerk.cookie_suffix}")
            expected = f'401 {expired}, Bearer error="invalid_token"'
            self.note("REST framework", "Ada, expired, program", expected, ada.ask(API))
            self.note("login_required", "Ada, expired, browser", "200 Hello, ada.", ada.browse(DJANGO))
            self.note("login_required", "its detour to Clerk", f"handshake, {expired}", detours(ada))
            time.sleep(LIFETIME + 0.1)
            self.clerk.sessions("user_ada")[-1].revoke()
            answer = ada.browse("/required/")
            self.note("Function view", "Ada, expired, session revoked", "302 to sign in, then /required/", answer)
        self.clerk.session_lifetime = lifetime

    def organisations(self) -> None:
        """A member, an admin, and somebody on her own account."""
        may = "step-up, invoices:read, reports, perms"
        for name, role, post, panel in (
            ("Ada · Acme", CLOSED, "403 not-authorized", may),
            ("Grace · Acme", "200 Hello, grace, admin of acme.", "201 grace", f"role, invoices, {may}"),
            ("Ada", CLOSED, "403 not-authorized", "step-up"),
        ):
            user = name.partition(" ")[0].lower()
            with self.signed_in(name) as visitor:
                self.note("Role", name, role, visitor.browse(ROLE))
                self.note("What may I do?", name, panel, rights(visitor.browse("/may/")))
                csrf = re.search(r'data-csrf="(\w+)"', visitor.browse("/invoices/").text)
                headers = {"X-CSRFToken": csrf[1] if csrf else "", "Accept": "application/json"}
                self.note("Permission", f"{name}, POST", post, visitor.post(INVOICES, headers=headers))
                self.note(
                    "Permission", f"{name}, no CSRF token", "403 csrf-failed", visitor.ask(INVOICES, None, "POST")
                )
                expected = f"200 Hello, {user}, welcome to acme."
                self.note("Organisation in the URL", name, expected, visitor.browse(ORGANISATION))
                expected = "no detour" if "Acme" in name else "handshake, active-organization-mismatch"
                self.note("Organisation in the URL", "its detour to Clerk", expected, detours(visitor))
                self.note("Organisation in the URL", f"{name}, of another one", CLOSED, visitor.browse("/orgs/globex/"))

    def step_up(self) -> None:
        """Grace proved who she is an hour ago, and does so again."""
        verify = f"{self.clerk.url}/verify?redirect_url={self.base}{STEP_UP}"
        with self.signed_in("Grace · Acme") as grace:
            self.note("Step-up", "Grace, just signed in", "200 You proved it lately.", grace.browse(STEP_UP))
            page = grace.browse(verify)
            self.note("Step-up", "Grace, an hour later", f"303 to {STEP_UP}", grace.submit(page, "/verify", "hour"))
            self.note("Step-up", "Grace, old proof, browser", "403 Prove that it is you", grace.browse(STEP_UP))
            self.note("Step-up", "Grace, old proof, program", "403 reverification-error", grace.ask(STEP_UP))
            self.note("Role", "Grace, old proof", "200 Hello, grace, admin of acme.", grace.browse(ROLE))
            page = grace.browse(verify)
            self.note("Step-up", "Grace, verifies again", f"303 to {STEP_UP}", grace.submit(page, "/verify", "again"))
            self.note("Step-up", "Grace, new proof", "200 You proved it lately.", grace.browse(STEP_UP))

    def programs(self) -> None:
        """A program with a bearer token."""
        token = self.clerk.token("user_ada")
        with self.visitor() as program:
            for door, path in {**VIEWS, "login_required": DJANGO, "clerk_optional": OPEN}.items():
                self.note(door, "Ada, bearer", "200 Hello, ada.", program.ask(path, token))
            self.note("REST framework", "Ada, bearer", "200 ada", program.ask(API, token))
            self.note("REST framework", "Ada, bearer, POST", "200 user_ada", program.ask(API, token, "POST"))
            for user, expected in (("ada", "403 not-authorized"), ("grace", "201 grace")):
                token = self.clerk.token(f"user_{user}", organization="org_acme")
                answer = program.ask(INVOICES, token, "POST")
                self.note("Permission", f"{user.title()} · Acme, bearer, POST", expected, answer)

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
                    self.note(door, f"bearer, {who}", expected, impostor.ask(path, token))
            answer = impostor.ask(OPEN, bad["expired"][0])
            self.note("clerk_optional", "bearer, expired", "200 Hello, stranger.", answer)
            impostor.cookies.update(self.clerk.session_cookies(bad["claims exchanged"][0]))
            for door, path in VIEWS.items():
                expected = f"302 to sign in, then {path}"
                self.note(door, "browser, forged cookie", expected, impostor.browse(path))

    def staff(self) -> None:
        """Django's admin, which is Django's own."""
        for name, expected in (("Grace", "200 Site administration"), ("Ada", "302 to /admin/login/?next=/admin/")):
            with self.signed_in(name) as visitor:
                self.note("Admin", name, expected, visitor.browse("/admin/"))
                if name == "Grace":
                    page = visitor.browse("/admin/")
                    self.note("Admin", "Grace, signs out there", "303 to /", visitor.submit(page, "/admin/logout/"))
                    over = visitor.browse("/admin/")
                    self.note("Admin", "Grace, signed out", "302 to /admin/login/?next=/admin/", over)

    def suspended(self) -> None:
        """Alan is banned while he is signed in."""
        with self.signed_in("Alan") as alan:
            self.note("Function view", "Alan", "200 Hello, alan.", alan.browse("/required/"))
            self.clerk.update_user("user_alan", banned=True)
        cache.clear()  # as if CLERK_CACHE_TIMEOUT had passed
        with self.visitor() as alan:
            alan.cookies.update(self.clerk.session_cookies(self.clerk.token("user_alan")))  # of the same minute
            for door, path in {**VIEWS, "login_required": DJANGO, "Home": "/"}.items():
                self.note(door, "Alan, banned since", CLOSED, alan.browse(path))
            self.note("REST framework", "Alan, banned since", "403 user-inactive", alan.ask(API))

    def outage(self) -> None:
        """Clerk does not answer: who is known comes in; who is not is asked to come back."""
        self.clerk.faults.down()
        cache.clear()
        logging.disable(logging.ERROR)  # Django logs each 503
        known, unknown = self.clerk.token("user_ada"), self.clerk.token("user_katherine")
        with self.visitor() as program:
            for door, path in {**VIEWS, "login_required": DJANGO, "REST framework": API}.items():
                expected = "200 ada" if path == API else "200 Hello, ada."
                self.note(door, "Ada, Clerk is down", expected, program.ask(path, known))
            expected = "503 unexpected-error, Retry-After"
            for door, path in {**VIEWS, "REST framework": API}.items():
                self.note(door, "first visit, Clerk is down", expected, program.ask(path, unknown))
        with self.visitor() as katherine:
            katherine.cookies.update(self.clerk.session_cookies(unknown))
            for door, path in {**VIEWS, "login_required": DJANGO, "Home": "/"}.items():
                expected = "503 Back in a moment, Retry-After"
                self.note(door, "first visit, in a browser", expected, katherine.browse(path))
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


def detours(visitor: Visitor) -> str:
    """Say by which handshakes somebody came to the last page."""
    return ", then ".join(f"handshake, {reason}" for reason in visitor.detours) or "no detour"


def rights(page: httpx.Response) -> str:
    """Say what the panel on a page shows as allowed."""
    names = ("role", "invoices", "step-up", "invoices:read", "reports", "pro", "perms")
    answers = re.findall(r'<li><\w+ class="(yes|no)"', page.text)
    return ", ".join(name for name, answer in zip(names, answers, strict=True) if answer == "yes") or "nothing"


def calls(number: int) -> str:
    """Say how often Clerk was called."""
    return f"{number} calls to Clerk" if number else "no call to Clerk"


def table(rows: list[Row]) -> str:
    """Return the rows as text."""
    lines: list[tuple[str, ...]] = [
        COLUMNS,
        *(
            (row.keys, row.door, row.who, short(row.expected), short(row.seen), "ok" if row.ok else "NO")
            for row in rows
        ),
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def short(text: str) -> str:
    """Leave out the middle of what is too long."""
    half = WIDEST // 2 - 1
    return text if len(text) <= WIDEST else f"{text[:half]}…{text[-half:]}"
