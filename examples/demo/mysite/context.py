"""What every template knows of the site."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from clerk_views.conf import config
from mysite.doors import DOORS


def site(request: HttpRequest) -> dict[str, Any]:
    """Return the menu, where in it we are, and how signing out works here."""
    name = request.resolver_match.url_name if request.resolver_match else None
    # The address of the stand-in's sign-out form, while run.py plays Clerk; with Clerk itself there is none.
    sign_out_url = getattr(settings, "DEMO_SIGN_OUT_URL", None)
    return {
        "doors": DOORS,
        "door": next((door for door in DOORS if door.name == name), None),
        "sign_out_url": sign_out_url,
        # Clerk's JavaScript keeps the session cookie fresh and signs out. The stand-in has none, and needs none.
        "clerk_js": None if sign_out_url else config().publishable_key,
    }
