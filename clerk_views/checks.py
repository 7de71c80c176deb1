"""
`manage.py check`: what is wrong with the settings, found before the first request.

Ids stay what they are, so that SILENCED_SYSTEM_CHECKS keeps its meaning. Texts say what was seen and how to mend it,
and never show a key. Each setting's own rule stands in conf.SETTINGS; here are the rules between settings.

E001        no key source, or none for users
E002..E020  a setting's own rule (conf.SETTINGS says which id is whose), and for some a look at what they name
E021        secret and publishable key of different instances
E022        a CLERK_* name that does not exist
E023        a satellite without an address
W032        origins are not checked
W033        plain http:// origins (with --deploy)
E034        the stand-in for Clerk configured (with --deploy)
E035, W036  middleware missing or in the wrong order
E037..E046  rules of single settings, too
W050        revoked sessions are looked for where nobody notes them, or they are soon forgotten
E047        a sign-in page that is the view which sends visitors there
E048        clerk_… attributes of a view that are wrong, or that nobody asks
W049        one that is None, and so asks nothing
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.cache import caches
from django.core.cache.backends.db import BaseDatabaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.urls import NoReverseMatch, URLResolver, get_resolver, reverse
from django.utils.module_loading import import_string

from clerk_views import keys
from clerk_views.conf import SETTINGS, Config, read_raw
from clerk_views.requirements import ASKING, PREFIX, clerk_names, function_attributes
from clerk_views.values import SettingError, quoted

Problem = checks.CheckMessage

#: Entries that a cache should have room for. Each user who came by or was synced of late is one, so is each machine's.
ENOUGH_ROOM = 10_000

SHARE_CACHE = (
    "Let CLERK_CACHE_ALIAS name a cache that all processes share: Redis, Memcached, or the database with "
    "'MAX_ENTRIES' in its OPTIONS."
)
MAKE_ROOM = (
    f"Set 'MAX_ENTRIES' in its OPTIONS to {ENOUGH_ROOM} or more, at least twice the number of your users; or "
    "let CLERK_CACHE_ALIAS name Redis or Memcached."
)

_CLERK_MIDDLEWARE = "clerk_views.middleware.ClerkMiddleware"
_AUTHENTICATION_MIDDLEWARE = "django.contrib.auth.middleware.AuthenticationMiddleware"
_CSRF_MIDDLEWARE = "django.middleware.csrf.CsrfViewMiddleware"


def register() -> None:
    """Add the checks to Django's; called once, when the app is ready."""
    for check in (check_values, check_relations, check_names, check_middleware, check_pages, check_views):
        checks.register(check, "clerk_views", checks.Tags.security)
    checks.register(check_deployment, "clerk_views", checks.Tags.security, deploy=True)


def _error(check_id: str, text: str, hint: str | None = None) -> Problem:
    return checks.Error(text, hint=hint, id=f"clerk_views.{check_id}")


def _warning(check_id: str, text: str, hint: str | None = None) -> Problem:
    return checks.Warning(text, hint=hint, id=f"clerk_views.{check_id}")


def _parse() -> tuple[dict[str, Any], dict[str, SettingError]]:
    """Return every setting's parsed value, its default's where it cannot be used, and what is wrong with those."""
    raw = read_raw()
    values: dict[str, Any] = {}
    wrong: dict[str, SettingError] = {}
    for setting in SETTINGS:
        try:
            values[setting.name] = setting.parse(raw[setting.name])
        except SettingError as error:
            wrong[setting.name] = error
            values[setting.name] = setting.parse(setting.default)
    return values, wrong


def check_values(**kwargs: object) -> list[Problem]:
    """Check each setting by itself, then what it names: a key, a cache, an issuer, fields of the user model."""
    values, wrong = _parse()
    problems = [
        _error(setting.check_id, f"{setting.name} {wrong[setting.name].wrong}", wrong[setting.name].mend)
        for setting in SETTINGS
        if setting.name in wrong
    ]
    if values["CLERK_JWT_KEY"] is not None:
        try:
            keys.parse_pem(values["CLERK_JWT_KEY"])
        except ValueError:
            problems.append(
                _error(
                    "E005",
                    "CLERK_JWT_KEY is PEM, but not an RSA public key of at least 2048 bits.",
                    "Copy 'JWKS public key' (PEM) from the API keys page of Clerk's dashboard once more, whole.",
                )
            )
    alias = values["CLERK_CACHE_ALIAS"]
    if alias and alias not in settings.CACHES:
        problems.append(
            _error(
                "E010",
                f"CLERK_CACHE_ALIAS names the cache {quoted(alias)}, which CACHES does not have.",
                f"CACHES has: {', '.join(settings.CACHES)}. Name one of these, or remove the setting.",
            )
        )
    problems += [
        _error(
            "E012",
            f"CLERK_ISSUER has {quoted(issuer)}, which is not the start of an https:// address, as an issuer is.",
            "Write for example https://clerk.example.com, without a closing slash; or remove the setting to derive it "
            "from the publishable key.",
        )
        for issuer in values["CLERK_ISSUER"]
        if not issuer.startswith("https://") or issuer.endswith("/")
    ]
    return [*problems, *_check_user_fields(values["CLERK_USER_FIELDS"]), *_check_revoked_sessions(values)]


def is_shared(alias: str) -> bool:
    """Say whether a cache of CACHES is one for all processes, as far as Django's own tell."""
    backend = import_string(settings.CACHES[alias]["BACKEND"])
    return not issubclass(backend, (LocMemCache, DummyCache))


def scant_room(alias: str) -> int | None:
    """
    Say beyond how many entries a cache of CACHES drops some that still count; None if it has room enough.

    Django's caches in memory, files and the database do so by themselves, by default beyond 300. Servers like Redis
    have limits of their own, which nobody can see from here.
    """
    backend = import_string(settings.CACHES[alias]["BACKEND"])
    if not issubclass(backend, (LocMemCache, BaseDatabaseCache, FileBasedCache)):
        return None
    room: int = caches[alias]._max_entries
    return room if room < ENOUGH_ROOM else None


def _check_revoked_sessions(values: Mapping[str, Any]) -> Iterator[Problem]:
    if not values["CLERK_CHECK_REVOKED_SESSIONS"]:
        return
    alias = values["CLERK_CACHE_ALIAS"] or "default"
    if alias in settings.CACHES and not is_shared(alias):
        yield _warning(
            "W050",
            f"CLERK_CHECK_REVOKED_SESSIONS is True, but each process has the cache {quoted(alias)} for itself, or "
            "nothing stays in it: a session that is revoked in one is good in the others until its token expires.",
            SHARE_CACHE,
        )
    elif alias in settings.CACHES and (room := scant_room(alias)) is not None:
        yield _warning(
            "W050",
            f"CLERK_CHECK_REVOKED_SESSIONS is True, but once the cache {quoted(alias)} has more than {room} entries it "
            "drops some that still count, and each user who comes by is one: a revoked session is soon good again.",
            MAKE_ROOM,
        )
    elif not values["CLERK_WEBHOOK_SIGNING_SECRET"]:
        yield _warning(
            "W050",
            "CLERK_CHECK_REVOKED_SESSIONS is True, but without CLERK_WEBHOOK_SIGNING_SECRET Clerk cannot tell which "
            "sessions are revoked.",
            "Add a webhook for session.* events in Clerk's dashboard and set its secret, or remove the setting.",
        )


def _check_user_fields(mapping: Mapping[str, str | None]) -> Iterator[Problem]:
    own = getattr(settings, "CLERK_USER_FIELDS", None) or {}
    model = get_user_model()
    for source, target in mapping.items():
        if source not in own or target is None:
            continue  # a field of the built-in mapping that the model lacks is left out
        maps = f"CLERK_USER_FIELDS maps {quoted(source)} to {quoted(target)}"
        if "." in target:
            try:
                found = import_string(target)
            except ImportError:
                found = None
            if not callable(found):
                yield _error(
                    "E014",
                    f"{maps}, which is not a function that can be imported.",
                    "Write the full dotted path of a function, for example 'myapp.sync.plan_from_metadata'.",
                )
            continue
        try:
            field = model._meta.get_field(target)
        except FieldDoesNotExist:
            field = None
        if field is None or field.is_relation or getattr(field, "primary_key", False) or not field.concrete:
            yield _error(
                "E014",
                f"{maps}, which is no plain column of {model._meta.label}.",
                "Name one of the model's own columns, or the dotted path of a function.",
            )


def check_relations(**kwargs: object) -> list[Problem]:
    """Check what settings say together."""
    values, wrong = _parse()
    problems: list[Problem] = []
    is_nowhere = values["CLERK_IS_SATELLITE"] and not (values["CLERK_DOMAIN"] or values["CLERK_PROXY_URL"])
    if not wrong.keys() & {"CLERK_SECRET_KEY", "CLERK_JWT_KEY", "CLERK_USER_SOURCE"}:
        raw = read_raw()
        set_aside = {*wrong, *(["CLERK_IS_SATELLITE"] if is_nowhere else [])}  # told below, by an id of its own
        try:
            Config(
                {
                    setting.name: setting.default if setting.name in set_aside else raw[setting.name]
                    for setting in SETTINGS
                }
            )
        except ImproperlyConfigured as error:
            problems.append(_error("E001", str(error)))
    secret_key, publishable_key = values["CLERK_SECRET_KEY"] or "", values["CLERK_PUBLISHABLE_KEY"]
    other_mode = "sk_test_" if publishable_key and publishable_key.is_production else "sk_live_"
    if publishable_key and secret_key.startswith(other_mode):
        problems.append(
            _error(
                "E021",
                f"CLERK_SECRET_KEY starts with '{other_mode}', but CLERK_PUBLISHABLE_KEY with "
                f"'pk_{'live' if publishable_key.is_production else 'test'}_': they belong to different instances.",
                "Copy both from the same instance's API keys page, for production or for development.",
            )
        )
    if is_nowhere:
        problems.append(
            _error(
                "E023",
                "CLERK_IS_SATELLITE is True, but neither CLERK_DOMAIN nor CLERK_PROXY_URL says where the satellite is.",
                "Set CLERK_DOMAIN to the satellite's domain, or CLERK_PROXY_URL.",
            )
        )
    if not values["CLERK_AUTH_PARTIES"] and "CLERK_AUTH_PARTIES" not in wrong:
        problems.append(
            _warning(
                "W032",
                "CLERK_AUTH_PARTIES is not set, so a token that your Clerk instance issued to any origin is accepted.",
                'List the origins of your own pages, for example ["https://app.example.com"].',
            )
        )
    return problems


def check_names(**kwargs: object) -> list[Problem]:
    """Look for CLERK_* names that do nothing."""
    known = {setting.name for setting in SETTINGS}
    found = sorted(name for name in dir(settings) if name.startswith("CLERK_"))
    problems = []
    for name in found:
        if name not in known:
            # Compared without the prefix, which would make every two names look alike.
            words = {word.removeprefix("CLERK_"): word for word in sorted(known)}
            near = difflib.get_close_matches(name.removeprefix("CLERK_"), words, n=3)
            problems.append(
                _error(
                    "E022",
                    f"{name} is not a setting of clerk_views.",
                    f"Did you mean {' or '.join(words[word] for word in near)}?"
                    if near
                    else "Remove it. If it is your project's own, rename it or silence this check.",
                )
            )
    return problems


def check_middleware(**kwargs: object) -> list[Problem]:
    """Check that ClerkMiddleware, where used, has the last word on ``request.user`` and CSRF protection beside it."""
    clerk = _position(_CLERK_MIDDLEWARE)
    if clerk is None:
        return []
    problems = []
    authentication = _position(_AUTHENTICATION_MIDDLEWARE)
    if authentication is not None and clerk < authentication:
        problems.append(
            _error(
                "E035",
                "ClerkMiddleware comes before Django's AuthenticationMiddleware, which would overwrite request.user.",
                f"Move '{_CLERK_MIDDLEWARE}' below '{_AUTHENTICATION_MIDDLEWARE}' in MIDDLEWARE.",
            )
        )
    if _position(_CSRF_MIDDLEWARE) is None:
        problems.append(
            _warning(
                "W036",
                "ClerkMiddleware signs visitors in by cookie, but nothing protects plain views from forged requests.",
                f"Add '{_CSRF_MIDDLEWARE}' to MIDDLEWARE.",
            )
        )
    return problems


def check_pages(**kwargs: object) -> list[Problem]:
    """Check that clerk_views.urls, where included, does not send visitors in circles."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    values, _ = _parse()
    views = {}
    for name in ("sign-in", "sign-up"):
        with suppress(NoReverseMatch):  # the project does without them
            views[reverse(f"clerk_views:{name}")] = name
    problems = []
    for setting in ("CLERK_SIGN_IN_URL", "CLERK_SIGN_UP_URL"):
        address = urlsplit(values[setting] or "")
        if _is_ours(address, values) and address.path in views:
            problems.append(
                _error(
                    "E047",
                    f"{setting} leads to the view 'clerk_views:{views[address.path]}', which shows no form but sends "
                    "visitors to the page that this setting names.",
                    "Set it to the page with {% clerk_component %}, or remove it for Clerk's hosted page. LOGIN_URL is "
                    "where the view's name belongs.",
                )
            )
    return problems


def _is_ours(address: SplitResult, values: Mapping[str, Any]) -> bool:
    """Whether an address is of this very site, as far as the settings tell; of its parties a satellite is but one."""
    if not address.netloc:
        return True
    if values["CLERK_IS_SATELLITE"]:
        return bool(address.netloc == values["CLERK_DOMAIN"])
    return f"{address.scheme}://{address.netloc}" in values["CLERK_AUTH_PARTIES"]


def _position(path: str) -> int | None:
    """Return where this middleware, or a class made from it, stands in MIDDLEWARE."""
    for position, name in enumerate(settings.MIDDLEWARE):
        try:
            middleware = import_string(name)
        except ImportError:
            continue  # Django's own words about it are clear enough
        if path in (f"{base.__module__}.{base.__qualname__}" for base in getattr(middleware, "__mro__", ())):
            return position
    return None


def check_views(**kwargs: object) -> list[Problem]:
    """
    Check the ``clerk_…`` attributes of REST framework's views, which are only read when a request comes.

    Those of our mixins are looked at where the class is defined. Those on whatever nobody asks are found, too: on views
    without a permission of ours, on functions, on the methods of a class.
    """
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    return [problem for view in _callbacks(get_resolver().url_patterns) for problem in _check_callback(view)]


def _callbacks(patterns: Iterable[Any]) -> Iterator[Any]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _callbacks(pattern.url_patterns)
        else:
            yield pattern.callback


def _check_callback(callback: Any) -> Iterator[Problem]:
    view_class = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
    stray = clerk_names(callback)
    if not isinstance(view_class, type):
        yield from _unread(callback, stray, "Write it as a keyword of @clerk_required.")
        return
    on_function = function_attributes(view_class, callback)
    yield from _unread(callback, stray.keys() - on_function.keys(), "Write it into the class.")
    for base in view_class.__mro__:
        for method in vars(base).values():
            yield from _unread(
                method, clerk_names(method), "Give the method a permission of its own, clerk_requires()."
            )
    if not hasattr(view_class, "get_clerk_requirement"):
        # What as_view() was given counts, and stands on the view itself.
        given = getattr(callback, "initkwargs", None) or getattr(callback, "view_initkwargs", None) or {}
        named = {"__module__": view_class.__module__, "__qualname__": view_class.__name__}
        members = {**named, **on_function, **given}
        yield from _check_view(type(view_class.__name__, (view_class,), members), getattr(callback, "actions", {}))


def _check_view(view_class: type, actions: Mapping[str, str]) -> Iterator[Problem]:
    permissions = _permissions(view_class, actions)
    ours = [permission for permission in _leaves(permissions or ()) if hasattr(permission, "asked")]
    for permission in ours:
        try:
            (permission() if isinstance(permission, type) else permission).asked(view_class)
        except (TypeError, ValueError) as error:
            where = f"{view_class.__module__}.{view_class.__name__}"
            yield _error("E048", f"{where}: {error}", "Until this is mended, every request to the view is an error.")
            return
    names = sorted(name for name in dir(view_class) if name.startswith(PREFIX))
    if ours:
        yield from _check_nothing_asked(view_class, ASKING.intersection(names))
    elif permissions is not None:
        yield from _unread(
            view_class,
            [name for name in names if inspect.getattr_static(view_class, name) is not None],
            "Put IsClerkAuthenticated into its permission_classes, or, where it is Django's own kind of view, "
            "ClerkLoginRequiredMixin first among its bases.",
        )


def _check_nothing_asked(view_class: type, names: Iterable[str]) -> Iterator[Problem]:
    """Find attributes that are None, unless they lift what a base asks, or make room for what actions ask."""
    for name in sorted(names):
        values = [vars(base)[name] for base in view_class.__mro__ if name in vars(base)]
        actions = view_class.get_extra_actions() if hasattr(view_class, "get_extra_actions") else []
        if any(value is not None for value in values) or any(name in action.kwargs for action in actions):
            continue
        yield _warning(
            "W049",
            f"{view_class.__module__}.{view_class.__name__}.{name} is None, so it asks nothing of anybody.",
            "Leave it out where nothing is meant; if the value comes from the environment or the settings, it is "
            "missing there, and the view is open to all who are signed in.",
        )


def _unread(owner: Any, names: Iterable[str], hint: str) -> Iterator[Problem]:
    for name in sorted(names):
        where = f"{owner.__module__}.{owner.__qualname__}.{name}"
        text = f"{where} asks something that nobody reads, so the view is open to those it should keep out."
        yield _error("E048", text, hint)


def _permissions(view_class: Any, actions: Mapping[str, str]) -> list[Any] | None:
    """Return the view's permissions, those of all its actions. None: they depend on a request."""
    chosen = getattr(view_class, "get_permissions", None)
    if chosen is None or chosen.__module__.startswith("rest_framework"):
        return list(getattr(view_class, "permission_classes", ()))
    found: list[Any] = []
    for action in actions.values() or [None]:
        view = view_class()
        view.action, view.args, view.kwargs = action, (), {}
        try:
            found += view.get_permissions()
        except Exception:  # noqa: BLE001 - the project's own code, which counts on a request
            return None
    return found


def _leaves(permissions: Iterable[Any]) -> Iterator[Any]:
    """Return the permissions, or their classes, those composed by ``&``, ``|`` and ``~`` taken apart."""
    for permission in permissions:
        names = ("op1_class", "op2_class", "op1", "op2")
        parts = [part for name in names if (part := getattr(permission, name, None)) is not None]
        if parts:
            yield from _leaves(parts)
        else:
            yield permission


def check_deployment(**kwargs: object) -> list[Problem]:
    """Check what is fine on a developer's machine and wrong in production."""
    values, _ = _parse()
    problems = []
    plain = [party for party in values["CLERK_AUTH_PARTIES"] if party and party.startswith("http://")]
    if plain:
        problems.append(
            _warning(
                "W033",
                f"CLERK_AUTH_PARTIES has origins without encryption: {', '.join(plain)}.",
                "List https:// origins only; whoever listens in can take a session from the others.",
            )
        )
    if values["CLERK_API_URL"].startswith("http://"):
        problems.append(
            _error(
                "E034",
                "CLERK_API_URL leads to this machine: whoever can answer there decides who is signed in.",
                "Remove the setting; a local stand-in for Clerk is for development and tests.",
            )
        )
    return problems
