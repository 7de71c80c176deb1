"""The addresses of the site."""

from django.contrib import admin
from django.urls import include, path

from clerk_views import pages
from mysite import views

admin.site.site_header = "clerk-views demo"

urlpatterns = [
    path("", views.home, name="home"),
    path("required/", views.required, name="required"),
    path("async/", views.asynchronous, name="asynchronous"),
    path("class/", views.ClassBased.as_view(), name="class-based"),
    path("members/", views.members, name="members"),
    path("rest/", views.rest, name="rest"),
    path("api/me/", views.Me.as_view(), name="api-me"),
    path("optional/", views.optional, name="optional"),
    path("administration/", views.administration, name="administration"),
    path("invoices/", views.invoices, name="invoices"),
    path("api/invoices/", views.Invoices.as_view(), name="api-invoices"),
    path("orgs/<slug:slug>/", views.organization, name="organization"),
    path("step-up/", views.step_up, name="step-up"),
    path("may/", views.may, name="may"),
    path("whoami/", views.whoami, name="whoami"),
    path("clerk/", include("clerk_views.urls")),
    # Staff come in by way of Clerk, as LOGIN_URL says, and so leave by it. Who is staff, Django's database says.
    path("admin/logout/", pages.sign_out),
    path("admin/", admin.site.urls),
]
