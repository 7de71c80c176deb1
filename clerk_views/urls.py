"""``path("clerk/", include("clerk_views.urls"))``: views that a project links to by name, ``clerk_views:sign-in``."""

from django.urls import path

from clerk_views import pages, webhooks

app_name = "clerk_views"

urlpatterns = [
    path("sign-in/", pages.sign_in, name="sign-in"),
    path("sign-up/", pages.sign_up, name="sign-up"),
    path("sign-out/", pages.sign_out, name="sign-out"),
    path("webhook/", webhooks.webhook, name="webhook"),
]
