"""Where the views of the tests are found."""

from __future__ import annotations

from importlib.util import find_spec

from django.contrib import admin
from django.urls import include, path

from clerk_views import webhooks
from tests import views

urlpatterns = [
    path("admin/", admin.site.urls),
    # Alone: sign-in by name would change what other tests see. page_urls.py has it all.
    path("clerk/", include(([path("webhook/", webhooks.webhook, name="webhook")], "clerk_views"))),
    path("required/", views.required),
    path("required/called/", views.required_called),
    path("required/named/", views.required_named),
    path("required/forbidden/", views.required_forbidden),
    path("required/exempt/", views.required_exempt),
    path("required/async/", views.required_async),
    path("required/async/forbidden/", views.required_async_forbidden),
    path("required/own-headers/", views.own_headers),
    path("required/no-response/", views.no_response),
    path("raises/function/<kind>/", views.required_raises),
    path("raises/afunction/<kind>/", views.required_araises),
    path("raises/class/<kind>/", views.Raises.as_view()),
    path("raises/aclass/<kind>/", views.RaisesAsync.as_view()),
    path("raises/inside/<kind>/", views.required_raises_inside),
    path("raises/class-inside/<kind>/", views.around(views.Raises.as_view())),
    *(path(f"condition/{name}/", view) for name, view in views.CONDITIONS.items()),
    path("condition/403/class/", views.Unwelcoming.as_view()),
    path("required/<path:rest>", lambda request, rest: views.required(request)),
    path("named/", views.untouched, name="named-sign-in"),
    path("optional/", views.optional),
    path("optional/exempt/", views.optional_exempt),
    path("optional/silent/", views.optional_silent),
    path("optional/async/", views.optional_async),
    path("optional/async/lazy/", views.optional_async_lazy),
    path("class/", views.Required.as_view()),
    path("class/elsewhere/", views.RequiredElsewhere.as_view()),
    path("class/forbidden/", views.RequiredForbidden.as_view()),
    path("class/async/", views.RequiredAsync.as_view()),
    path("class/optional/", views.Optional.as_view()),
    path("class/optional/async/", views.OptionalAsync.as_view()),
    path("class/page/", views.Page.as_view()),
    path("class/decorated/", views.Decorated.as_view()),
    path("class/decorated/async/", views.DecoratedAsync.as_view()),
    path("class/decorated/optional/async/", views.DecoratedOptionalAsync.as_view()),
    path("class/decorated/method/", views.DecoratedMethod.as_view()),
    path("class/decorated/method/async/", views.DecoratedMethodAsync.as_view()),
    path("plain/", views.plain),
    path("plain/async/", views.plain_async),
    path("plain/untouched/", views.untouched),
    path("plain/asks/", views.asks),
    path("plain/asks/async/", views.asks_async),
    path("login/", views.login),
]

if find_spec("rest_framework"):
    from rest_framework.routers import SimpleRouter

    from tests import rest

    router = SimpleRouter()
    router.register("things", rest.Things, basename="thing")

    urlpatterns += [
        path("api/", rest.Api.as_view()),
        path("api/open/", rest.OpenApi.as_view()),
        path("api/composed/", rest.ComposedApi.as_view()),
        path("api/negated/", rest.NegatedApi.as_view()),
        path("api/then-session/", rest.ThenSession.as_view()),
        path("api/session-first/", rest.SessionFirst.as_view()),
        path("api/then-basic/", rest.ThenBasic.as_view()),
        path("api/then-bearer/", rest.ThenBearer.as_view()),
        path("api/by-default/", rest.ByDefault.as_view()),
        path("api/function/", rest.function),
        path("api/decorated/", rest.decorated),
        path("api/decorated-outside/", rest.decorated_outside),
        path("api/", include(router.urls)),
    ]
