"""
``{% load clerk %}``: Clerk in templates. What does a page show of Clerk, and what may its visitor see?

``clerk_js`` and ``clerk_component`` write plain, escaped HTML; all that runs in the browser is in files of their own,
so a Content-Security-Policy needs no exception for inline scripts.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from django import template
from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest
from django.template.base import FilterExpression, NodeList, Parser, Token, TokenType, Variable, token_kwargs
from django.template.context import Context
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join, json_script
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from clerk_views import answers, authorization, frontend
from clerk_views.auth import ClerkAuth
from clerk_views.conf import Config, config
from clerk_views.visitors import get_clerk

register = template.Library()

#: Component -> page below Clerk's account portal, and the words of the link to it.
_PORTAL = {
    "sign-in": ("sign-in", "Sign in"),
    "sign-up": ("sign-up", "Sign up"),
    "user-button": ("user", "Account"),
    "user-profile": ("user", "Account"),
}


@register.simple_tag(takes_context=True)
def clerk_js(context: Context, nonce: Any = None, **options: Any) -> SafeString:
    """
    Load Clerk's JavaScript for the configured instance, and start it.

    ::

        {% clerk_js %}
        {% clerk_js appearance=look localization=texts %}

    Args:
        nonce: Of the page's Content-Security-Policy; None: the request's, where Django or django-csp made one.
        options: For ``Clerk.load()``, in Python's spelling: ``after_sign_out_url="/bye/"``. They win over the settings.
    """
    settings = config()
    word = _nonce(context, nonce)
    everywhere = {"crossorigin": "anonymous", **({} if word is None else {"nonce": word})}
    clerk, components = frontend.script_urls(settings)
    return format_html(
        '{}\n<script async src="{}" data-clerk-js-script{}></script>\n'
        '<script async src="{}" data-clerk-ui-script{}></script>\n'
        '<script defer src="{}"{}></script>',
        json_script(frontend.load_options(settings, word, options), "clerk-views-options"),
        clerk,
        _attributes({**frontend.script_attributes(settings), **everywhere}),
        components,
        _attributes(everywhere),
        static("clerk_views/clerk.js"),
        _attributes({} if word is None else {"nonce": word}),
    )


def _attributes(values: Mapping[str, str]) -> SafeString:
    return format_html_join("", ' {}="{}"', values.items())


def _nonce(context: Context, given: Any) -> str | None:
    request = context.get("request")
    found = (
        given,
        context.get("csp_nonce"),  # Django's context processor
        getattr(request, "csp_nonce", None),  # django-csp
        getattr(request, "_csp_nonce", None),  # Django's middleware, by itself
    )
    # Not by its truth: Django's is false until it is used for the first time.
    return next((str(nonce) for nonce in found if nonce is not None), None)


@register.tag
def clerk_component(parser: Parser, token: Token) -> ComponentNode:
    """
    Mount one of Clerk's components.

    ::

        {% clerk_component "user-button" show_name=True %}
        {% clerk_component "pricing-table" for="user" %}Prices are coming …{% endclerk_component %}

    Properties are keyword arguments in Python's spelling. What stands before the end tag is shown until the component
    is there; without an end tag the components for signing in have a link to Clerk's own pages.
    """
    _, *bits = token.split_contents()
    if not bits:
        raise template.TemplateSyntaxError("clerk_component wants a component's name, as in 'user-button'.")
    name = parser.compile_filter(bits.pop(0))
    if isinstance(name.var, str) and not name.filters:
        _known(name.var, frontend.COMPONENTS, "component of Clerk")
    given = token_kwargs(bits, parser)
    if bits:
        raise template.TemplateSyntaxError(f"clerk_component takes name=value after the component; it is {bits[0]!r}.")
    fallback = None
    if _has_end(cast("list[Token]", parser.tokens)):  # the stubs allow for text, which a parser never holds
        fallback = parser.parse(("endclerk_component",))
        parser.delete_first_token()
    return ComponentNode(name, given, fallback)


def _has_end(tokens: Sequence[Token]) -> bool:
    """Whether an end tag comes before another component. The parser holds what is left from the last to the next."""
    for token in reversed(tokens):
        if token.token_type == TokenType.BLOCK:
            tag = token.contents.split()[0]
            if tag in ("clerk_component", "endclerk_component"):
                return tag == "endclerk_component"
    return False


def _known(name: str, names: Iterable[str], kind: str) -> None:
    known = sorted(names)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or known
        raise template.TemplateSyntaxError(f"{name!r} is no {kind}. Did you mean {', '.join(near)}?")


class ComponentNode(template.Node):
    """The place where a component is mounted, with what is shown until then."""

    child_nodelists = ("fallback",)

    def __init__(
        self, name: FilterExpression, given: Mapping[str, FilterExpression], fallback: NodeList | None
    ) -> None:
        self.name = name
        self.given = given
        self.fallback = fallback if fallback is not None else NodeList()
        self.has_end = fallback is not None

    def render(self, context: Context) -> SafeString:
        """Return the element that clerk.js looks for."""
        name = str(self.name.resolve(context))
        _known(name, frontend.COMPONENTS, "component of Clerk")
        request = context.get("request")
        given = {key: value.resolve(context) for key, value in self.given.items()}
        return format_html(
            '<div data-clerk-component="{}" data-clerk-props="{}">{}</div>',
            frontend.COMPONENTS[name],
            json.dumps(_return_properties(request, name) | frontend.properties(given), cls=DjangoJSONEncoder),
            self.fallback.render(context) if self.has_end else _link(request, name, config()),
        )


def _return_properties(request: HttpRequest | None, name: str) -> dict[str, str]:
    """
    Return where to go after signing in, for the components that ask.

    Clerk's components do not look at the page's own parameters, so these are checked here and handed over.
    """
    other = {"sign-in": "signUpFallbackRedirectUrl", "sign-up": "signInFallbackRedirectUrl"}.get(name)
    if request is None or other is None:
        return {}
    back = answers.after_sign_in(request)
    return {"fallbackRedirectUrl": back, other: back}


def _link(request: HttpRequest | None, name: str, settings: Config) -> str:
    """Return a link for browsers that do not run Clerk's JavaScript, or not yet."""
    if name not in _PORTAL:
        return ""
    path, words = _PORTAL[name]
    page = f"{frontend.publishable_key(settings).accounts_portal}/{path}"
    own = {"sign-in": settings.own_sign_in_url, "sign-up": settings.own_sign_up_url}.get(name)
    if own is not None and urlsplit(own).netloc:
        page = own  # a path would be the very page that shows this component
    if request is not None:
        signing_in = name in ("sign-in", "sign-up")
        back = answers.after_sign_in(request) if signing_in else answers.return_url(request, absolute=False)
        page = answers.clerk_address(request, page, back)
    return format_html('<a href="{}">{}</a>', page, gettext(words))


@register.tag
def clerk_has(parser: Parser, token: Token) -> HasNode:
    """
    Say whether the visitor has all that is asked, as ``request.clerk.has()`` does.

    ::

        {% clerk_has permission="org:invoices:create" as allowed %}
        {% if allowed %}<a href="/invoices/new/">New invoice</a>{% endif %}

    Hiding a link protects nothing; the view behind it asks the same.
    """
    _, *bits = token.split_contents()
    target = bits[-1] if len(bits) >= 2 and bits[-2] == "as" else None
    if target is not None:
        del bits[-2:]
    asked = token_kwargs(bits, parser)
    if bits or not asked:
        raise template.TemplateSyntaxError(
            f"clerk_has takes {', '.join(_CHECKS)}, each as name=value, and then 'as' and a name."
        )
    for name, value in asked.items():
        _known(name, _CHECKS, "keyword of clerk_has")
        if _is_literal(value):
            try:
                _CHECKS[name](value.resolve(Context()))
            except (TypeError, ValueError) as error:
                raise template.TemplateSyntaxError(str(error)) from None
    return HasNode(asked, target)


def _is_literal(value: FilterExpression) -> bool:
    """Whether the template itself says what it is: a text, a number, or one of Python's constants."""
    if value.filters or isinstance(value.var, str):
        return not value.filters
    return isinstance(value.var, Variable) and (value.var.lookups is None or value.var.var in ("None", "True", "False"))


_CHECKS: Mapping[str, Callable[[object], object]] = {
    "role": authorization.check_role,
    "permission": authorization.check_permission,
    "feature": authorization.check_feature,
    "plan": authorization.check_plan,
    "reverification": authorization.parse_reverification,
}


class HasNode(template.Node):
    """An answer, under the name that the template gives it, or written out."""

    def __init__(self, asked: Mapping[str, FilterExpression], target: str | None) -> None:
        self.asked = asked
        self.target = target

    def render(self, context: Context) -> str:
        """Ask the request. Without one nobody is there, and nobody has anything."""
        request = context.get("request")
        auth = getattr(request, "clerk", None) or (get_clerk(request) if request is not None else None)
        answer = _has(auth, **{name: value.resolve(context) for name, value in self.asked.items()})
        if self.target is None:
            return str(answer)
        context[self.target] = answer
        return ""


def _has(auth: Any, **asked: Any) -> bool:
    # Templates are silent about names that are not there; whatever is no ClerkAuth has nothing.
    return isinstance(auth, ClerkAuth) and auth.has(**asked)


@register.filter
def has_role(auth: Any, role: Any) -> bool:
    """``{% if request.clerk|has_role:"org:admin" %}``: the active organisation's role."""
    return _has(auth, role=role)


@register.filter
def has_permission(auth: Any, permission: Any) -> bool:
    """``{% if request.clerk|has_permission:"org:invoices:create" %}``: a permission in the active organisation."""
    return _has(auth, permission=permission)


@register.filter
def has_feature(auth: Any, feature: Any) -> bool:
    """``{% if request.clerk|has_feature:"org:reports" %}``: a feature of the organisation's plan, or the user's."""
    return _has(auth, feature=feature)


@register.filter
def has_plan(auth: Any, plan: Any) -> bool:
    """``{% if request.clerk|has_plan:"user:pro" %}``: a plan of the organisation or the user."""
    return _has(auth, plan=plan)
