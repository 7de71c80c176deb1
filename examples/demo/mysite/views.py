"""The pages. Each shows its own source, which is what you would write."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views import View
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from clerk_views import clerk_optional, clerk_required, get_clerk
from clerk_views.conf import config
from clerk_views.drf import ClerkAuthentication, IsClerkAuthenticated
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


@clerk_optional
def whoami(request: HttpRequest) -> HttpResponse:
    return render(request, "whoami.html", {"claims": get_clerk(request).claims.items()})


@clerk_required
def login(request: HttpRequest) -> HttpResponse:
    """Where ``LOGIN_URL`` points: by way of Clerk to the page in ``next``."""
    target = request.GET.get("next", "/")
    return redirect(target if url_has_allowed_host_and_scheme(target, {request.get_host()}) else "/")


def clerk(request: HttpRequest) -> HttpResponse:
    """Where ``CLERK_SIGN_IN_URL`` points with Clerk itself: its JavaScript signs in, sets the cookie and goes back."""
    return render(request, "clerk.html")
