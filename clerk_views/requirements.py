"""
What does a view ask of its visitor, and does this one meet it?

One vocabulary for every door: the keywords of ``@clerk_required`` and ``clerk_requires``, and with ``clerk_`` in front
the attributes of mixins and REST views. A mistake is an error where the view is defined, so that no view stands open
for a misspelling.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache, partial
from types import MethodType
from typing import Any, NamedTuple, Self, TypedDict

from django.core.exceptions import ImproperlyConfigured

from clerk_views import authorization, values
from clerk_views.auth import ClerkAuth
from clerk_views.authorization import Reverification
from clerk_views.conf import Config

#: Attributes of class-based views start so; the rest is the keyword.
PREFIX = "clerk_"
_API_VIEW = "WrappedAPIView"  # the class that REST framework's @api_view makes of a function

Condition = Callable[[ClerkAuth], object]


class Asked(TypedDict, total=False):
    """The keywords that say who may pass, with their types, for the signatures of the doors."""

    role: str | None
    permission: str | None
    feature: str | None
    plan: str | None
    reverification: str | Mapping[str, Any] | None
    organization: bool | str
    accepts_token: str | Sequence[str] | None
    scopes: Sequence[str] | None
    condition: Condition | None
    allow_pending: bool
    allow_impersonation: bool


class RequiredOptions(Asked, total=False):
    """All keywords of ``@clerk_required``."""

    login_url: str | None
    redirect_field_name: str | None
    raise_exception: bool


class Refusal(NamedTuple):
    """
    Why a visitor who is known may not pass.

    Attributes:
        reason: The code that a visitor is told.
        reverification: What to prove once more, as Clerk's browser helper expects it: a preset's name, or level and
            ``afterMinutes``. None when proving anything would not help.
        detail: For the log: which part of the requirement was not met.
        scopes: What a token must have that this one has not; empty when other scopes would not help.
    """

    reason: str = "not-authorized"
    reverification: str | Mapping[str, Any] | None = None
    detail: str = ""
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """
    What a view asks of its visitor; all of it.

    Attributes:
        role: Of the active organisation; ``org:`` may be left out.
        permission: Of the active organisation, as ``org:invoices:create``.
        feature: Of the user or the active organisation; ``user:`` or ``org:`` in front says whose.
        plan: Likewise.
        reverification: How recently the visitor must have proved who he is: one of Clerk's presets, or
            ``{"level": ..., "afterMinutes": ...}``.
        organization: True: one must be active. Text: the name of the URL's keyword argument in which the active
            organisation's id or slug must stand; what starts with ``org_`` is an id.
        accepts_token: Which kinds of token may be brought: one of ``session_token``, ``api_key``, ``m2m_token``,
            ``oauth_token``, a list of them, or "any". None: those of ``CLERK_ACCEPTS_TOKEN``. Machine tokens count in
            the Authorization header alone, and have neither role nor permission.
        scopes: Which the token must have, all of them. A session has none.
        condition: Anything else, asked with the ClerkAuth. Asked in a thread, so it may read the database.
        allow_pending: Whether a session that has tasks to finish at Clerk counts as signed in.
        allow_impersonation: Whether somebody who acts for the user (an ``act`` claim) may pass.
        login_url: Where to send a browser that is not signed in: an address, a path or a URL name. None: the configured
            sign-in page.
        redirect_field_name: The parameter that carries the way back. None: ``redirect_url`` for Clerk's pages, Django's
            ``next`` for other ones.
        raise_exception: Answer 403 instead of sending browsers to sign in, as in ``django.contrib.auth``.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: A value that could never be met, or always.
    """

    role: str | None = None
    permission: str | None = None
    feature: str | None = None
    plan: str | None = None
    reverification: str | Mapping[str, Any] | None = None
    organization: bool | str = False
    accepts_token: str | Sequence[str] | None = None
    scopes: Sequence[str] | None = None
    condition: Condition | None = None
    allow_pending: bool = False
    allow_impersonation: bool = True
    login_url: str | None = None
    redirect_field_name: str | None = None
    raise_exception: bool = False
    # What has() is to be asked, without what nobody asked for.
    _asked: Mapping[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _proof: Reverification | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if value is not None:
                check(value)
        object.__setattr__(
            self, "_asked", {name: getattr(self, name) for name in _DIMENSIONS if getattr(self, name) is not None}
        )
        if self.reverification is not None:
            # Once and for all: a dictionary that somebody changes later changes nothing here.
            proof = authorization.parse_reverification(self.reverification)
            object.__setattr__(self, "_proof", proof)
            object.__setattr__(self, "reverification", proof.asked)
        self._settle_tokens()
        for name in ("allow_pending", "allow_impersonation", "raise_exception"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, not {getattr(self, name)!r:.100}.")
        if not isinstance(self.organization, bool) and not (
            isinstance(self.organization, str) and self.organization.isidentifier()
        ):
            raise ValueError(
                "organization must be True, for any active organization, or the name of the keyword argument in the "
                f"view's URL that carries its id or slug; it is {self.organization!r:.100}."
            )
        if self.condition is not None:
            _check_condition(self.condition)

    def _settle_tokens(self) -> None:
        """Bring ``accepts_token`` and ``scopes`` into one form each, a tuple or None."""
        if self.accepts_token is not None:
            try:
                accepted = values.token_types(self.accepts_token)
            except (TypeError, ValueError) as error:
                raise type(error)(f"accepts_token {error}") from None
            object.__setattr__(self, "accepts_token", accepted)
            asked = [name for name in _CHECKS if getattr(self, name) is not None]
            if "session_token" not in accepted and asked:
                raise ValueError(
                    f"{asked[0]} is what sessions have, and accepts_token admits none: nobody could ever come in. Ask "
                    "for scopes instead."
                )
        if self.scopes is not None:
            if not isinstance(self.scopes, (list, tuple, set, frozenset)):
                raise TypeError(f"scopes must be a list of texts, not {self.scopes!r:.100}.")
            for scope in self.scopes:
                if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
                    raise ValueError(
                        f"scopes has {scope!r:.100}, which no token has: a scope is text without blanks or quotes."
                    )
            if not self.scopes:
                raise ValueError("scopes is empty, so it asks for nothing. Leave it out.")
            if self.accepts_token == ("session_token",):
                raise ValueError("scopes is what machine tokens have, and accepts_token admits none.")
            object.__setattr__(self, "scopes", tuple(self.scopes))

    def accepted(self, config: Config) -> tuple[str, ...]:
        """Return the kinds of token that may be brought, in the order of ``values.TOKEN_TYPES``."""
        return config.accepts_token if self.accepts_token is None else tuple(self.accepts_token)

    @property
    def optional(self) -> bool:
        """Whether nobody is refused for want of a credential. No keyword says so: it could open a view by mistake."""
        return self is OPTIONAL

    def concerns(self, auth: ClerkAuth, config: Config) -> bool:
        """Whether this can be asked of a credential at all: one of an accepted kind, and without open tasks."""
        return (self.allow_pending or not auth.is_pending) and auth.token_type in self.accepted(config)

    def refusal(self, auth: ClerkAuth, url_kwargs: Mapping[str, Any], config: Config) -> Refusal | None:
        """
        Say why somebody who is signed in may not pass; None if he may.

        Args:
            url_kwargs: The keyword arguments that the URL gave the view.
            config: The settings of this request.

        Raises:
            ImproperlyConfigured: The URL has no argument of the name that ``organization`` asks for.
        """
        if auth.is_pending and not self.allow_pending:
            return Refusal(detail="pending session")
        if not self.concerns(auth, config):
            return Refusal("token-type-mismatch", detail="accepts_token")
        if auth.is_impersonated and not self.allow_impersonation:
            return Refusal(detail="impersonation")
        if self.organization is not False and not self._organization_fits(auth, url_kwargs):
            return Refusal(detail="organization")
        if self.scopes is not None and not set(self.scopes) <= set(auth.scopes):
            by_machine = auth.token_type != "session_token"
            return Refusal(detail="scopes", scopes=tuple(self.scopes) if by_machine else ())
        if self._asked and not auth.has(**self._asked):
            return Refusal(detail=", ".join(f"{name}={value!r:.100}" for name, value in self._asked.items()))
        if self.condition is not None and not _met(self.condition, auth):
            return Refusal(detail="condition")
        # Last, so that nobody proves who he is in vain.
        if self._proof is not None and not auth.has(reverification=self._proof):
            if auth.token_type != "session_token":
                return Refusal(detail="reverification")  # a program cannot prove anything
            return Refusal("reverification-error", self._proof.asked, "reverification")
        return None

    def _organization_fits(self, auth: ClerkAuth, url_kwargs: Mapping[str, Any]) -> bool:
        if self.organization is True:
            return auth.org_id is not None
        if self.organization not in url_kwargs:
            raise ImproperlyConfigured(
                f"A view asks for organization={self.organization!r}, but its URL has no argument of this name. It "
                f"has: {', '.join(url_kwargs) or 'none'}. Name one of these, or add one to the path."
            )
        named = str(url_kwargs[str(self.organization)])
        if auth.org_id is None:
            return False
        # A slug is chosen by people, and must not pass for another organisation's id.
        return named == auth.org_id or (named == auth.org_slug and not named.startswith("org_"))

    @classmethod
    def from_keywords(cls, asked: Mapping[str, Any]) -> Self:
        """
        Return what the keywords of a decorator or of ``clerk_requires`` ask for.

        Raises:
            TypeError: An unknown keyword, a value of the wrong type, or None where something is asked: whoever writes
                ``role=os.environ.get("ADMIN_ROLE")`` wants a role, and must not get a view that asks for none.
            ValueError: See Requirement.
        """
        for name in _NEVER_NONE:
            if name in asked and asked[name] is None:
                raise TypeError(
                    f"{name} is None, which would ask for nothing. Leave it out where nothing is meant; if the value "
                    "comes from the environment or the settings, it is missing there."
                )
        return cls(**asked)

    @classmethod
    def from_attributes(cls, view: Any, **more: Any) -> Requirement:
        """
        Return what the ``clerk_…`` attributes of a view ask for.

        Args:
            view: An instance; or a class, and then what only an instance can answer, as a property, is passed over.
            more: Keywords that go by other names on the view.

        Raises:
            TypeError: An attribute's name is none of ours, or a value is of the wrong type.
            ValueError: See Requirement.
        """
        return cls.again(**keywords_of(view), **more)

    @classmethod
    def again(cls, **keywords: Any) -> Requirement:
        """
        Return what these keywords ask for, for doors that read them from a view at each request.

        Measured: to look at all of it anew costs 7 µs, to know it again 1 µs.
        """
        if "condition" in keywords:  # may be a method, and would keep its view
            return cls(**keywords)
        try:
            return _known(**keywords)
        except TypeError:
            return cls(**keywords)  # a list cannot be known again; and what is wrong says so once more


@lru_cache(maxsize=256, typed=True)
def _known(**keywords: Any) -> Requirement:
    return Requirement(**keywords)


def keywords_of(view: Any, served: Any = None) -> dict[str, Any]:
    """
    Return the ``clerk_…`` attributes of a view, without the prefix; those left out that ask nothing.

    Args:
        view: See Requirement.from_attributes().
        served: The function that a URL led to, if that is known: with ``@api_view`` the attributes stand there.

    Raises:
        TypeError: An attribute's name is none of ours.
    """
    is_class = inspect.isclass(view)
    view_class: type = view if is_class else type(view)
    found = {}
    for name in attribute_names(view_class):
        static = inspect.getattr_static(view, name) if is_class else None
        if name == f"{PREFIX}condition" and not isinstance(static, property):
            value = _condition(view)
        elif is_class:
            value = static
            if hasattr(value, "__get__") and not inspect.isfunction(value):
                continue
        else:
            value = getattr(view, name)
        if value is not None:
            found[name.removeprefix(PREFIX)] = value
    for name, value in function_attributes(view_class, served).items():
        _check_name(name, view_class.__name__)
        if value is not None:
            found[name.removeprefix(PREFIX)] = value
    return found


@lru_cache(maxsize=1024)
def asks_by_attributes(view_class: type) -> bool:
    """
    Whether an instance of this class may ask for something by ``clerk_…`` attributes. Most do not.

    Raises:
        TypeError: An attribute's name is none of ours.
    """
    return bool(attribute_names(view_class)) or view_class.__qualname__ == _API_VIEW


def function_attributes(view_class: type, served: Any = None) -> dict[str, Any]:
    """
    Return the ``clerk_…`` attributes of the function that REST framework's ``@api_view`` has made this class from.

    They may stand on the function itself, below the decorator, or on the view that comes of it. That is found by its
    name, or as what is served: it need not be either, where another view calls this one.
    """
    if view_class.__qualname__ != _API_VIEW:
        return {}
    handlers = [vars(view_class).get(method) for method in getattr(view_class, "http_method_names", ())]
    found = {}
    for handler in filter(None, handlers):
        for cell in handler.__closure__ or ():
            found.update(clerk_names(cell.cell_contents))
    named = getattr(sys.modules.get(view_class.__module__), view_class.__name__, None)
    for function in (named, served):
        while function is not None:
            if getattr(function, "cls", None) is view_class:
                found.update(clerk_names(function))
            function = getattr(function, "__wrapped__", None)
    return found


def clerk_names(function: Any) -> dict[str, Any]:
    """Return what stands on a function under a ``clerk_…`` name; nothing of what is no function, as a model is."""
    own = vars(function) if inspect.isfunction(function) else {}
    return {name: value for name, value in own.items() if name.startswith(PREFIX)}


@lru_cache(maxsize=1024)
def attribute_names(view_class: type) -> tuple[str, ...]:
    """
    Return the names of the ``clerk_…`` attributes of a class-based view.

    Raises:
        TypeError: One of them is none of ours: a misspelling would leave the view open.
    """
    names = tuple(name for name in dir(view_class) if name.startswith(PREFIX))
    for name in names:
        _check_name(name, view_class.__name__)
    return names


def _check_name(name: str, view: str) -> None:
    if name not in ATTRIBUTES:
        near = difflib.get_close_matches(name, ATTRIBUTES, n=2)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise TypeError(
            f"{view}.{name} is no requirement of clerk_views.{hint} There are: {', '.join(sorted(ATTRIBUTES))}. "
            "What is not meant for clerk_views must have another name."
        )


def _condition(view: Any) -> Any:
    """
    Return the condition of a class-based view: a method, or a plain function of the ClerkAuth alone.

    A lambda in a class body would become a method like any function there, and be called with the view as well; so
    would a partial, from Python 3.14 on.
    """
    found = inspect.getattr_static(view, f"{PREFIX}condition")
    if isinstance(found, partial) or (inspect.isfunction(found) and len(inspect.signature(found).parameters) < 2):
        return found
    if inspect.isfunction(found) and inspect.isclass(view):
        return MethodType(found, view)  # of a view, none of which is there yet
    return getattr(view, f"{PREFIX}condition")


def _check_condition(condition: object) -> None:
    if not callable(condition) or inspect.iscoroutinefunction(condition):
        raise TypeError(
            f"condition must be a plain function of the ClerkAuth, not {condition!r:.100}. A coroutine would count as "
            "true before it has run."
        )
    try:
        signature = inspect.signature(condition)
    except (TypeError, ValueError):
        return  # some that are written in C do not tell
    try:
        signature.bind(None)
    except TypeError:
        raise TypeError(
            f"condition must be a function of the ClerkAuth alone, and {condition!r:.100} takes {signature}."
        ) from None


def _met(condition: Condition, auth: ClerkAuth) -> bool:
    result = condition(auth)
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()  # else Python warns that nobody awaited it
        raise TypeError("condition gave an awaitable, which counts as true before it has run. Return True or False.")
    return bool(result)


_CHECKS: Mapping[str, Callable[[object], object]] = {
    "role": authorization.check_role,
    "permission": authorization.check_permission,
    "feature": authorization.check_feature,
    "plan": authorization.check_plan,
    "reverification": authorization.parse_reverification,
}
# Source: RFC 6749, section 3.3.
_SCOPE = re.compile(r"[!#-\[\]-~]+")
_DIMENSIONS = ("role", "permission", "feature", "plan")
# What a keyword asks for. None is only for who does not write it.
_NEVER_NONE = (*_DIMENSIONS, "reverification", "accepts_token", "scopes", "condition")

#: Django's own names, which have no prefix as attributes.
OWN_NAMES = ("login_url", "redirect_field_name", "raise_exception")

#: The attributes of class-based views that are ours.
ATTRIBUTES = frozenset(PREFIX + item.name for item in fields(Requirement) if item.init and item.name not in OWN_NAMES)

#: Keywords that let more come in.
WIDENING = ("allow_pending", "accepts_token")

#: Those that ask something, unless they are None.
ASKING = frozenset(PREFIX + name for name in _NEVER_NONE)

#: What ``@clerk_optional`` asks: nothing.
OPTIONAL = Requirement()
