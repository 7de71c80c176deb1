"""``{% load clerk %}``: what stands in the page, that all of it is escaped, and what a page may ask."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.template import Context, RequestContext, Template, TemplateSyntaxError
from django.test import Client, RequestFactory
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy

from clerk_views import ClerkAuth, frontend, get_clerk
from clerk_views.testing import LocalClerk
from tests.conftest import World
from tests.doors import MIDDLEWARE
from tests.test_conf import publishable_key
from tests.test_pages import HOSTILE

DEVELOPMENT = publishable_key("happy-cat-1.clerk.accounts.dev")
PRODUCTION = publishable_key("clerk.example.com", "live")
PORTAL = "https://happy-cat-1.accounts.dev"

#: What would break out of an attribute, a script or a comment if anybody forgot to escape it.
BREAKOUTS = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    '" onload="alert(1)',
    "&quot;&#39;&lt;",
    "]]>\u2028\u2029\\",
    "{{ 7|add:7 }}{% now 'Y' %}",
]


class Page(HTMLParser):
    """What a browser makes of it: elements with their attributes, and the text inside each."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def options(self) -> dict[str, Any]:
        [text] = [
            text
            for (_, attributes), text in zip(self.elements, self.texts, strict=True)
            if attributes.get("id") == "clerk-views-options"
        ]
        found: dict[str, Any] = json.loads(text)
        return found

    @property
    def props(self) -> dict[str, Any]:
        [element] = [attributes for attributes in self.all("div") if "data-clerk-component" in attributes]
        found: dict[str, Any] = json.loads(element["data-clerk-props"] or "")
        return found

    @property
    def link(self) -> str:
        [element] = self.all("a")
        return element["href"] or ""


def render(source: str, request: HttpRequest | None = None, **context: Any) -> str:
    template = Template("{% load clerk %}" + source)
    return template.render(Context(context) if request is None else RequestContext(request, context))


def page(source: str, request: HttpRequest | None = None, **context: Any) -> Page:
    return Page(render(source, request, **context))


def get(path: str = "/", **options: Any) -> HttpRequest:
    return RequestFactory().get(path, **options)


@pytest.fixture(autouse=True)
def _development(settings: Any) -> None:
    settings.CLERK_SECRET_KEY = "sk_test_abc"
    settings.CLERK_PUBLISHABLE_KEY = DEVELOPMENT
    settings.LOGIN_REDIRECT_URL = "/home/"


class TestClerkJs:
    def test_a_development_instance(self) -> None:
        shown = page("{% clerk_js %}")
        options, clerk, components, ours = shown.all("script")
        assert options == {"id": "clerk-views-options", "type": "application/json"}
        assert clerk == {
            "async": None,
            "src": "https://happy-cat-1.clerk.accounts.dev/npm/@clerk/clerk-js@6/dist/clerk.browser.js",
            "data-clerk-js-script": None,
            "data-clerk-publishable-key": DEVELOPMENT,
            "crossorigin": "anonymous",
        }
        assert components == {
            "async": None,
            "src": "https://happy-cat-1.clerk.accounts.dev/npm/@clerk/ui@1/dist/ui.browser.js",
            "data-clerk-ui-script": None,
            "crossorigin": "anonymous",
        }
        assert ours == {"defer": None, "src": "/static/clerk_views/clerk.js"}
        assert shown.options["telemetry"] is False

    def test_a_production_instance(self, settings: Any) -> None:
        settings.CLERK_PUBLISHABLE_KEY = PRODUCTION
        settings.CLERK_JS_VERSION = "6.40.0"
        _, clerk, _, _ = page("{% clerk_js %}").all("script")
        assert clerk["src"] == "https://clerk.example.com/npm/@clerk/clerk-js@6.40.0/dist/clerk.browser.js"
        assert clerk["data-clerk-publishable-key"] == PRODUCTION

    def test_a_proxy(self, settings: Any) -> None:
        settings.CLERK_PROXY_URL = "http://127.0.0.1:9000/__clerk"
        _, clerk, components, _ = page("{% clerk_js %}").all("script")
        assert clerk["data-clerk-proxy-url"] == "http://127.0.0.1:9000/__clerk"
        assert (clerk["src"] or "").startswith("http://127.0.0.1:9000/__clerk/npm/")
        assert (components["src"] or "").startswith("http://127.0.0.1:9000/__clerk/npm/")

    def test_a_satellite(self, settings: Any) -> None:
        settings.CLERK_PUBLISHABLE_KEY = PRODUCTION
        settings.CLERK_IS_SATELLITE = True
        settings.CLERK_DOMAIN = "satellite.example"
        settings.CLERK_SIGN_IN_URL = "https://primary.example/sign-in"
        shown = page("{% clerk_js %}")
        _, clerk, _, _ = shown.all("script")
        assert clerk["data-clerk-domain"] == "satellite.example"
        assert (clerk["src"] or "").startswith("https://clerk.satellite.example/npm/")
        assert shown.options["isSatellite"] is True
        assert shown.options["signInUrl"] == "https://primary.example/sign-in"

    def test_the_stand_in(self, local_clerk: LocalClerk, settings: Any) -> None:
        settings.CLERK_PROXY_URL = local_clerk.url
        _, clerk, _, _ = page("{% clerk_js %}").all("script")
        assert (clerk["src"] or "").startswith(f"{local_clerk.url}/npm/")

    def test_options_are_keyword_arguments(self) -> None:
        look = {"variables": {"colorPrimary": "#c00"}}
        shown = page(
            '{% clerk_js appearance=look after_sign_out_url="/bye/" touch_session=False support_email=mail %}',
            look=look,
            mail=gettext_lazy("help@example.com"),
        )
        assert shown.options.items() >= {"afterSignOutUrl": "/bye/", "touchSession": False}.items()
        assert shown.options["appearance"] == look
        assert shown.options["supportEmail"] == "help@example.com"

    def test_without_a_publishable_key_the_developer_is_told(self, settings: Any) -> None:
        settings.CLERK_PUBLISHABLE_KEY = ""
        with pytest.raises(ImproperlyConfigured, match="CLERK_PUBLISHABLE_KEY is not set"):
            render("{% clerk_js %}")

    def test_no_secret_is_in_the_page(self, settings: Any) -> None:
        settings.CLERK_SECRET_KEY = "sk_test_canary"
        assert "canary" not in render('{% clerk_js %}{% clerk_component "user-button" %}', get())


class TestNonce:
    def scripts(self, source: str, request: HttpRequest, **context: Any) -> list[str | None]:
        shown = page(source, request, **context)
        options, *scripts = shown.all("script")
        assert "nonce" not in options  # it is data, and no policy looks at it
        [nonce] = {script.get("nonce") for script in scripts}
        return [nonce, shown.options.get("nonce")]

    def test_there_is_none(self) -> None:
        assert self.scripts("{% clerk_js %}", get()) == [None, None]

    def test_it_is_given(self) -> None:
        request = get()
        request.csp_nonce = "another"  # type: ignore[attr-defined]
        assert self.scripts('{% clerk_js nonce="abc" %}', request) == ["abc", "abc"]

    def test_it_is_the_contexts(self) -> None:
        """Django's context processor ``csp``."""
        assert self.scripts("{% clerk_js %}", get(), csp_nonce="abc") == ["abc", "abc"]

    def test_it_is_django_csps(self) -> None:
        request = get()
        request.csp_nonce = SimpleLazyObject(lambda: "abc")  # type: ignore[attr-defined]
        assert self.scripts("{% clerk_js %}", request) == ["abc", "abc"]

    def test_it_is_djangos(self) -> None:
        """Django 6.0 and later. Its nonce is made on first use, and false until then."""
        csp = pytest.importorskip("django.middleware.csp")
        request = get()
        csp.ContentSecurityPolicyMiddleware(lambda request: None).process_request(request)
        nonce, option = self.scripts("{% clerk_js %}", request)
        assert nonce
        assert nonce == option == str(csp.get_nonce(request))


class TestEscaping:
    """Whatever the settings, options and properties hold, the page has the elements that it should have."""

    @pytest.mark.parametrize("text", BREAKOUTS)
    @pytest.mark.parametrize("name", ["CLERK_PROXY_URL", "CLERK_AFTER_SIGN_OUT_URL"])
    def test_settings(self, settings: Any, name: str, text: str) -> None:
        settings.CLERK_PUBLISHABLE_KEY = PRODUCTION
        settings.CLERK_IS_SATELLITE = True
        settings.CLERK_DOMAIN = "satellite.example"
        text = "/" + re.sub(r"[\s\\]", "", text)  # which are refused in addresses
        setattr(settings, name, text)
        shown = page("{% clerk_js %}")
        self.check(shown)
        _, clerk, _, _ = shown.all("script")
        found = {
            "CLERK_PROXY_URL": clerk.get("data-clerk-proxy-url"),
            "CLERK_AFTER_SIGN_OUT_URL": shown.options.get("afterSignOutUrl"),
        }
        assert found[name] == text.strip()

    @pytest.mark.parametrize("text", BREAKOUTS)
    def test_options_and_nonce(self, text: str) -> None:
        shown = page("{% clerk_js nonce=text appearance=text localization=inner %}", text=text, inner={text: text})
        self.check(shown)
        assert shown.options["appearance"] == text
        assert shown.options["localization"] == {text: text}
        assert shown.all("script")[1]["nonce"] == text

    @pytest.mark.parametrize("text", BREAKOUTS)
    @pytest.mark.parametrize("name", ["sign-in", "user-button", "pricing-table"])
    def test_properties(self, name: str, text: str) -> None:
        shown = page(
            "{% clerk_component name appearance=text initial_values=inner %}", get(), name=name, text=text, inner=[text]
        )
        [attributes] = shown.all("div")
        assert attributes.keys() == {"data-clerk-component", "data-clerk-props"}
        assert {tag for tag, _ in shown.elements} <= {"div", "a"}
        assert shown.props["appearance"] == text
        assert shown.props["initialValues"] == [text]

    @pytest.mark.parametrize("text", BREAKOUTS)
    def test_the_page_own_address(self, text: str) -> None:
        """RED-01: it comes back in the links, and anybody may have written it."""
        for name in ("sign-in", "sign-up", "user-button"):
            shown = page(f'{{% clerk_component "{name}" %}}', get("/p", data={"next": text, "q": text}))
            assert [tag for tag, _ in shown.elements] == ["div", "a"]
            assert shown.all("a")[0].keys() == {"href"}
            assert shown.link.startswith(f"{PORTAL}/")

    @pytest.mark.parametrize("name", ["CLERK_SIGN_IN_URL", "CLERK_SIGN_UP_URL", "CLERK_AFTER_SIGN_OUT_URL"])
    def test_a_program_is_no_address(self, settings: Any, name: str) -> None:
        setattr(settings, name, "javascript:alert(1)")
        with pytest.raises(ImproperlyConfigured, match=name):
            render("{% clerk_js %}")

    def check(self, shown: Page) -> None:
        assert [tag for tag, _ in shown.elements] == ["script"] * 4
        for (_, attributes), text in zip(shown.elements, shown.texts, strict=True):
            assert not any(attribute.startswith("on") for attribute in attributes)
            assert attributes.get("type") == "application/json" or not text.strip()


class TestComponent:
    def test_it_is_a_place_with_properties(self) -> None:
        look = {"elements": {"avatar_box": "big"}}
        shown = page('{% clerk_component "user-profile" routing="hash" appearance=look %}', get(), look=look)
        [place] = shown.all("div")
        assert place["data-clerk-component"] == "UserProfile"
        assert shown.props == {"routing": "hash", "appearance": look}

    @pytest.mark.parametrize(
        ("name", "clerk"),
        [
            ("sign-in", "SignIn"),
            ("sign-up", "SignUp"),
            ("user-button", "UserButton"),
            ("user-avatar", "UserAvatar"),
            ("user-profile", "UserProfile"),
            ("organization-switcher", "OrganizationSwitcher"),
            ("organization-profile", "OrganizationProfile"),
            ("organization-list", "OrganizationList"),
            ("create-organization", "CreateOrganization"),
            ("waitlist", "Waitlist"),
            ("pricing-table", "PricingTable"),
            ("api-keys", "APIKeys"),
            ("oauth-consent", "OAuthConsent"),
            ("task-choose-organization", "TaskChooseOrganization"),
            ("task-reset-password", "TaskResetPassword"),
            ("task-setup-mfa", "TaskSetupMFA"),
        ],
    )
    def test_each_component_has_its_place(self, name: str, clerk: str) -> None:
        """With and without an inside of its own. That Clerk mounts each is shown in test_browser_components.py."""
        for source in (
            "{{% clerk_component '{}' a_b=1 %}}",
            "{{% clerk_component '{}' a_b=1 %}}x{{% endclerk_component %}}",
        ):
            shown = page(source.format(name), get())
            (place,) = shown.all("div")
            assert place["data-clerk-component"] == clerk
            assert shown.props["aB"] == 1

    def test_no_component_is_left_out_above(self) -> None:
        (marked,) = [mark for mark in self.test_each_component_has_its_place.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
        assert dict(marked.args[1]) == frontend.COMPONENTS

    def test_a_name_may_be_a_variable(self) -> None:
        assert page("{% clerk_component which %}", which="waitlist").all("div")[0]["data-clerk-component"] == "Waitlist"
        with pytest.raises(TemplateSyntaxError, match="'waiting' is no component of Clerk. Did you mean waitlist"):
            render("{% clerk_component which %}", which="waiting")

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ('{% clerk_component "user-buton" %}', "'user-buton' is no component of Clerk. Did you mean user-button"),
            ('{% clerk_component "UserButton" %}', "'UserButton' is no component"),
            ('{% clerk_component "xyz" %}', "Did you mean api-keys, create-organization, "),
            ("{% clerk_component %}", "wants a component's name"),
            ('{% clerk_component "sign-in" "hash" %}', "takes name=value after the component"),
            ('{% clerk_component "sign-in" routing="hash" as it %}', "takes name=value after the component"),
            ('{% clerk_component "sign-in" %}x{% endclerk_componen %}', "endclerk_componen"),
        ],
    )
    def test_mistakes_are_found_when_the_template_is_read(self, source: str, message: str) -> None:
        with pytest.raises(TemplateSyntaxError) as caught:
            Template("{% load clerk %}" + source)
        assert message in str(caught.value)

    def test_unknown_properties_are_clerks_to_judge(self) -> None:
        assert page('{% clerk_component "waitlist" brand_new=1 %}').props == {"brandNew": 1}

    def test_what_stands_inside_is_shown_until_then(self) -> None:
        shown = render(
            '{% clerk_component "pricing-table" for="user" %}<b>{{ text }}</b>{% endclerk_component %}!', text="<soon>"
        )
        assert shown.endswith("<b>&lt;soon&gt;</b></div>!")

    def test_an_end_tag_belongs_to_the_last_component(self) -> None:
        shown = render(
            '{% if one %}{% clerk_component "sign-up" %}{% else %}{% clerk_component "waitlist" %}{% endif %}'
            '{% for x in "ab" %}{% clerk_component "user-avatar" %}{{ x }}{% endclerk_component %}{% endfor %}'
            '{% clerk_component "api-keys" %}'
        )
        places = Page(shown)
        assert [place["data-clerk-component"] for place in places.all("div")] == [
            "Waitlist",
            "UserAvatar",
            "UserAvatar",
            "APIKeys",
        ]
        assert ">a</div>" in shown
        assert ">b</div>" in shown

    def test_an_empty_inside_shows_nothing(self) -> None:
        assert page('{% clerk_component "sign-in" %}{% endclerk_component %}', get()).all("a") == []


class TestReturning:
    @pytest.mark.parametrize(
        ("name", "other"), [("sign-in", "signUpFallbackRedirectUrl"), ("sign-up", "signInFallbackRedirectUrl")]
    )
    @pytest.mark.parametrize("parameter", ["next", "redirect_url"])
    def test_the_way_back_is_handed_over(self, name: str, other: str, parameter: str) -> None:
        """Clerk's component ignores the page's own query."""
        shown = page(f'{{% clerk_component "{name}" %}}', get(f"/in?{parameter}=/invoices/%3Fa=1"))
        assert shown.props == {"fallbackRedirectUrl": "/invoices/?a=1", other: "/invoices/?a=1"}

    def test_without_one_it_is_djangos_default(self) -> None:
        assert page('{% clerk_component "sign-in" %}', get()).props["fallbackRedirectUrl"] == "/home/"

    def test_what_the_template_says_wins(self) -> None:
        shown = page('{% clerk_component "sign-in" fallback_redirect_url="/a/" %}', get("/?next=/b/"))
        assert shown.props == {"fallbackRedirectUrl": "/a/", "signUpFallbackRedirectUrl": "/b/"}

    @pytest.mark.parametrize("address", [*HOSTILE, "/in", "http://testserver/in?x"])
    def test_a_hostile_one_is_not(self, address: str) -> None:
        """RED-01, and RED-03 for the page itself."""
        shown = page('{% clerk_component "sign-in" %}', get("/in", data={"next": address}))
        assert set(shown.props.values()) == {"/home/"}
        assert parse_qs(urlsplit(shown.link).query) == {"redirect_url": ["http://testserver/home/"]}

    def test_two_are_none(self) -> None:
        """RED-01."""
        shown = page('{% clerk_component "sign-in" %}', get("/in?next=/a/&redirect_url=//evil.example"))
        assert set(shown.props.values()) == {"/home/"}

    def test_other_components_are_told_nothing(self) -> None:
        assert page('{% clerk_component "user-button" %}', get("/in?next=/a/")).props == {}

    def test_without_a_request_nothing_is_known(self) -> None:
        assert page('{% clerk_component "sign-in" %}').props == {}


class TestLink:
    """For browsers that do not run Clerk's JavaScript, or not yet."""

    @pytest.mark.parametrize(
        ("name", "start", "back"),
        [
            ("sign-in", f"{PORTAL}/sign-in?", "http://testserver/home/"),
            ("sign-up", f"{PORTAL}/sign-up?", "http://testserver/home/"),
            ("user-button", f"{PORTAL}/user?", "http://testserver/p?a=1"),
            ("user-profile", f"{PORTAL}/user?", "http://testserver/p?a=1"),
        ],
    )
    def test_it_leads_to_clerks_own_page(self, name: str, start: str, back: str) -> None:
        link = page(f'{{% clerk_component "{name}" %}}', get("/p?a=1")).link
        assert link.startswith(start)
        assert parse_qs(urlsplit(link).query) == {"redirect_url": [back]}

    def test_not_to_the_page_that_it_is_on(self, settings: Any) -> None:
        settings.CLERK_SIGN_IN_URL, settings.CLERK_SIGN_UP_URL = "/in/", "/up/"
        assert page('{% clerk_component "sign-in" %}', get("/in/")).link.startswith(f"{PORTAL}/sign-in?")
        assert page('{% clerk_component "sign-up" %}', get("/up/")).link.startswith(f"{PORTAL}/sign-up?")

    def test_but_to_a_page_elsewhere_that_the_settings_name(self, settings: Any) -> None:
        settings.CLERK_SIGN_IN_URL = "https://login.example.com/in"
        settings.CLERK_SIGN_UP_URL = "https://login.example.com/up"
        assert page('{% clerk_component "sign-in" %}', get()).link.startswith("https://login.example.com/in?")
        assert page('{% clerk_component "sign-up" %}', get()).link.startswith("https://login.example.com/up?")

    def test_without_a_request_it_has_no_way_back(self) -> None:
        assert page('{% clerk_component "sign-in" %}').link == f"{PORTAL}/sign-in"

    def test_other_components_have_none(self) -> None:
        assert page('{% clerk_component "waitlist" %}', get()).all("a") == []


class TestHas:
    @pytest.fixture
    def request_of(self, local_clerk: LocalClerk) -> HttpRequest:
        """A request of an administrator who may create invoices; nothing has authenticated it yet."""
        ada = local_clerk.add_user(email="ada@example.com")
        token = local_clerk.token(
            ada,
            org_role="org:admin",
            org_permissions=["org:invoices:create"],
            features=["o:reports"],
            plans=["u:pro"],
            factor_verification_age=(0, 5),
        )
        return get(headers={"authorization": f"Bearer {token}"})

    @pytest.mark.parametrize(
        ("asked", "answer"),
        [
            ('permission="org:invoices:create"', "True"),
            ('permission="org:invoices:delete"', "False"),
            ('role="org:admin"', "True"),
            ('role="admin" permission="org:invoices:create"', "True"),
            ('role="org:member" permission="org:invoices:create"', "False"),
            ('feature="org:reports"', "True"),
            ('plan="user:pro"', "True"),
            ('plan="org:pro"', "False"),
            ('reverification="strict"', "True"),
            ("reverification=rule", "True"),
            ("reverification=missing", "False"),
            ('role="org:"|add:"admin"', "True"),
            ("role=which|default:None", "False"),
            ("role=missing", "False"),
            ("permission=which", "True"),
        ],
    )
    def test_the_tag_asks_the_request(self, request_of: HttpRequest, asked: str, answer: str) -> None:
        context = {"rule": {"level": "first_factor", "afterMinutes": 5}, "which": "org:invoices:create"}
        assert render(f"{{% clerk_has {asked} %}}", request_of, **context) == answer
        assert render(f"{{% clerk_has {asked} as it %}}{{{{ it }}}}", request_of, **context) == answer

    @pytest.mark.parametrize(
        "test",
        [
            'has_role:"org:admin"',
            'has_permission:"org:invoices:create"',
            'has_feature:"reports"',
            'has_plan:"user:pro"',
        ],
    )
    def test_so_do_the_filters(self, request_of: HttpRequest, clerk: Any, test: str) -> None:
        source = f"{{% if request.clerk|{test} %}}yes{{% else %}}no{{% endif %}}"
        request_of.clerk = SimpleLazyObject(lambda: get_clerk(request_of))  # type: ignore[attr-defined]
        assert render(source, request_of) == "yes"
        nobody = get()
        assert render(source, nobody) == "no"  # no door has looked at it
        nobody.clerk = ClerkAuth.signed_out(None)  # type: ignore[attr-defined]
        assert render(source, nobody) == "no"
        nobody.clerk = "org:admin"  # type: ignore[attr-defined]
        assert render(source, nobody) == "no"

    @pytest.mark.parametrize("test", ["has_role:5", "has_permission:nothing", "has_plan:''", "has_feature:'x:y:z'"])
    def test_nonsense_is_no(self, request_of: HttpRequest, test: str) -> None:
        assert render(f"{{{{ auth|{test} }}}}", request_of, auth=get_clerk(request_of), nothing=None) == "False"

    def test_what_a_door_has_said_stands(self, request_of: HttpRequest) -> None:
        request_of.clerk = ClerkAuth.signed_out("session-token-expired")  # type: ignore[attr-defined]
        assert render('{% clerk_has role="org:admin" %}', request_of) == "False"

    def test_without_a_request_nobody_is_there(self) -> None:
        assert render('{% clerk_has role="org:admin" as it %}{{ it }}') == "False"

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ('{% clerk_has permision="org:x:y" as it %}', "Did you mean permission"),
            ('{% clerk_has xyz="org:x:y" %}', "Did you mean feature, permission, plan, reverification, role"),
            ("{% clerk_has %}", "takes role, permission, feature, plan, reverification"),
            ("{% clerk_has as it %}", "takes role, permission, feature, plan, reverification"),
            ('{% clerk_has "org:admin" as it %}', "each as name=value"),
            ('{% clerk_has role="org:admin" it %}', "each as name=value"),
            ('{% clerk_has role="org:admin" as %}', "each as name=value"),
            ('{% clerk_has role="" %}', "role"),
            ('{% clerk_has plan="team:pro" %}', "plan"),
            ('{% clerk_has reverification="strickt" %}', "There is no reverification preset 'strickt'"),
            ("{% clerk_has role=1 %}", "role must be text"),
            ("{% clerk_has role=-1.5 %}", "role must be text"),
            ("{% clerk_has role=None as it %}", "role must be text, for example 'org:admin'; it is None"),
            ("{% clerk_has permission=True %}", "permission must be text"),
            ("{% clerk_has plan=False %}", "plan must be text"),
            ("{% clerk_has reverification=10 %}", "reverification must be one of"),
            ('{% clerk_has permission="org:invoices" %}', "names no permission"),
            ('{% clerk_has role="org:admin,org:owner" %}', "names no role"),
        ],
    )
    def test_mistakes_are_found_when_the_template_is_read(self, source: str, message: str) -> None:
        with pytest.raises(TemplateSyntaxError) as caught:
            Template("{% load clerk %}" + source)
        assert message in str(caught.value)


@pytest.mark.django_db
class TestWholePages:
    """Through Django's own views and middleware."""

    @pytest.fixture(autouse=True)
    def _site(self, settings: Any, local_clerk: LocalClerk) -> None:
        settings.ROOT_URLCONF = "tests.page_urls"
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
        source = (
            '{% load clerk %}{% clerk_js %}{% clerk_component "user-button" show_name=True %}'
            '{% if request.clerk|has_role:"org:admin" %}admin{% endif %}'
            '{% clerk_has permission="org:invoices:create" as allowed %}{% if allowed %}creates{% endif %}'
            '<form method="post" action="{% url "clerk_views:sign-out" %}">{% csrf_token %}<button>Out</button></form>'
        )
        settings.TEMPLATES = [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {
                    "loaders": [("django.template.loaders.locmem.Loader", {"page.html": source})],
                    "context_processors": ["django.template.context_processors.request"],
                },
            }
        ]

    def test_a_page_shows_what_its_visitor_may_see(self, local_clerk: LocalClerk, each_world: World) -> None:
        shown = each_world.get("/page/").content.decode()
        assert "admin" not in shown
        assert "creates" not in shown
        ada = local_clerk.add_user(email="ada@example.com")
        token = local_clerk.token(ada, org_role="org:admin", org_permissions=["org:invoices:create"])
        each_world.client.cookies.load(local_clerk.session_cookies(token))
        shown = each_world.get("/page/").content.decode()
        assert "admin" in shown
        assert "creates" in shown

    def test_an_outage_is_no_no(self, local_clerk: LocalClerk, each_world: World) -> None:
        """Threats, section 2: a page that cannot find out is a 503, and not the page of somebody without rights."""
        each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token("user_a")))
        local_clerk.faults.down()
        assert each_world.get("/page/").status_code == 503

    def test_the_form_signs_out(self, local_clerk: LocalClerk) -> None:
        """CSR-04: with the token that the page itself holds."""
        session = local_clerk.open_session(local_clerk.add_user(email="ada@example.com"))
        client = Client(enforce_csrf_checks=True)
        client.cookies.load(local_clerk.session_cookies(local_clerk.session_token(session)))
        shown = Page(client.get("/page/").content.decode())
        [field] = [field for field in shown.all("input") if field["name"] == "csrfmiddlewaretoken"]
        [form] = shown.all("form")
        response = client.post(form["action"] or "", {"csrfmiddlewaretoken": field["value"]})
        assert response.status_code == 303
        assert session.status == "revoked"


def test_django_serves_the_script(settings: Any) -> None:
    from django.contrib.staticfiles import finders

    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.staticfiles"]
    assert finders.find("clerk_views/clerk.js")
