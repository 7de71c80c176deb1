"""The addresses of the site."""

from django.contrib import admin
from django.urls import path

from clerk_views import clerk_required
from mysite import views

# Staff come in by way of Clerk, too. Who is staff, Django's database says.
admin.site.login = clerk_required(admin.site.login)  # type: ignore[method-assign]  # as Django's documentation does

urlpatterns = [
    path("", views.home, name="home"),
    path("required/", views.required, name="required"),
    path("async/", views.asynchronous, name="asynchronous"),
    path("class/", views.ClassBased.as_view(), name="class-based"),
    path("members/", views.members, name="members"),
    path("rest/", views.rest, name="rest"),
    path("api/me/", views.Me.as_view(), name="api-me"),
    path("optional/", views.optional, name="optional"),
    path("whoami/", views.whoami, name="whoami"),
    path("login/", views.login, name="login"),
    path("clerk/", views.clerk, name="clerk"),
    path("admin/", admin.site.urls),
]
