"""The views. Each answers with the user's primary key and nothing else, or with as little as that."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views import View

from tests.benchmarks.settings import LIBRARY

THE_USER = 1  # the primary key of the only user


def key_of(user: Any) -> HttpResponse:
    return HttpResponse(str(user.pk))


def bare(request: HttpRequest) -> HttpResponse:
    return HttpResponse("1")


def by_orm(request: HttpRequest) -> HttpResponse:
    return key_of(get_user_model().objects.get(pk=THE_USER))


async def async_bare(request: HttpRequest) -> HttpResponse:
    return HttpResponse("1")


async def async_by_orm(request: HttpRequest) -> HttpResponse:
    return key_of(await sync_to_async(get_user_model().objects.get)(pk=THE_USER))


def with_user(request: HttpRequest) -> HttpResponse:
    return key_of(request.user)


async def async_with_user(request: HttpRequest) -> HttpResponse:
    return key_of(await request.auser())


def put_first(wanted: str) -> None:
    """Let a view be the first that Django finds: none is dearer than another for its place in the list."""
    urlpatterns.sort(key=lambda pattern: str(pattern.pattern) != wanted)


urlpatterns = [
    path("bare", bare),
    path("orm", by_orm),
    path("login", login_required(with_user)),
    path("async/bare", async_bare),
    path("async/orm", async_by_orm),
    path("async/auser", async_with_user),
]

if LIBRARY == "clerk_views":
    from clerk_views import clerk_optional, clerk_required
    from clerk_views.mixins import ClerkLoginRequiredMixin, ClerkOptionalMixin

    class Required(ClerkLoginRequiredMixin, View):
        def get(self, request: HttpRequest) -> HttpResponse:
            return key_of(request.user)

    class RequiredSilent(ClerkLoginRequiredMixin, View):
        def get(self, request: HttpRequest) -> HttpResponse:
            return bare(request)

    class Optional(ClerkOptionalMixin, View):
        def get(self, request: HttpRequest) -> HttpResponse:
            return with_user(request)

    class OptionalSilent(ClerkOptionalMixin, View):
        def get(self, request: HttpRequest) -> HttpResponse:
            return bare(request)

    class AsyncRequired(ClerkLoginRequiredMixin, View):
        async def get(self, request: HttpRequest) -> HttpResponse:
            return await async_with_user(request)

    class AsyncRequiredSilent(ClerkLoginRequiredMixin, View):
        async def get(self, request: HttpRequest) -> HttpResponse:
            return await async_bare(request)

    urlpatterns += [
        path("required", clerk_required(with_user)),
        path("required/silent", clerk_required(bare)),
        path("optional/user", clerk_optional(with_user)),
        path("optional", clerk_optional(bare)),
        path("mixin", Required.as_view()),
        path("mixin/silent", RequiredSilent.as_view()),
        path("mixin/optional/user", Optional.as_view()),
        path("mixin/optional", OptionalSilent.as_view()),
        path("async/required", clerk_required(async_with_user)),
        path("async/required/silent", clerk_required(async_bare)),
        path("async/optional/user", clerk_optional(async_with_user)),
        path("async/optional", clerk_optional(async_bare)),
        path("async/mixin", AsyncRequired.as_view()),
        path("async/mixin/silent", AsyncRequiredSilent.as_view()),
    ]

if find_spec("rest_framework"):
    from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated
    from rest_framework.request import Request
    from rest_framework.response import Response
    from rest_framework.views import APIView

    def api_view(authentication: list[Any], permission: type[BasePermission]) -> Any:
        class Api(APIView):
            authentication_classes = authentication
            permission_classes = [permission]

            def get(self, request: Request) -> Response:
                return Response(request.user.pk or 1)

        return Api.as_view()

    urlpatterns += [path("api/bare", api_view([], AllowAny))]
    if LIBRARY == "clerk_views":
        from clerk_views.drf import ClerkAuthentication, IsClerkAuthenticated

        urlpatterns += [
            path("api/required", api_view([ClerkAuthentication], IsClerkAuthenticated)),
            path("api/open", api_view([ClerkAuthentication], AllowAny)),
        ]
    else:
        sdk = import_module("django_clerk_sdk.core.auth.clerk.authentication")
        urlpatterns += [path("api/required", api_view([sdk.ClerkAuthentication], IsAuthenticated))]
    if find_spec("rest_framework_simplejwt"):
        simplejwt = import_module("rest_framework_simplejwt.authentication")
        urlpatterns += [path("api/simplejwt", api_view([simplejwt.JWTAuthentication], IsAuthenticated))]
