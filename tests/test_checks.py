"""`manage.py check`: each rule by id, and that no text shows a key."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.core.checks import CheckMessage, Tags, run_checks
from django.core.checks.registry import registry
from django.http import HttpResponse
from django.test import override_settings
from django.urls import include, path
from django.views import View
from pytest_django import Settings

from clerk_views import checks
from clerk_views.conf import SETTINGS
from clerk_views.middleware import ClerkMiddleware
from clerk_views.mixins import ClerkLoginRequiredMixin
from tests.test_conf import BAD, SECRETS, WEBHOOK_SECRET, publishable_key

CLERK = "clerk_views.middleware.ClerkMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"


def public_pem(private_key: Any) -> str:
    text: bytes = private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def found(*, deploy: bool = False, **values: Any) -> dict[str, CheckMessage]:
    """Run the checks as `manage.py check` does, under these settings; return what they say by the end of its id."""
    with override_settings(**values):
        messages = run_checks(tags=["clerk_views"], include_deployment_checks=deploy)
    assert len({message.id for message in messages}) == len(messages)
    return {str(message.id).removeprefix("clerk_views."): message for message in messages}


@pytest.fixture(autouse=True)
def _good_project(settings: Settings) -> None:
    settings.CLERK_SECRET_KEY = "sk_test_abc"
    settings.CLERK_AUTH_PARTIES = ["https://app.example.com"]


def test_good_project_has_nothing_to_mend() -> None:
    assert found() == {}
    assert found(deploy=True) == {}


def test_checks_are_registered_once_and_as_security() -> None:
    own = [check for check in registry.get_checks(True) if check.__module__ == "clerk_views.checks"]
    assert len(own) == len(set(own)) == 7
    assert all(set(check.tags) == {"clerk_views", Tags.security} for check in own)


def test_every_id_is_documented() -> None:
    used = {setting.check_id for setting in SETTINGS}
    for call in ast.walk(ast.parse(inspect.getsource(checks))):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("_error", "_warning"):
            check_id = ast.unparse(call.args[0]).strip("'")
            assert check_id == "setting.check_id" or check_id[0] == {"_error": "E", "_warning": "W"}[call.func.id]
            used.add(check_id)
    documented = set(re.findall(r"\b[EW]\d{3}\b", checks.__doc__ or "")) | {
        f"E{n:03}" for n in (*range(2, 21), *range(37, 47))
    }
    assert documented == used - {"setting.check_id"}


# None is as good as unset, whatever a parser says to it.
@pytest.mark.parametrize(("name", "value"), [case for case in BAD if case[1] is not None])
def test_each_setting_is_checked_by_its_own_rule(name: str, value: Any) -> None:
    """CFG-03, CFG-04."""
    [setting] = [setting for setting in SETTINGS if setting.name == f"CLERK_{name}"]
    message = found(**{setting.name: value})[setting.check_id]
    assert message.msg.startswith(f"{setting.name} ")
    assert message.hint
    assert message.is_serious()


class TestKeySource:
    def test_none(self) -> None:
        assert "Neither CLERK_SECRET_KEY nor CLERK_JWT_KEY" in found(CLERK_SECRET_KEY=None)["E001"].msg

    def test_none_for_users(self, rsa_pem: str) -> None:
        problems = found(CLERK_SECRET_KEY=None, CLERK_JWT_KEY=rsa_pem)
        assert "users cannot be fetched" in problems["E001"].msg

    def test_users_from_claims_need_no_secret(self, rsa_pem: str) -> None:
        assert found(CLERK_SECRET_KEY=None, CLERK_JWT_KEY=rsa_pem, CLERK_USER_SOURCE="claims") == {}

    def test_environment_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLERK_SECRET_KEY", "sk_test_environment")
        assert found(CLERK_SECRET_KEY=None) == {}

    def test_bad_key_is_said_once(self) -> None:
        assert found(CLERK_SECRET_KEY="pk_test_abc").keys() == {"E002"}

    def test_other_mistakes_do_not_hide_it(self) -> None:
        assert found(CLERK_SECRET_KEY=None, CLERK_TIMEOUT_MS="1").keys() == {"E001", "E007"}


@pytest.fixture(scope="module")
def rsa_pem() -> str:
    return public_pem(rsa.generate_private_key(65537, 2048))


class TestJwtKey:
    def test_rsa_is_fine(self, rsa_pem: str) -> None:
        assert found(CLERK_JWT_KEY=rsa_pem) == {}
        assert found(CLERK_JWT_KEY=rsa_pem.replace("\n", "\\n")) == {}

    @pytest.mark.parametrize(
        "make",
        [
            lambda: public_pem(rsa.generate_private_key(65537, 1024)),  # noqa: S505 - to be refused
            lambda: public_pem(ec.generate_private_key(ec.SECP256R1())),
            lambda: public_pem(ed25519.Ed25519PrivateKey.generate()),
            lambda: "-----BEGIN PUBLIC KEY-----\nQ0FOQVJZQ0FOQVJZ\n-----END PUBLIC KEY-----",
        ],
        ids=["short", "elliptic", "edwards", "no-key"],
    )
    def test_other_keys_are_not(self, make: Callable[[], str]) -> None:
        pem = make()
        message = found(CLERK_JWT_KEY=pem)["E005"]
        assert pem.splitlines()[1][:8] not in f"{message}"


def test_cache_alias_must_exist() -> None:
    problems = found(CLERK_CACHE_ALIAS="clerk")
    assert "'clerk'" in problems["E010"].msg
    assert "default" in str(problems["E010"].hint)


@pytest.mark.parametrize("issuer", ["clerk.example.com", "http://clerk.example.com", "https://clerk.example.com/"])
def test_issuer_must_look_like_one(issuer: str) -> None:
    assert repr(issuer) in found(CLERK_ISSUER=["https://clerk.example.com", issuer])["E012"].msg


def plan_from_metadata(clerk_user: object) -> str:
    raise NotImplementedError  # only looked for, never called


not_a_function = 5


class TestUserFields:
    @pytest.mark.parametrize(
        "mapping",
        [
            {"first_name": "last_name"},
            {"username": None},
            {"image_url": "tests.test_checks.plan_from_metadata"},
        ],
    )
    def test_good(self, mapping: dict[str, str | None]) -> None:
        assert found(CLERK_USER_FIELDS=mapping) == {}

    @pytest.mark.parametrize(
        "target",
        [
            "given_name",  # no such field
            "logentry",  # a relation from elsewhere
            "tests.test_checks.no_such_name",
            "tests.no_such_module.name",
            "tests.test_checks.not_a_function",
        ],
    )
    def test_bad(self, target: str) -> None:
        assert repr(target) in found(CLERK_USER_FIELDS={"first_name": target})["E014"].msg

    @pytest.mark.parametrize("target", ["is_staff", "is_superuser", "password", "groups", "id", "is_active"])
    def test_privileges_are_refused(self, target: str) -> None:
        """Threat I7: the sync never raises a privilege, whatever it is told."""
        assert repr(target) in found(CLERK_USER_FIELDS={"public_metadata": target})["E014"].msg


@pytest.mark.parametrize(
    ("secret_key", "mode", "ids"),
    [
        ("sk_test_abc", "test", set()),
        ("sk_live_abc", "live", set()),
        ("sk_test_abc", "live", {"E021"}),
        ("sk_live_abc", "test", {"E021"}),
        ("local_secret", "live", set()),  # the key of a stand-in says nothing about its mode
    ],
)
def test_keys_must_be_of_one_instance(secret_key: str, mode: str, ids: set[str]) -> None:
    key = publishable_key("clerk.example.com", mode)
    assert found(CLERK_SECRET_KEY=secret_key, CLERK_PUBLISHABLE_KEY=key).keys() == ids


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        ({}, {"E023"}),
        ({"CLERK_DOMAIN": "satellite.example"}, set()),
        ({"CLERK_PROXY_URL": "https://satellite.example/__clerk"}, set()),
    ],
)
def test_satellite_needs_an_address(values: Mapping[str, Any], ids: set[str]) -> None:
    assert found(CLERK_IS_SATELLITE=True, **values).keys() == ids


class TestNames:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("CLERK_SECRET_KEYS", "CLERK_SECRET_KEY"),
            ("CLERK_AUTHORIZED_PARTIES", "CLERK_AUTH_PARTIES"),
            ("CLERK_AUTH_PARTY", "CLERK_AUTH_PARTIES"),
            ("CLERK_JWTKEY", "CLERK_JWT_KEY"),
            ("CLERK_TIMEOUT", "CLERK_TIMEOUT_MS"),
            ("CLERK_CLOCK_SKEW_MS", "CLERK_CLOCK_SKEW_IN_MS"),
            ("CLERK_WEBHOOK_SECRET", "CLERK_WEBHOOK_SIGNING_SECRET"),
        ],
    )
    def test_misspelling_is_found(self, name: str, meant: str) -> None:
        """CFG-06."""
        values: dict[str, Any] = {name: "CANARY"}
        message = found(**values)["E022"]
        assert message.msg.startswith(name)
        assert meant in str(message.hint)
        assert "CANARY" not in str(message)

    def test_unknown_name_without_a_neighbour(self) -> None:
        assert "your project's own" in str(found(CLERK_QQQ="x")["E022"].hint)

    def test_other_names_are_left_alone(self) -> None:
        assert found(NOT_CLERK_SETTING=1, CLERKS=2) == {}


@pytest.mark.parametrize("value", [None, [], ()])
def test_unchecked_origins_are_a_warning(value: Any) -> None:
    """CFG-02."""
    problems = found(CLERK_AUTH_PARTIES=value)
    assert problems.keys() == {"W032"}
    assert not problems["W032"].is_serious()


def test_unusable_origins_are_not_called_unset() -> None:
    assert found(CLERK_AUTH_PARTIES="https://app.example.com").keys() == {"E003"}


class TestDeployment:
    def test_plain_origins(self) -> None:
        parties = ["http://app.example.com", "https://app.example.com", None, "http://localhost:3000"]
        assert found(CLERK_AUTH_PARTIES=parties) == {}
        message = found(deploy=True, CLERK_AUTH_PARTIES=parties)["W033"]
        assert "http://app.example.com, http://localhost:3000." in message.msg

    @pytest.mark.parametrize("url", ["http://127.0.0.1:8123", "http://localhost", "http://[::1]:1"])
    def test_stand_in_is_not_for_production(self, url: str) -> None:
        assert found(CLERK_API_URL=url) == {}
        assert found(deploy=True, CLERK_API_URL=url)["E034"].is_serious()


class ChildOfAuthentication(AuthenticationMiddleware):
    """Stands where a project has its own."""


class ChildOfClerk(ClerkMiddleware):
    """The same."""


class TestMiddleware:
    @pytest.mark.parametrize(
        ("middleware", "ids"),
        [
            ([], set()),
            ([AUTHENTICATION, CSRF], set()),
            ([CSRF, AUTHENTICATION, CLERK], set()),
            ([CSRF, CLERK], set()),
            ([CLERK, AUTHENTICATION, CSRF], {"E035"}),
            ([CLERK, "tests.test_checks.ChildOfAuthentication", CSRF], {"E035"}),
            (["tests.test_checks.ChildOfClerk", AUTHENTICATION, CSRF], {"E035"}),
            ([AUTHENTICATION, CLERK], {"W036"}),
            (["tests.no_such_module.Middleware", "tests.test_checks.plan_from_metadata", CSRF, CLERK], set()),
        ],
    )
    def test_order(self, middleware: list[str], ids: set[str]) -> None:
        """MWR-02."""
        assert found(MIDDLEWARE=middleware).keys() == ids


def _texts(value: Any) -> Iterator[str]:
    for deploy in (False, True):
        for setting in SETTINGS:
            for message in found(deploy=deploy, **{setting.name: value}).values():
                yield f"{message} {message!r}"


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: [s], lambda s: {"email": s}])
def test_no_text_shows_a_secret(secret: str, wrap: Callable[[str], Any]) -> None:
    """CFG-03: whatever a careless hand pasted, in whichever setting."""
    assert not [text for text in _texts(wrap(secret)) if "CANARY" in text]


def checked(*views: Any, check_id: str = "E048") -> list[CheckMessage]:
    """Return what the checks find in these views of REST framework or Django."""
    urls = ModuleType("urls_of_a_check")
    urls.urlpatterns = [path("inner/", include([path(f"{n}", view) for n, view in enumerate(views)]))]  # type: ignore[attr-defined]
    with override_settings(ROOT_URLCONF=urls):
        return [problem for problem in run_checks(tags=["clerk_views"]) if problem.id == f"clerk_views.{check_id}"]


class TestViews:
    """ORG-04: attributes are read when a request comes; what is wrong with them is found before."""

    @pytest.fixture(autouse=True)
    def _rest_framework(self) -> None:
        pytest.importorskip("rest_framework")

    def make(self, permission: Any = None, **attributes: Any) -> Any:
        from rest_framework.views import APIView

        from clerk_views.drf import IsClerkAuthenticated

        return type("Orders", (APIView,), {"permission_classes": [permission or IsClerkAuthenticated], **attributes})

    def test_good(self) -> None:
        from rest_framework.permissions import IsAdminUser

        from clerk_views.drf import IsClerkAuthenticated

        composed = self.make(~IsAdminUser | IsClerkAuthenticated & IsAdminUser, clerk_plan="user:pro")
        dynamic = self.make(clerk_role=property(lambda view: view.kwargs["role"]))
        by_request = lambda view: [] if view.request.user else [IsAdminUser()]  # noqa: E731
        own = self.make(IsAdminUser, clerk_role="org:admin", get_permissions=by_request)
        assert checked(*(view.as_view() for view in (self.make(clerk_role="org:admin"), composed, dynamic, own))) == []
        assert checked(lambda request: None, View.as_view()) == []
        assert checked(self.make(IsAdminUser, clerk_role=None).as_view()) == []

    @pytest.mark.parametrize(
        ("attributes", "said"),
        [
            ({"clerk_rol": "org:admin"}, "Did you mean clerk_role"),
            ({"clerk_role": ""}, "role"),
            ({"clerk_reverification": "paranoid"}, "paranoid"),
            ({"clerk_condition": "yes"}, "condition"),
        ],
        ids=["misspelt", "empty", "unknown preset", "no function"],
    )
    def test_mistakes(self, attributes: dict[str, Any], said: str) -> None:
        [problem] = checked(self.make(**attributes).as_view())
        assert said in problem.msg
        assert problem.msg.startswith(f"{__name__}.Orders")

    def test_what_as_view_was_given_counts(self) -> None:
        [problem] = checked(self.make(clerk_plan=None).as_view(clerk_plan="team:pro"))
        assert "team:pro" in problem.msg

    def test_what_nobody_asks(self) -> None:
        from rest_framework.permissions import IsAuthenticated

        composed = self.make(IsAuthenticated & ~IsAuthenticated, clerk_role="org:admin")
        django_s: Any = type("Report", (View,), {"clerk_plan": "user:pro"})
        for view in (self.make(IsAuthenticated, clerk_role="org:admin"), composed, django_s):
            [problem] = checked(view.as_view())
            assert "nobody reads" in problem.msg

    @pytest.mark.parametrize("name", ["clerk_role", "clerk_rol", "clerk_anything"])
    def test_what_nobody_asks_by_whatever_name(self, name: str) -> None:
        from rest_framework.permissions import IsAuthenticated

        [problem] = checked(self.make(IsAuthenticated, **{name: "org:admin"}).as_view())
        assert f"Orders.{name} asks something that nobody reads" in problem.msg

    def test_permissions_that_are_chosen(self) -> None:
        """As far as that can be seen without a request."""
        from rest_framework.permissions import IsAuthenticated
        from rest_framework.viewsets import ViewSet

        from clerk_views.drf import IsClerkAuthenticated

        other = self.make(clerk_role="org:admin", get_permissions=lambda view: [IsAuthenticated()])
        [problem] = checked(other.as_view())
        assert "nobody reads" in problem.msg
        one: Any = lambda view: [IsClerkAuthenticated() if view.action == "list" else IsAuthenticated()]  # noqa: E731
        members = {"get_permissions": one, "clerk_role": "org:admin", "list": None, "create": None}
        orders: Any = type("Orders", (ViewSet,), members)
        assert checked(orders.as_view({"get": "list", "post": "create"})) == []
        [problem] = checked(orders.as_view({"post": "create"}))
        assert "nobody reads" in problem.msg
        wrong: Any = type("Orders", (orders,), {"clerk_role": ""})
        [problem] = checked(wrong.as_view({"get": "list"}))
        assert "role" in problem.msg

    def test_every_permission_of_ours_reads_them(self) -> None:
        from clerk_views.drf import IsClerkAuthenticated, clerk_requires

        asks = clerk_requires(plan="user:pro")
        assert checked(self.make(asks, clerk_role="org:admin").as_view()) == []
        [problem] = checked(self.make(asks | IsClerkAuthenticated, clerk_rol="org:admin").as_view())
        assert "Did you mean clerk_role" in problem.msg
        by_key = clerk_requires(accepts_token="api_key")
        [problem] = checked(self.make(by_key, clerk_role="org:admin").as_view())
        assert "nobody could ever come in" in problem.msg

    def test_functions(self) -> None:
        """On those of @api_view they are read, on others not."""
        from rest_framework.decorators import api_view, permission_classes
        from rest_framework.permissions import IsAuthenticated

        from clerk_views import clerk_required
        from clerk_views.drf import IsClerkAuthenticated

        def function(permission: Any, **attributes: Any) -> Any:
            view = api_view(["GET"])(permission_classes([permission])(lambda request: HttpResponse()))
            vars(view).update(attributes)
            return view

        assert checked(function(IsClerkAuthenticated, clerk_role="org:admin")) == []
        [problem] = checked(function(IsClerkAuthenticated, clerk_role="org:"))
        assert "names no role" in problem.msg
        [problem] = checked(function(IsClerkAuthenticated, clerk_rol="org:admin"))
        assert "Did you mean clerk_role" in problem.msg
        [problem] = checked(function(IsAuthenticated, clerk_role="org:admin"))
        assert "nobody reads" in problem.msg

        def plain(request: Any) -> None:
            pass

        guarded: Any = clerk_required(plain)
        guarded.clerk_role = "org:admin"
        [problem] = checked(guarded)
        assert "TestViews.test_functions.<locals>.plain.clerk_role asks something that nobody reads" in problem.msg

    def test_what_is_no_function_may_be_named_as_it_likes(self) -> None:
        """As a model with our column, or an object that is a view."""
        model = type("User", (), {"clerk_user_id": "user_1"})
        made = type("Made", (), {"__call__": lambda self, request: None})()
        made.clerk_client = object()
        assert checked(made, self.make(model=model, clerk_role="org:admin").as_view()) == []

    def test_views_and_methods_of_a_class(self) -> None:
        """They stand on the class."""

        def get(self: Any, request: Any) -> None:
            pass

        get.clerk_role = "org:admin"  # type: ignore[attr-defined]
        [problem] = checked(self.make(get=get).as_view())
        assert "get.clerk_role asks something that nobody reads" in problem.msg
        classes: list[Any] = [self.make(), type("Report", (ClerkLoginRequiredMixin, View), {})]
        for view_class in classes:
            view = view_class.as_view()
            view.clerk_role = "org:admin"
            [problem] = checked(view)
            assert "nobody reads" in problem.msg

    def test_none_is_told(self) -> None:
        """ORG-04: it may be meant; but a value from the environment may be missing."""
        from rest_framework.decorators import action
        from rest_framework.viewsets import ViewSet

        from clerk_views.drf import IsClerkAuthenticated

        def warned(*views: Any) -> list[str]:
            return [problem.msg for problem in checked(*views, check_id="W049")]

        missing = self.make(clerk_role=None)
        [text] = warned(missing.as_view())
        assert text == f"{__name__}.Orders.clerk_role is None, so it asks nothing of anybody."
        assert warned(missing.as_view(clerk_role="org:admin")) == []
        assert warned(type("Lifted", (self.make(clerk_role="org:admin"),), {"clerk_role": None}).as_view()) == []  # type: ignore[attr-defined]
        assert warned(self.make(clerk_organization=False, clerk_allow_pending=True).as_view()) == []

        class Things(ViewSet):
            permission_classes = [IsClerkAuthenticated]
            clerk_role: str | None = None

            @action(detail=False, clerk_role="org:admin")
            def closed(self, request: Any) -> HttpResponse:
                raise NotImplementedError

            def list(self, request: Any) -> HttpResponse:
                raise NotImplementedError

        assert warned(Things.as_view({"get": "list"}), Things.as_view({"get": "closed"}, **Things.closed.kwargs)) == []

    def test_mixins_have_said_it_already(self) -> None:
        report: Any = type("Report", (ClerkLoginRequiredMixin, View), {"clerk_plan": "user:pro"})
        assert checked(report.as_view()) == []

    def test_without_urls_there_is_nothing_to_check(self) -> None:
        with override_settings(ROOT_URLCONF=None):
            assert checks.check_views() == []


class TestPages:
    """The views of clerk_views.urls must not lead to themselves (RED-03)."""

    @pytest.fixture(autouse=True)
    def _included(self, settings: Settings) -> None:
        settings.ROOT_URLCONF = "tests.page_urls"

    @pytest.mark.parametrize("name", ["CLERK_SIGN_IN_URL", "CLERK_SIGN_UP_URL"])
    @pytest.mark.parametrize(
        "value",
        [
            "/clerk/sign-in/",
            "/clerk/sign-up/",
            "/clerk/sign-in/?theme=dark",
            "https://app.example.com/clerk/sign-in/",
        ],
    )
    def test_circle(self, name: str, value: str) -> None:
        values: dict[str, Any] = {name: value}
        message = found(**values)["E047"]
        assert message.msg.startswith(f"{name} leads to the view 'clerk_views:sign-")
        assert message.is_serious()

    @pytest.mark.parametrize("value", ["/sign-in/", "/clerk/sign-in", "https://accounts.example/clerk/sign-in/", None])
    def test_other_pages(self, value: str | None) -> None:
        assert found(CLERK_SIGN_IN_URL=value, CLERK_SIGN_UP_URL=value, LOGIN_URL="clerk_views:sign-in") == {}

    @pytest.mark.parametrize("key", ["sk_test_x", "sk_live_x"], ids=["development", "production"])
    @pytest.mark.parametrize(
        ("address", "circle"),
        [
            ("https://app.example.com/clerk/sign-in/", False),
            ("https://satellite.example/clerk/sign-in/", True),
            ("/clerk/sign-in/", True),
        ],
    )
    def test_a_satellite_signs_in_on_the_primary_s_own_page(self, key: str, address: str, circle: bool) -> None:
        """Which is at the same path there, and both are origins of the project."""
        mode = key[3:7]
        values: dict[str, Any] = {
            "CLERK_SECRET_KEY": key,
            "CLERK_PUBLISHABLE_KEY": publishable_key(
                "clerk.example.com" if mode == "live" else "happy-cat-1.clerk.accounts.dev", mode
            ),
            "CLERK_IS_SATELLITE": True,
            "CLERK_DOMAIN": "satellite.example",
            "CLERK_AUTH_PARTIES": ["https://app.example.com", "https://satellite.example"],
            "CLERK_SIGN_IN_URL": address,
        }
        problems = found(**values)
        assert ("E047" in problems) is circle
        assert not problems or circle

    def test_the_views_are_not_included(self) -> None:
        assert found(CLERK_SIGN_IN_URL="/clerk/sign-in/", ROOT_URLCONF="tests.urls") == {}

    def test_there_are_no_views_at_all(self) -> None:
        assert found(CLERK_SIGN_IN_URL="/clerk/sign-in/", ROOT_URLCONF="") == {}


REDIS = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1"}}
WEBHOOKS: dict[str, Any] = {"CLERK_CHECK_REVOKED_SESSIONS": True, "CLERK_WEBHOOK_SIGNING_SECRET": WEBHOOK_SECRET}


@pytest.mark.parametrize("backend", ["locmem.LocMemCache", "dummy.DummyCache"])
def test_revoked_sessions_want_a_cache_that_is_shared(backend: str) -> None:
    """LFC-03."""
    caches = {"default": {"BACKEND": f"django.core.cache.backends.{backend}"}, "redis": REDIS["default"]}
    assert "W050" in found(CACHES=caches, **WEBHOOKS)
    assert found(CACHES=caches, CLERK_CACHE_ALIAS="redis", **WEBHOOKS) == {}
    assert found(CACHES=caches) == {}
    assert set(found(CACHES=caches, CLERK_CACHE_ALIAS="absent", **WEBHOOKS)) == {"E010"}


@pytest.mark.parametrize("backend", ["db.DatabaseCache", "filebased.FileBasedCache"])
@pytest.mark.parametrize(
    ("room", "is_scant"), [({}, True), ({"MAX_ENTRIES": 9_999}, True), ({"MAX_ENTRIES": 10_000}, False)], ids=str
)
def test_revoked_sessions_want_a_cache_that_does_not_drop_them(
    backend: str, room: dict[str, int], is_scant: bool
) -> None:
    """LFC-03: by default Django's own caches keep 300 entries, and each user is one."""
    cache = {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": "notes", "OPTIONS": room}
    messages = found(CACHES={"default": cache}, **WEBHOOKS)
    assert set(messages) == ({"W050"} if is_scant else set())
    if is_scant:
        assert f"more than {room.get('MAX_ENTRIES', 300)} entries" in messages["W050"].msg
        assert "MAX_ENTRIES" in str(messages["W050"].hint)
    assert found(CACHES={"default": cache}) == {}


@pytest.mark.parametrize("room", [300, 20_000])
def test_room_is_looked_at_in_any_cache(room: int) -> None:
    """Also for manage.py clerk_doctor, which asks the running cache."""
    locmem = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": room}}
    with override_settings(CACHES={"default": locmem, "redis": REDIS["default"]}):
        assert checks.scant_room("default") == (300 if room == 300 else None)
        assert checks.scant_room("redis") is None


def test_revoked_sessions_want_somebody_who_tells_of_them() -> None:
    """LFC-03."""
    assert "without CLERK_WEBHOOK_SIGNING_SECRET" in found(CACHES=REDIS, CLERK_CHECK_REVOKED_SESSIONS=True)["W050"].msg
    assert found(CACHES=REDIS, **WEBHOOKS) == {}
