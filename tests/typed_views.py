"""Views of a project that is typed strictly, one of each kind. See test_typing.py."""

from __future__ import annotations

from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.generic import TemplateView
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from clerk_views import aget_clerk, clerk_optional, clerk_required, get_clerk
from clerk_views.auth import ClerkAuth
from clerk_views.drf import ClerkAuthentication, IsClerkAuthenticated, clerk_requires
from clerk_views.http import ClerkHttpRequest
from clerk_views.mixins import ClerkLoginRequiredMixin, ClerkOptionalMixin


@clerk_required
def dashboard(request: ClerkHttpRequest) -> JsonResponse:
    return JsonResponse({"clerk": request.clerk.user_id, "django": request.user.pk})


@clerk_required(role="org:admin", condition=lambda auth: auth.org_slug == "acme")
async def report(request: ClerkHttpRequest, year: int) -> HttpResponse:
    auth: ClerkAuth = await aget_clerk(request)
    user = await request.auser()
    return HttpResponse(f"{auth.org_id} {user.pk} {year}")


@clerk_optional
def home(request: ClerkHttpRequest) -> HttpResponse:
    name: str | None = request.clerk.user_id
    return HttpResponse(name or "nobody")


class Report(ClerkLoginRequiredMixin, View):
    request: ClerkHttpRequest
    clerk_role = "org:admin"

    def get(self, request: ClerkHttpRequest, year: int) -> HttpResponse:
        return HttpResponse(f"{request.clerk.user_id} {self.request.clerk.org_id} {year}")


class Front(ClerkOptionalMixin, TemplateView):
    request: ClerkHttpRequest
    template_name = "front.html"

    def get_context_data(self, **kwargs: object) -> dict[str, object]:
        return {**super().get_context_data(**kwargs), "who": self.request.clerk.user_id}


@method_decorator(clerk_required, name="dispatch")
class Plain(View):
    async def get(self, request: ClerkHttpRequest) -> HttpResponse:
        return HttpResponse(request.clerk.session_id)


class Things(APIView):
    authentication_classes = [ClerkAuthentication]
    permission_classes = [IsClerkAuthenticated | clerk_requires(scopes=["things:read"])]

    def get(self, request: Request) -> Response:
        auth: ClerkAuth = get_clerk(request)  # request.auth is the same, but the stubs take it for a Token
        return Response({"clerk": auth.user_id})


@api_view(["GET"])
@authentication_classes([ClerkAuthentication])
@permission_classes([IsClerkAuthenticated])
def things(request: Request) -> Response:
    return Response({"clerk": get_clerk(request).user_id})


def mistaken(request: ClerkHttpRequest) -> str:
    return request.clerk.user_id  # type: ignore[return-value]  # None for whoever is not signed in


urlpatterns = [
    path("", home),
    path("dashboard/", dashboard),
    path("report/<int:year>/", report),
    path("reports/<int:year>/", Report.as_view()),
    path("front/", Front.as_view()),
    path("plain/", Plain.as_view()),
    path("things/", Things.as_view()),
    path("things/function/", things),
]
