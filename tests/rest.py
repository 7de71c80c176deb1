"""One REST framework view behind each of its doors."""

from __future__ import annotations

from typing import Any

from rest_framework import permissions, viewsets
from rest_framework.authentication import BasicAuthentication, SessionAuthentication, TokenAuthentication
from rest_framework.decorators import action, api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from clerk_views import clerk_required, get_clerk
from clerk_views.auth import ClerkAuth
from clerk_views.drf import ClerkAuthentication, IsClerkAuthenticated
from tests.views import who


def answer(request: Request) -> Response:
    return Response({**who(request, request.user), "auth": type(request.auth).__name__})


class Api(APIView):
    authentication_classes = [ClerkAuthentication]
    permission_classes = [IsClerkAuthenticated]

    def get(self, request: Request) -> Response:
        return answer(request)

    def post(self, request: Request) -> Response:
        return answer(request)


class OpenApi(Api):
    permission_classes = [permissions.AllowAny]


class ComposedApi(Api):
    permission_classes = [IsClerkAuthenticated | permissions.IsAdminUser]


class NegatedApi(Api):
    permission_classes = [~IsClerkAuthenticated]


class BearerTokenAuthentication(TokenAuthentication):
    """Another scheme that uses the word Bearer, for opaque tokens of its own."""

    keyword = "Bearer"

    def authenticate_credentials(self, key: str) -> tuple[Any, str]:
        from django.contrib.auth.models import User

        return User(pk=-1, username="by-token"), key


class ThenSession(Api):
    authentication_classes = [ClerkAuthentication, SessionAuthentication]
    permission_classes = [permissions.IsAuthenticated]


class SessionFirst(Api):
    """Where the first class answers, ours is never asked; whoever wants to know of Clerk asks get_clerk()."""

    authentication_classes = [SessionAuthentication, ClerkAuthentication]
    permission_classes = [permissions.IsAuthenticated]

    def get(self, request: Request) -> Response:
        return Response({"clerk": get_clerk(request).user_id, "user": request.user.pk})


class ThenBasic(Api):
    authentication_classes = [ClerkAuthentication, BasicAuthentication]
    permission_classes = [permissions.IsAuthenticated]


class ThenBearer(Api):
    authentication_classes = [ClerkAuthentication, BearerTokenAuthentication]
    permission_classes = [permissions.IsAuthenticated]


class ByDefault(APIView):
    """Uses the authentication classes of the project's settings."""

    def get(self, request: Request) -> Response:
        return answer(request)


@api_view(["GET", "POST"])
@authentication_classes([ClerkAuthentication])
@permission_classes([IsClerkAuthenticated])
def function(request: Request) -> Response:
    return answer(request)


@api_view(["GET", "POST"])
@authentication_classes([])
@permission_classes([])
@clerk_required
def decorated(request: Any) -> Response:
    return Response({**who(request, request.user), "auth": ClerkAuth.__name__})


@clerk_required
@api_view(["GET", "POST"])
@authentication_classes([SessionAuthentication])
@permission_classes([permissions.IsAuthenticated])
def decorated_outside(request: Any) -> Response:
    return Response({**who(request, request.user), "auth": ClerkAuth.__name__})


class Things(viewsets.ViewSet):
    authentication_classes = [ClerkAuthentication]
    permission_classes = [IsClerkAuthenticated]

    def list(self, request: Request) -> Response:
        return answer(request)

    def create(self, request: Request) -> Response:
        return answer(request)

    @action(detail=False)
    def recent(self, request: Request) -> Response:
        return answer(request)
