"""The pages. Each shows its own source, which is what you would write."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views import View
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from clerk_views import clerk_optional, clerk_required, get_clerk
from clerk_views.conf import config
from clerk_views.drf import ClerkAuthentication, IsClerkAuthenticated, clerk_requires
from clerk_views.mixins import ClerkLoginRequiredMixin


def home(request: HttpRequest) -> HttpResponse:
    return render(request, "home.html")


@clerk_required
def required(request: HttpRequest) -> HttpResponse:
    return render(request, "door.html", {"greeting": f"Hello, {request.user}."})


@clerk_required
async def asynchronous(request: HttpRequest) -> HttpResponse:
    user = await request.auser()
    return render(request, "door.html", {"greeting": f"Hello, {user}."})


class ClassBased(ClerkLoginRequiredMixin, View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return render(request, "door.html", {"greeting": f"Hello, {request.user}."})


@login_required
def members(request: HttpRequest) -> HttpResponse:
    return render(request, "door.html", {"greeting": f"Hello, {request.user}."})


class Me(APIView):
    authentication_classes = [ClerkAuthentication]
    permission_classes = [IsClerkAuthenticated]

    def get(self, request: Request) -> Response:
        return Response({"clerk": get_clerk(request).user_id, "django": request.user.pk, "name": str(request.user)})

    def post(self, request: Request) -> Response:
        return Response({"clerk": get_clerk(request).user_id, "you_sent": request.data})


def rest(request: HttpRequest) -> HttpResponse:
    return render(request, "rest.html", {"issuer": next(iter(config().issuers), "")})


@clerk_optional
def optional(request: HttpRequest) -> HttpResponse:
    name = request.user if get_clerk(request).is_authenticated else "stranger"
    return render(request, "door.html", {"greeting": f"Hello, {name}."})


@clerk_required(role="org:admin")
def administration(request: HttpRequest) -> HttpResponse:
    return render(request, "door.html", {"greeting": f"Hello, {request.user}, admin of {get_clerk(request).org_slug}."})


class Invoices(APIView):
    authentication_classes = [ClerkAuthentication]
    permission_classes = [clerk_requires(permission="org:invoices:create")]

    def post(self, request: Request) -> Response:
        return Response({"created_by": str(request.user), "organisation": get_clerk(request).org_slug}, status=201)


def invoices(request: HttpRequest) -> HttpResponse:
    return render(request, "invoices.html")


@clerk_required(organization="slug")
def organization(request: HttpRequest, slug: str) -> HttpResponse:
    return render(request, "door.html", {"greeting": f"Hello, {request.user}, welcome to {slug}."})


@clerk_required(reverification="strict")
def step_up(request: HttpRequest) -> HttpResponse:
    return render(request, "step_up.html")


@clerk_optional
def may(request: HttpRequest) -> HttpResponse:
    return render(request, "may.html")


@clerk_optional
def whoami(request: HttpRequest) -> HttpResponse:
    return render(request, "whoami.html", {"claims": get_clerk(request).claims.items()})
