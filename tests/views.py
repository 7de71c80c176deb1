"""One view behind each door. Each says whom it sees; nothing else."""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import TemplateView

from clerk_views import aget_clerk, clerk_optional, clerk_required, get_clerk
from clerk_views.mixins import ClerkLoginRequiredMixin, ClerkOptionalMixin


def who(request: Any, user: Any) -> dict[str, Any]:
    """Whom a view sees: Clerk's id, and the Django user's primary key."""
    clerk = request.clerk
    return {
        "clerk": clerk.user_id,
        "session": clerk.session_id,
        "status": clerk.status,
        "user": None if user.is_anonymous else user.pk,
    }


def answer(request: Any) -> JsonResponse:
    return JsonResponse(who(request, request.user))


async def aanswer(request: Any) -> JsonResponse:
    return JsonResponse(who(request, await request.auser()))


required = clerk_required(answer)
required_called = clerk_required(login_url="/own-sign-in/", redirect_field_name="back")(answer)
required_named = clerk_required(login_url="named-sign-in")(answer)
required_forbidden = clerk_required(raise_exception=True)(answer)
required_exempt = csrf_exempt(clerk_required(answer))
optional = clerk_optional(answer)
optional_exempt = clerk_optional(csrf_exempt(answer))
optional_silent = clerk_optional(lambda request: JsonResponse({"clerk": request.clerk.user_id}))
required_async = clerk_required(aanswer)
required_async_forbidden = clerk_required(raise_exception=True)(aanswer)
optional_async = clerk_optional(aanswer)
plain = answer
plain_async = aanswer
login = login_required(answer)


@clerk_optional
async def optional_async_lazy(request: Any) -> JsonResponse:
    """Wants the user by attribute, after having awaited him once."""
    await request.auser()
    return JsonResponse(who(request, request.user))


@clerk_required
def own_headers(request: HttpRequest) -> JsonResponse:
    response = answer(request)
    response["Cache-Control"] = "max-age=60"
    response["Vary"] = "Accept-Language"
    return response


class Raised(Exception):
    """Nothing that Django has an answer for."""


ERRORS = {
    "404": Http404,
    "403": PermissionDenied,
    "400": BadRequest,
    "suspicious": SuspiciousOperation,
    "500": Raised,
}


def raises(request: HttpRequest, kind: str) -> HttpResponse:
    raise ERRORS[kind]("about this visitor")


async def araises(request: HttpRequest, kind: str) -> HttpResponse:
    raise ERRORS[kind]("about this visitor")


def around(view: Any) -> Any:
    """Answer 404 in the project's own way."""

    @wraps(view)
    def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        try:
            response: HttpResponse = view(request, **kwargs)
        except Http404:
            return HttpResponse("not here", status=410)
        return response

    return wrapped


required_raises = clerk_required(raises)
required_araises = clerk_required(araises)
required_raises_inside = around(clerk_required(raises))


def unwelcome(auth: Any) -> bool:
    raise PermissionDenied("about this visitor")


def unheard_of(auth: Any) -> bool:
    raise Http404("about this visitor")


CONDITIONS = {
    f"{kind}/{name}": clerk_required(condition=condition)(view)
    for kind, condition in (("403", unwelcome), ("404", unheard_of))
    for name, view in (("function", answer), ("afunction", aanswer))
}


@clerk_required
def no_response(request: HttpRequest) -> Any:
    return None


def untouched(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"asked": False})


def asks(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"clerk": get_clerk(request).user_id})


async def asks_async(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"clerk": (await aget_clerk(request)).user_id})


class _Answers(View):
    def get(self, request: HttpRequest, **kwargs: Any) -> JsonResponse:
        return answer(request)

    def post(self, request: HttpRequest, **kwargs: Any) -> JsonResponse:
        return answer(request)


class _AsyncAnswers(View):
    async def get(self, request: HttpRequest, **kwargs: Any) -> JsonResponse:
        return await aanswer(request)

    async def post(self, request: HttpRequest, **kwargs: Any) -> JsonResponse:
        return await aanswer(request)


class Required(ClerkLoginRequiredMixin, _Answers):
    pass


class Raises(ClerkLoginRequiredMixin, View):
    def get(self, request: HttpRequest, kind: str) -> HttpResponse:
        return raises(request, kind)


class RaisesAsync(ClerkLoginRequiredMixin, View):
    async def get(self, request: HttpRequest, kind: str) -> HttpResponse:
        return await araises(request, kind)


class Unwelcoming(ClerkLoginRequiredMixin, _AsyncAnswers):
    clerk_condition = unwelcome


class RequiredElsewhere(ClerkLoginRequiredMixin, _Answers):
    login_url = "/own-sign-in/"
    redirect_field_name = "back"


class RequiredForbidden(ClerkLoginRequiredMixin, _Answers):
    raise_exception = True


class RequiredAsync(ClerkLoginRequiredMixin, _AsyncAnswers):
    pass


class Optional(ClerkOptionalMixin, _Answers):
    pass


class OptionalAsync(ClerkOptionalMixin, _AsyncAnswers):
    pass


@method_decorator(clerk_required, name="dispatch")
class Decorated(_Answers):
    pass


@method_decorator(clerk_required, name="dispatch")
class DecoratedAsync(_AsyncAnswers):
    pass


@method_decorator(clerk_optional, name="dispatch")
class DecoratedOptionalAsync(_AsyncAnswers):
    pass


class DecoratedMethod(View):
    @method_decorator(clerk_required)
    def get(self, request: HttpRequest) -> JsonResponse:
        return answer(request)


@method_decorator(clerk_required, name="get")
class DecoratedMethodAsync(_AsyncAnswers):
    pass


class LoginRequired(LoginRequiredMixin, _Answers):
    """Django's own mixin, not ours."""


class Page(ClerkOptionalMixin, TemplateView):
    template_name = "tests/page.html"
