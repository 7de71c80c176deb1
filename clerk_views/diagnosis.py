"""
Does it work, here and now? Each question asked live: of Clerk, of the cache, of the database.

Behind ``manage.py clerk_doctor``. What ``manage.py check`` finds by looking at the settings comes first; here is what
only an answer can tell. No finding ever holds a secret.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

from django.contrib.auth import get_user_model
from django.core import checks
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections, router
from django.db.migrations.executor import MigrationExecutor

from clerk_views import keys
from clerk_views.api import ClerkApi
from clerk_views.calls import Budget
from clerk_views.checks import MAKE_ROOM, SHARE_CACHE, is_shared, scant_room
from clerk_views.conf import Config, read_raw
from clerk_views.exceptions import ClerkUnavailable, TokenRefused

Verdict = Literal["ok", "warning", "error", "skipped"]

CALL_TIMEOUT = 10.0  # seconds
#: Seconds. The ``Date`` of an answer has whole ones, and the answer was under way.
CLOCK_TOLERANCE = 2

_APPS = ("clerk_views", "clerk_users")


@dataclass(frozen=True, slots=True)
class Finding:
    """
    The answer to one question.

    Attributes:
        name: The question's, such as "api".
        detail: What was seen.
        advice: What to do about it; empty if nothing.
    """

    name: str
    verdict: Verdict
    detail: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return it as JSON has it."""
        return asdict(self)


def examine() -> Iterator[Finding]:
    """Ask all questions, those first without which the others have no answer."""
    problems = [problem for problem in checks.run_checks(tags=["clerk_views"]) if not problem.is_silenced()]
    for problem in problems:
        verdict: Verdict = "error" if problem.level >= checks.ERROR else "warning"
        yield Finding("settings", verdict, f"{problem.id}: {problem.msg}", problem.hint or "")
    try:
        config = Config(read_raw())
    except ImproperlyConfigured as error:
        if not problems:
            yield Finding("settings", "error", str(error), "Run 'manage.py check'.")
        return
    if not problems:
        yield Finding("settings", "ok", "manage.py check has nothing to say about them.")
    yield from _examine_clerk(config)
    yield _examine_machines(config)
    yield _examine_cache(config)
    yield _examine_webhooks(config)
    yield _examine_migrations()


def _examine_clerk(config: Config) -> Iterator[Finding]:
    if config.secret_key is None:
        why = "There is no CLERK_SECRET_KEY, so Clerk cannot be asked."
        yield from (Finding(name, "skipped", why) for name in ("api", "keys", "clock", "instance"))
        return
    api = ClerkApi(config.secret_key, config.api_url, CALL_TIMEOUT)
    try:
        yield _asking("api", lambda: _examine_api(api, config))
        yield _asking("keys", lambda: _examine_keys(api, config))
        yield _examine_clock(api, config)
        yield _asking("instance", lambda: _examine_instance(api, config))
    finally:
        api.close()


def _asking(
    name: str, question: Callable[[], Finding], key: str = "CLERK_SECRET_KEY", page: str = "API keys"
) -> Finding:
    try:
        return question()
    except ClerkUnavailable as error:
        if error.reason == "secret-key-invalid":
            return Finding(
                name,
                "error",
                f"Clerk refuses {key} ({error}).",
                f"Copy the secret key from the {page} page of Clerk's dashboard once more.",
            )
        return Finding(name, "error", f"{error}.", "Look at CLERK_API_URL, the network, and https://status.clerk.com.")


def _examine_api(api: ClerkApi, config: Config) -> Finding:
    users = api.count_users(Budget(CALL_TIMEOUT))
    return Finding("api", "ok", f"{config.api_url} answers and takes the secret key. It has {users} users.")


def _examine_keys(api: ClerkApi, config: Config) -> Finding:
    usable = keys.usable(api.get_key_set(Budget(CALL_TIMEOUT)))
    if not usable:
        return Finding(
            "keys",
            "error",
            "Clerk's key set has no RSA key that can be used, so no session token can be verified.",
            "Look at the API keys page of Clerk's dashboard.",
        )
    if config.jwt_key is None:
        return Finding("keys", "ok", f"Clerk's key set has {len(usable)} usable key(s).")
    own = keys.parse_pem(config.jwt_key).public_numbers()
    if own not in [key.public_numbers() for key in usable.values()]:
        return Finding(
            "keys",
            "error",
            "CLERK_JWT_KEY is not among the keys of this secret key's instance: it is another instance's, or was "
            "replaced. Tokens of your users are refused.",
            "Copy 'JWKS public key' (PEM) from the API keys page of Clerk's dashboard, or remove the setting.",
        )
    return Finding("keys", "ok", "CLERK_JWT_KEY is the instance's key.")


def _examine_clock(api: ClerkApi, config: Config) -> Finding:
    ahead = api.clock_difference
    if ahead is None:
        return Finding("clock", "skipped", "No answer of Clerk's said what time it is there.")
    seen = f"This machine's clock and Clerk's differ by {abs(ahead):.0f} s; {config.clock_skew:g} s are forgiven."
    if abs(ahead) <= max(CLOCK_TOLERANCE, config.clock_skew):
        return Finding("clock", "ok", seen)
    return Finding("clock", "error", seen, "Let this machine take the time from the network (NTP).")


def _examine_instance(api: ClerkApi, config: Config) -> Finding:
    if config.publishable_key is None:
        return Finding("instance", "skipped", "There is no CLERK_PUBLISHABLE_KEY to compare with the secret key.")
    addresses = api.list_domains(Budget(CALL_TIMEOUT))
    hosts = {address.partition("://")[2].partition("/")[0].lower() for address in addresses}
    if config.publishable_key.host in hosts:
        return Finding("instance", "ok", "The publishable and the secret key are of one instance.")
    return Finding(
        "instance",
        "error",
        f"CLERK_PUBLISHABLE_KEY is of the instance at {config.publishable_key.host}, CLERK_SECRET_KEY of that at "
        f"{', '.join(sorted(hosts)) or 'no address'}.",
        "Copy both from the same instance's API keys page.",
    )


def _examine_machines(config: Config) -> Finding:
    if config.machine_secret_key is None:
        return Finding(
            "machines", "skipped", "There is no CLERK_MACHINE_SECRET_KEY; the secret key verifies M2M tokens."
        )
    api = ClerkApi(config.machine_secret_key, config.api_url, CALL_TIMEOUT, "CLERK_MACHINE_SECRET_KEY")

    def question() -> Finding:
        path, made_up = "/m2m_tokens/verify", {"token": f"mt_{secrets.token_hex(16)}"}
        with suppress(TokenRefused):  # that there is no such token is the good answer: only a good key gets it
            api.verify_machine_token(path, made_up, Budget(CALL_TIMEOUT), _no_answer, known=False)
        return Finding("machines", "ok", "Clerk takes the machine secret key.")

    try:
        return _asking("machines", question, "CLERK_MACHINE_SECRET_KEY", "Machines")
    finally:
        api.close()


def _no_answer(answer: object) -> None:
    raise ValueError("a token that was made up is none of Clerk's")


def _examine_cache(config: Config) -> Finding:
    name, alias = f"clerk_views:doctor:{secrets.token_hex(8)}", config.cache_alias
    text = secrets.token_hex(8)
    try:
        cache = caches[alias]
        cache.set(name, text, 60)
        kept = cache.get(name) == text
        cache.delete(name)
        gone = cache.get(name) is None
    except Exception as error:  # noqa: BLE001  # every cache backend raises errors of its own
        return Finding(
            "cache",
            "error",
            f"The cache {alias!r} does not work ({type(error).__name__}).",
            "Users are compared with Clerk at every turn until it does. Look at CACHES and the cache's server.",
        )
    if not gone:
        return Finding("cache", "error", f"The cache {alias!r} does not delete.", "Look at the cache's server.")
    if not kept or not is_shared(alias):
        return Finding(
            "cache",
            "error" if config.check_revoked_sessions else "warning",
            f"The cache {alias!r} keeps nothing, or each process has its own.",
            SHARE_CACHE,
        )
    room = scant_room(alias)
    if room is not None:
        return Finding(
            "cache",
            "error" if config.check_revoked_sessions else "warning",
            f"Once the cache {alias!r} has more than {room} entries it drops some that still count, and each user who "
            "comes by is one.",
            MAKE_ROOM,
        )
    return Finding("cache", "ok", f"The cache {alias!r} works, and all processes share it.")


def _examine_webhooks(config: Config) -> Finding:
    if config.webhook_secrets:
        return Finding("webhooks", "ok", f"{len(config.webhook_secrets)} signing secret(s) are set.")
    return Finding(
        "webhooks",
        "error" if config.check_revoked_sessions else "warning",
        "CLERK_WEBHOOK_SIGNING_SECRET is not set, so no webhook is believed, and news of users arrives when they come.",
        "Add a webhook in Clerk's dashboard and set its signing secret.",
    )


def _examine_migrations() -> Finding:
    database = connections[router.db_for_write(get_user_model())]
    try:
        executor = MigrationExecutor(database)
        plan: list[Any] = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Error as error:
        return Finding(
            "migrations",
            "error",
            f"The database {database.alias!r} does not work ({type(error).__name__}).",
            "Look at DATABASES and the database's server.",
        )
    waiting = [f"{migration.app_label}.{migration.name}" for migration, _ in plan if migration.app_label in _APPS]
    if waiting:
        return Finding("migrations", "error", f"Not applied: {', '.join(waiting)}.", "Run 'manage.py migrate'.")
    return Finding("migrations", "ok", "All are applied.")
