"""
``ClerkBackend``: Django's questions about permissions, answered from the current request's token and no other.

Threats: CTX-01, CTX-02, LFC-05, ORG-01, CAC-03.
"""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.mixins import PermissionRequiredMixin
from django.contrib.auth.models import AnonymousUser, Permission
from django.core.exceptions import SynchronousOnlyOperation
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import Context, Template
from django.test import RequestFactory
from django.urls import path
from django.views import View

from clerk_views import clerk_optional, clerk_required
from clerk_views.mixins import ClerkLoginRequiredMixin
from clerk_views.states import memo_of
from clerk_views.testing import LocalClerk, LocalUser
from clerk_views.visitors import attach_lazily, load_user
from tests.conftest import World
from tests.doors import MIDDLEWARE

pytestmark = pytest.mark.django_db

CLERK_BACKEND, MODEL_BACKEND = "clerk_views.backends.ClerkBackend", "django.contrib.auth.backends.ModelBackend"
CREATE, DELETE = "org:invoices:create", "org:invoices:delete"
KEPT: list[Any] = []


@pytest.fixture(autouse=True)
def _backend(settings: Any) -> Iterator[None]:
    settings.AUTHENTICATION_BACKENDS = [MODEL_BACKEND, CLERK_BACKEND]
    yield
    KEPT.clear()


@pytest.fixture
def ada(local_clerk: LocalClerk) -> LocalUser:
    return local_clerk.add_user(email="ada@example.com")


@pytest.fixture
def member(local_clerk: LocalClerk, ada: LocalUser) -> str:
    """The header of a member who may create invoices and read reports."""
    permissions = [CREATE, "org:reports:read"]
    return "Bearer " + local_clerk.token(ada, org_id="org_1", org_role="org:member", org_permissions=permissions)


def request_of(authorization: str) -> tuple[HttpRequest, Any]:
    request = RequestFactory().get("/", headers={"authorization": authorization})
    return request, load_user(memo_of(request))


def test_it_answers_from_the_token(member: str) -> None:
    request, user = request_of(member)
    assert user.has_perm(CREATE)
    assert not user.has_perm(DELETE)
    assert user.has_perms([CREATE, "org:reports:read"])
    assert not user.has_perms([CREATE, DELETE])
    assert user.get_all_permissions() == user.get_user_permissions() == {CREATE, "org:reports:read"}
    assert user.get_group_permissions() == set()
    assert request is not None


def test_its_async_twins_say_the_same(member: str) -> None:
    request, user = request_of(member)

    async def ask() -> None:
        assert await user.ahas_perm(CREATE)
        assert not await user.ahas_perm(DELETE)
        assert await user.ahas_perms([CREATE, "org:reports:read"])
        assert await user.ahas_module_perms("org:invoices")
        assert not await user.ahas_module_perms("org:payments")
        assert await user.aget_all_permissions() == {CREATE, "org:reports:read"}
        assert await user.aget_user_permissions() == {CREATE, "org:reports:read"}
        assert await user.aget_group_permissions() == set()

    async_to_sync(ask)()
    assert request is not None


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("org", True),
        ("org:invoices", True),
        ("org:invoices:create", True),
        ("org:invoices:delete", False),
        ("org:invoice", False),
        ("org:payments", False),
        ("invoices", False),
        ("", False),
        ("auth", False),
    ],
)
def test_modules_are_features(member: str, label: str, expected: bool) -> None:
    request, user = request_of(member)
    assert user.has_module_perms(label) is expected
    assert request is not None


@pytest.mark.parametrize(
    "perm", ["invoices:create", "auth.add_user", "", "org:", "org", "org:invoices", "ORG:invoices:create"]
)
def test_of_other_permissions_it_knows_nothing(member: str, perm: str) -> None:
    request, user = request_of(member)
    assert not user.has_perm(perm)
    assert request is not None


def test_it_speaks_of_no_single_object(member: str) -> None:
    """As ModelBackend does not."""
    request, user = request_of(member)
    assert not user.has_perm(CREATE, obj=user)
    assert user.get_all_permissions(obj=user) == set()
    assert request is not None


def test_model_permissions_stay_with_django_s_own(member: str) -> None:
    request, user = request_of(member)
    user.user_permissions.add(Permission.objects.get(codename="add_group"))
    assert user.has_perm("auth.add_group")
    assert not user.has_perm("auth.delete_group")
    assert user.has_perms(["auth.add_group", CREATE])
    assert user.get_all_permissions() == {"auth.add_group", CREATE, "org:reports:read"}
    assert request is not None


def test_another_object_of_the_same_user_has_none(member: str) -> None:
    """CTX-01: not one from the database, not a copy, not one from a pickle."""
    request, user = request_of(member)
    another = get_user_model().objects.get(pk=user.pk)
    unpickled = pickle.loads(pickle.dumps(user))  # noqa: S301  # our own
    for other in (another, copy.copy(user), copy.deepcopy(user), unpickled):
        assert other == user
        assert not other.has_perm(CREATE)
        assert not other.has_module_perms("org")
        assert other.get_all_permissions() == set()
    assert user.has_perm(CREATE)
    assert request is not None


def test_another_request_s_token_does_not_count(local_clerk: LocalClerk, ada: LocalUser, member: str) -> None:
    """CTX-01, LFC-05: each user object speaks with the rights of its own request."""
    first_request, first = request_of(member)
    second_request, second = request_of("Bearer " + local_clerk.token(ada, org_id="org_2", org_permissions=[DELETE]))
    assert (first.has_perm(CREATE), first.has_perm(DELETE)) == (True, False)
    assert (second.has_perm(CREATE), second.has_perm(DELETE)) == (False, True)
    assert first_request is not second_request


def test_a_user_who_outlives_his_request_has_none(member: str) -> None:
    """CTX-01."""
    request, user = request_of(member)
    assert user.has_perm(CREATE)
    del request
    gc.collect()
    assert not user.has_perm(CREATE)


def test_a_planted_mark_says_nothing(member: str) -> None:
    """MWR-02."""
    request, user = request_of(member)
    another = get_user_model().objects.get(pk=user.pk)
    another.__dict__["_clerk_views_origin"] = user.__dict__["_clerk_views_origin"]
    assert not another.has_perm(CREATE)
    another.__dict__["_clerk_views_origin"] = request
    assert not another.has_perm(CREATE)


def test_the_inactive_and_the_anonymous_have_none(member: str) -> None:
    request, user = request_of(member)
    user.is_active = False
    assert not user.has_perm(CREATE)
    assert user.get_all_permissions() == set()
    assert not AnonymousUser().has_perm(CREATE)
    assert request is not None


def test_copies_of_a_lazy_user_find_him_too(member: str) -> None:
    request: Any = RequestFactory().get("/", headers={"authorization": member})
    attach_lazily(request)
    early = copy.copy(request.user)
    assert request.user.has_perm(CREATE)
    assert early.has_perm(CREATE)


def test_a_second_middleware_leaves_the_first_ones_user(member: str) -> None:
    request: Any = RequestFactory().get("/", headers={"authorization": member})
    attach_lazily(request)
    first = request.user
    attach_lazily(request)
    assert request.user is first
    assert first.has_perm(CREATE)


def test_it_signs_nobody_in() -> None:
    from django.contrib.auth import authenticate

    get_user_model().objects.create_user("sam", "sam@example.com", "password")
    assert authenticate(username="sam", password="wrong") is None


@pytest.mark.parametrize("clerk_first", [True, False])
def test_signing_in_at_django_passes_it_by(settings: Any, clerk_first: bool) -> None:
    from django.contrib.auth import aauthenticate, authenticate

    if clerk_first:
        settings.AUTHENTICATION_BACKENDS = settings.AUTHENTICATION_BACKENDS[::-1]
    sam = get_user_model().objects.create_user("sam", "sam@example.com", "password")
    for found in (
        authenticate(username="sam", password="password"),
        async_to_sync(aauthenticate)(username="sam", password="password"),
    ):
        assert found == sam
        assert found.backend == MODEL_BACKEND


def test_it_finds_no_users_by_permission(settings: Any, ada: LocalUser, member: str) -> None:
    """CTX-01: its permissions are a request's, and so no row has them."""
    request, user = request_of(member)
    assert user.has_perm(CREATE)
    assert list(get_user_model().objects.with_perm(CREATE, backend=CLERK_BACKEND)) == []
    assert request is not None


@clerk_optional
def keeps(request: HttpRequest) -> HttpResponse:
    KEPT.append(request.user)
    return JsonResponse({"may": request.user.has_perm(CREATE)})


@permission_required(CREATE, raise_exception=True)
def decorated(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"may": True})


class Mixed(PermissionRequiredMixin, View):
    permission_required = (CREATE, "org:reports:read")
    raise_exception = True

    def get(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"may": True})


@clerk_required
async def asynchronous(request: HttpRequest) -> HttpResponse:
    user: Any = await request.auser()
    return JsonResponse({"may": await user.ahas_perm(CREATE), "at once": user.has_perm(CREATE)})


@permission_required(CREATE, raise_exception=True)
async def adecorated(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"may": True})


@clerk_required
async def at_once(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"may": request.user.has_perm(CREATE)})


class AsyncMixed(ClerkLoginRequiredMixin, PermissionRequiredMixin, View):
    permission_required = CREATE
    raise_exception = True

    async def get(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"may": True})


@clerk_required
def templated(request: HttpRequest) -> HttpResponse:
    text = (
        "{% if perms.org %}some{% endif %} "
        '{% if "org:invoices:create" in perms %}create{% endif %} '
        '{% if "org:invoices:delete" in perms %}delete{% endif %}'
    )
    from django.contrib.auth.context_processors import auth

    return HttpResponse(Template(text).render(Context(auth(request))))


async def session_user(request: HttpRequest) -> HttpResponse:
    user: Any = await request.auser()
    return JsonResponse({"who": user.get_username(), "may": await user.ahas_perm("auth.add_group")})


def session_user_at_once(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"who": request.user.get_username(), "may": request.user.has_perm("auth.add_group")})


URLS = ModuleType("urls_of_permissions")
URLS.urlpatterns = [  # type: ignore[attr-defined]  # a module takes any
    path("keeps", keeps),
    path("decorated", decorated),
    path("mixed", Mixed.as_view()),
    path("async", asynchronous),
    path("adecorated", adecorated),
    path("at-once", at_once),
    path("async-mixed", AsyncMixed.as_view()),
    path("templated", templated),
    path("session", session_user),
    path("session-at-once", session_user_at_once),
]


@pytest.fixture
def site(settings: Any, each_world: World) -> World:
    settings.ROOT_URLCONF = URLS
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    return each_world


def test_django_s_decorator_and_mixin_ask_it(local_clerk: LocalClerk, ada: LocalUser, site: World, member: str) -> None:
    nobody_s = "Bearer " + local_clerk.token(ada, org_id="org_1", org_permissions=["org:reports:read"])
    for where in ("/decorated", "/mixed"):
        assert site.get(where, headers={"authorization": member}).status_code == 200
        assert site.get(where, headers={"authorization": nobody_s}).status_code == 403


def test_async_views_ask_it(site: World, member: str) -> None:
    answer: Any = site.get("/async", headers={"authorization": member})
    assert answer.json() == {"may": True, "at once": True}


@pytest.fixture(params=["model first", "clerk first"])
def order(request: pytest.FixtureRequest, settings: Any) -> str:
    if request.param == "clerk first":
        settings.AUTHENTICATION_BACKENDS = settings.AUTHENTICATION_BACKENDS[::-1]
    return str(request.param)


@pytest.mark.usefixtures("order")
def test_django_s_decorator_asks_it_for_async_views(
    local_clerk: LocalClerk, ada: LocalUser, site: World, member: str
) -> None:
    """CTX-02: without a query on the event loop, whichever backend stands first."""
    nobody_s = "Bearer " + local_clerk.token(ada, org_id="org_1", org_permissions=[DELETE])
    assert site.get("/adecorated", headers={"authorization": member}).status_code == 200
    assert site.get("/adecorated", headers={"authorization": nobody_s}).status_code == 403
    assert site.get("/adecorated").status_code == 403


@pytest.mark.parametrize("where", ["/at-once", "/async-mixed"])
def test_without_await_an_event_loop_allows_what_needs_no_query(
    local_clerk: LocalClerk, ada: LocalUser, site: World, member: str, order: str, where: str
) -> None:
    """CTX-02: ModelBackend always reads; so what ClerkBackend, standing first, does not grant, raises as well."""
    nobody_s = "Bearer " + local_clerk.token(ada, org_id="org_1", org_permissions=[DELETE])

    def get(authorization: str) -> int:
        return site.get(where, headers={"authorization": authorization}).status_code

    if order == "clerk first":
        assert get(member) == 200
    else:
        with pytest.raises(SynchronousOnlyOperation):
            get(member)
    with pytest.raises(SynchronousOnlyOperation):
        get(nobody_s)


def test_templates_ask_it(site: World, member: str) -> None:
    assert site.get("/templated", headers={"authorization": member}).content.split() == [b"some", b"create"]


def test_a_user_kept_by_a_view_loses_them_with_the_request(site: World, member: str) -> None:
    """CTX-01."""
    answer: Any = site.get("/keeps", headers={"authorization": member})
    assert answer.json() == {"may": True}
    del answer
    gc.collect()
    assert not KEPT[0].has_perm(CREATE)


@pytest.fixture
def sam() -> Any:
    sam = get_user_model().objects.create_user("sam", "sam@example.com", "password")
    sam.user_permissions.add(Permission.objects.get(codename="add_group"))
    return sam


@pytest.fixture(params=["with ClerkMiddleware", "without"])
def sessions(request: pytest.FixtureRequest, settings: Any, site: World) -> World:
    """A site of Django's own sessions, with or without our middleware."""
    if request.param == "without":
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != MIDDLEWARE]
    return site


@pytest.mark.usefixtures("order", "local_clerk")
@pytest.mark.parametrize("by_force", [True, False])
def test_sessions_are_the_other_backend_s(sessions: World, sam: Any, by_force: bool) -> None:
    """MWR-02: whoever logs in at Django, by force as in tests or by password, is who he is, and nobody silently."""
    if by_force:
        (sessions.aforce_login if sessions.is_async else sessions.client.force_login)(sam)
    else:
        (sessions.alogin if sessions.is_async else sessions.client.login)(username="sam", password="password")
    for where in ("/session", "/session-at-once"):
        answer: Any = sessions.get(where)
        assert answer.json() == {"who": "sam", "may": True}


@pytest.mark.usefixtures("local_clerk")
def test_a_session_that_names_it_is_an_error_that_says_so(settings: Any, sessions: World, sam: Any) -> None:
    settings.AUTHENTICATION_BACKENDS = [CLERK_BACKEND]
    sessions.client.force_login(sam, backend=CLERK_BACKEND)
    for where in ("/session", "/session-at-once"):
        with pytest.raises(AttributeError, match="login"):
            sessions.get(where)
