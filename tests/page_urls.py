"""A site whose visitors sign in through ``clerk_views.urls``, Django's admin included."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.decorators import login_required, permission_required
from django.urls import include, path
from django.views.generic import TemplateView

from clerk_views import pages
from tests import views

urlpatterns = [
    path("clerk/", include("clerk_views.urls")),
    path("admin/login/", pages.sign_in),
    path("admin/logout/", pages.sign_out),
    path("admin/", admin.site.urls),
    path("login/", login_required(views.answer)),
    path("login/class/", views.LoginRequired.as_view()),
    path("permission/", permission_required("auth.add_user")(views.answer)),
    path("page/", TemplateView.as_view(template_name="page.html")),
    path("plain/", views.plain),
    path("required/", views.required),
    path("required/<path:rest>", lambda request, rest: views.required(request)),
]
