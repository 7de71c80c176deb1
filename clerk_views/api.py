"""
What does Clerk's API say? The only module that asks it, through Clerk's own SDK.

Each method is one question to it. When it may be asked, and what an answer that fails to come means, says calls.py.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import threading
from collections.abc import Callable, Container, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured

from clerk_views.calls import CALL_LIMIT, LONGEST_PAUSE, Budget, Calls
from clerk_views.conf import Config
from clerk_views.exceptions import TokenRefused, UserNotFound
from clerk_views.floods import Flood, Refused
from clerk_views.payloads import error_code, list_of, readable
from clerk_views.values import CLERK_API_VERSION

if TYPE_CHECKING:  # the SDK is imported on the first call
    from clerk_backend_api import Clerk
    from clerk_backend_api.models import ClerkBaseError

    from clerk_views.transport import Transport

API_VERSION = "2025-11-10"  # the SDK's own, so that users look alike whoever asks
MAX_PAGE = 32 * 1024 * 1024  # bytes; 500 users with all their metadata
MAX_APIS = 8

# A tenth of what Clerk allows a production instance.
MAX_REFUSED_NONCES = 100  # within the window
REFUSED_NONCES_WINDOW = 10.0  # seconds
MAX_REFUSED_TOKENS = 100  # within the window
REFUSED_TOKENS_WINDOW = 10.0  # seconds
# A session whose refresh was refused is not asked about again meanwhile; its browser has a handshake instead.
REFUSED_REFRESH_PAUSE = 10.0  # seconds
MAX_REFUSED_REFRESHES = 1024  # kept

# What is answered about the thing that was asked for. The rest is about us, or about the API.
REFUSALS = frozenset(range(400, 500)) - {408, 429}
CLEAR_REFUSALS = frozenset({400, 404, 410, 422})  # the others may be about our key

T = TypeVar("T")


class ClerkApi:
    """
    Clerk's API for one secret key, address and timeout. Safe to use from several threads.

    Args:
        key_setting: The setting that the key is from, for the log.
        longest_pause: Seconds for which a ``Retry-After`` is followed at most.
    """

    def __init__(
        self,
        secret_key: str,
        api_url: str,
        timeout: float,
        key_setting: str = "CLERK_SECRET_KEY",
        *,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        self._secret_key = secret_key
        self._api_url = api_url
        self._timeout = timeout
        self._lock = threading.Lock()
        self._opened: tuple[Clerk, Transport] | None = None
        self._calls = Calls(api_url, key_setting, longest_pause)
        self._refused_nonces = Refused(MAX_REFUSED_NONCES)  # for good: a nonce does not become valid
        self._nonce_flood = Flood("nonces", MAX_REFUSED_NONCES, REFUSED_NONCES_WINDOW)
        self._refused_refreshes = Refused(MAX_REFUSED_REFRESHES, REFUSED_REFRESH_PAUSE)
        self._token_flood = Flood("machine tokens", MAX_REFUSED_TOKENS, REFUSED_TOKENS_WINDOW)

    def __repr__(self) -> str:
        return f"<ClerkApi at {self._api_url}>"

    @property
    def sdk(self) -> Clerk:
        """Clerk's SDK: the key, the address and the limits of the settings. Each of its calls ends in time, too."""
        return self._open()[0]

    def _open(self) -> tuple[Clerk, Transport]:
        with self._lock:
            if self._opened is None:
                from clerk_views.transport import Transport, build_sdk

                transport = Transport(self._timeout)
                self._opened = (build_sdk(self._secret_key, self._api_url, transport), transport)
            return self._opened

    @property
    def retry_after(self) -> float:
        """Seconds for which the API is left alone; 0 when it may be asked."""
        return self._calls.retry_after

    def close(self) -> None:
        """Close the connections. Calls under way open new ones, so nobody loses an answer."""
        with self._lock:
            if self._opened is not None:
                self._opened[1].close()

    def get_key_set(self, budget: Budget) -> list[Any]:
        """
        Return the entries of the key set as they came, good or bad.

        Raises:
            ClerkUnavailable: There is no answer, or none with a list of keys.
        """
        jwks = self.sdk.jwks  # imported here, before time counts

        def fetch() -> list[Any]:
            return list_of("keys", _lenient(lambda: jwks.get_jwks().model_dump()))

        return self._calls.make(fetch, budget)

    def get_user(self, user_id: str, budget: Budget) -> Any:
        """
        Return a user as the SDK's ``User``, or as a ClerkObject when the SDK cannot parse the answer.

        Raises:
            UserNotFound: Clerk says that there is no such user.
            ClerkUnavailable: There is no answer, or none about this user.
        """
        if not 0 < len(user_id) <= 256:
            raise UserNotFound("no id has this length")
        users = self.sdk.users  # imported here, before time counts
        from clerk_backend_api.models import ClerkBaseError

        def fetch() -> Any:
            try:
                user = readable(_lenient(lambda: users.get(user_id=_segment(user_id))))
            except ClerkBaseError as error:
                if _is_clerks(error, {404}):
                    raise UserNotFound from None
                raise
            if getattr(user, "id", None) != user_id:
                raise ValueError("not the user that was asked for")
            return user

        return self._calls.make(fetch, budget)

    def revoke_session(self, session_id: str, budget: Budget) -> bool:
        """
        End a session at Clerk; False if Clerk has no such session to end, or not any more.

        Raises:
            ClerkUnavailable: There is no answer; the session may go on.
        """
        sessions = self.sdk.sessions  # imported here, before time counts
        from clerk_backend_api.models import ClerkBaseError

        def revoke() -> bool:
            try:
                session = readable(_lenient(lambda: sessions.revoke(session_id=_segment(session_id))))
            except ClerkBaseError as error:
                if _is_clerks(error, CLEAR_REFUSALS):
                    return False
                raise
            if getattr(session, "id", None) != session_id:
                raise ValueError("not the session that was to be ended")
            return True

        return self._calls.make(revoke, budget)

    def get_handshake_payload(self, nonce: str, budget: Budget) -> list[Any]:
        """
        Return the directives that a handshake's nonce stands for, as they came.

        The SDK lacks this call. A nonce serves once, so it is not repeated: a second try would be refused for the
        first one's answer that got lost.

        Raises:
            TokenRefused: Clerk does not know the nonce, or no longer; the reason is Clerk's own code.
            ClerkUnavailable: There is no answer, or none with a list; or too many nonces were refused of late.
        """
        digest = hashlib.sha256(nonce.encode()).hexdigest()
        path = "/v1/clients/handshake_payload"
        with self._refused_nonces.asking(digest), self._nonce_flood.asking():
            return self._ask("GET", path, budget, partial(list_of, "directives"), query={"nonce": nonce})

    def refresh_session(self, session_id: str, body: Mapping[str, Any], suffixed: bool, budget: Budget) -> list[Any]:
        """
        Renew a session's token. Return the cookies to set, as they came.

        The SDK's own call cannot say which cookie names are in use. It is not repeated either: a refresh token may
        serve once.

        Args:
            session_id: Fit for a path.
            body: What Clerk wants to know: the tokens, and where the request came from.

        Raises:
            TokenRefused: Clerk does not renew it; the reason is Clerk's own code.
            ClerkUnavailable: There is no answer, or none with a list.
        """
        query = {"suffixed_cookies": "true"} if suffixed else {}
        path = f"/v1/sessions/{session_id}/refresh"
        with self._refused_refreshes.asking(session_id):
            return self._ask("POST", path, budget, partial(list_of, "cookies"), query=query, body=body)

    def verify_machine_token(
        self, path: str, body: Mapping[str, str], budget: Budget, read: Callable[[Any], T], *, known: bool
    ) -> T:
        """
        Ask what an opaque machine token is. Return what ``read`` makes of the answer.

        Args:
            path: Of the kind of token, with the slash in front. These calls are the only ones that are not below /v1.
            read: Raises TokenRefused where the answer says that the token is bad, ValueError where it says nothing.
            known: Whether this token was good a while ago.

        Raises:
            TokenRefused: Clerk knows no such token, or ``read`` refuses it.
            ClerkUnavailable: There is no answer, or none about the token; or too many were refused of late.
        """
        with self._token_flood.asking(known=known):
            return self._ask("POST", path, budget, read, body=body, refusals=CLEAR_REFUSALS, retry=True)

    def _ask(
        self,
        method: str,
        path: str,
        budget: Budget,
        read: Callable[[Any], T],
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        refusals: Container[int] = REFUSALS,
        retry: bool = False,
    ) -> T:
        """
        Make a call that is not the SDK's, and return what ``read`` finds in the answer.

        Args:
            path: With the version, if it has one.
            read: Raises ValueError where the answer is of no use.
            refusals: Statuses that say something about what was asked, not about the API.
        """
        _, transport = self._open()  # imported here, before time counts
        import httpx
        from clerk_backend_api.models import SDKError

        from clerk_views.transport import CONNECT_TIMEOUT, READ_TIMEOUT

        request = httpx.Request(
            method,
            f"{self._api_url}{path}",
            params=query,
            json=None if body is None else dict(body),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Authorization": f"Bearer {self._secret_key}",
                "Clerk-API-Version": CLERK_API_VERSION,
            },
            extensions={"timeout": httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT).as_dict()},
        )

        def fetch() -> T:
            # Below the client, which would write the address and so the nonce into its log.
            answer = transport.handle_request(request)
            text = answer.content.decode("utf-8", "replace")
            if answer.status_code in refusals:
                code = error_code(text)
                if code is not None and code != "clerk_key_invalid":
                    raise TokenRefused(code, f"status {answer.status_code}")
            if answer.status_code != 200:
                raise SDKError("API error occurred", answer, text)
            return read(json.loads(text))

        return self._calls.make(fetch, budget, retry=retry)

    def list_users(self, budget: Budget, *, limit: int, offset: int) -> list[Any]:
        """
        Return a page of all users, those created first first, as ClerkObjects.

        A page may take as long as the budget lasts and be as large as its users make it.

        Args:
            limit: 1 to 500, Clerk's most.
            offset: How many users come before.

        Raises:
            ClerkUnavailable: There is no answer, or none with a list.
        """
        client = self.sdk.sdk_configuration.client  # imported here, before time counts
        from clerk_views.transport import up_to

        def fetch() -> list[Any]:
            query = {"limit": limit, "offset": offset, "order_by": "+created_at"}
            with up_to(MAX_PAGE):
                page = readable(self._get(client, "/users", query, budget.remaining))
            if not isinstance(page, list):
                raise ValueError("no list of users")
            return page

        return self._calls.make(fetch, budget, limit=budget.remaining)

    def count_users(self, budget: Budget) -> int:
        """Return how many users there are. Raises ClerkUnavailable if there is no answer, or none with a number."""
        client = self.sdk.sdk_configuration.client  # imported here, before time counts

        def fetch() -> int:
            found = self._get(client, "/users/count", {}, CALL_LIMIT)
            number = found.get("total_count") if isinstance(found, dict) else None
            if type(number) is not int:
                raise ValueError("no number of users")
            return number

        return self._calls.make(fetch, budget)

    def _get(self, client: Any, path: str, query: Mapping[str, Any], seconds: float) -> Any:
        """
        Return the JSON that stands at an address.

        For lists: the SDK's own calls read parameters that it calls deprecated, and so warn of themselves each time;
        and where a thousand users are read, models of all that a user can have cost more than the rest.
        """
        from clerk_backend_api.models import SDKError

        answer = client.get(
            f"{self._api_url}/v1{path}",
            params=dict(query),
            headers={
                "Accept": "application/json",
                "Authorization": f"Bearer {self._secret_key}",
                "Clerk-API-Version": API_VERSION,
            },
            timeout=max(seconds, 0.001),
        )
        if answer.status_code != 200:
            raise SDKError("API error occurred", answer, answer.text)
        return json.loads(answer.content)

    def list_domains(self, budget: Budget) -> list[str]:
        """
        Return the addresses of this instance's Frontend API, satellites' included.

        Raises:
            ClerkUnavailable: There is no answer, or none with a list.
        """
        domains = self.sdk.domains  # imported here, before time counts
        return self._calls.make(lambda: [domain.frontend_api_url for domain in domains.list().data], budget)

    @property
    def clock_difference(self) -> float | None:
        """Whole seconds by which Clerk's clock was ahead of ours at the last answer; None if it did not say."""
        dated = None if self._opened is None else self._opened[1].dated
        if dated is None:
            return None
        try:
            return parsedate_to_datetime(dated[0]).timestamp() - int(dated[1])
        except (ValueError, TypeError, OverflowError):
            return None


def _lenient(ask: Callable[[], Any]) -> Any:
    """Return what the SDK finds or, where one odd member keeps its models from fitting, the JSON that was sent."""
    from clerk_backend_api.models import ResponseValidationError

    try:
        return ask()
    except ResponseValidationError as error:
        if error.status_code != 200:
            raise
        return json.loads(error.body)


def _segment(clerk_id: str) -> str:
    """Return an id as one piece of a path. The SDK escapes nothing, and httpx follows dots out of it (TOK-10)."""
    return quote(clerk_id, safe="", errors="replace").replace(".", "%2E")


def _is_clerks(error: ClerkBaseError, statuses: Container[int]) -> bool:
    """Tell Clerk's own answer from that of something in front of it, which cannot find Clerk and says so in HTML."""
    return error.status_code in statuses and error.headers.get("content-type") != "text/html"


_lock = threading.Lock()
_apis: dict[tuple[str, str, float, str], ClerkApi] = {}


def get_api(config: Config) -> ClerkApi:
    """
    Return the API of this configuration, the same object as long as key, address and timeout are the same.

    Raises:
        ImproperlyConfigured: There is no secret key.
    """
    if config.secret_key is None:
        raise ImproperlyConfigured(
            "CLERK_SECRET_KEY is not set, so Clerk's API cannot be asked. Copy the secret key from the API keys page "
            "of Clerk's dashboard into the setting or environment variable CLERK_SECRET_KEY."
        )
    return _api(config.secret_key, config, "CLERK_SECRET_KEY")


def get_machine_api(config: Config) -> ClerkApi:
    """Return the API as M2M tokens are verified: with CLERK_MACHINE_SECRET_KEY, where that is set. See get_api()."""
    if config.machine_secret_key is None:
        return get_api(config)
    return _api(config.machine_secret_key, config, "CLERK_MACHINE_SECRET_KEY")


def _api(secret_key: str, config: Config, key_setting: str) -> ClerkApi:
    key = (secret_key, config.api_url, config.timeout, key_setting)
    with _lock:
        _apis[key] = api = _apis.pop(key, None) or ClerkApi(*key)  # the latest used stands last
        superseded = _apis.pop(next(iter(_apis))) if len(_apis) > MAX_APIS else None
    if superseded is not None:
        superseded.close()
    return api


def _close_all() -> None:
    for api in list(_apis.values()):
        api.close()


def _start_anew() -> None:
    """In a forked child: connections are the parent's, and locks may be held by threads that are no more."""
    global _lock
    _lock = threading.Lock()
    _apis.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_start_anew)
