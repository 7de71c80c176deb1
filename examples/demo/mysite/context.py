"""What every template knows of the site."""

from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.http import HttpRequest

from mysite.doors import DOORS, GROUPS


def site(request: HttpRequest) -> dict[str, Any]:
    """Return the menu, where in it we are, and who plays Clerk here."""
    name = request.resolver_match.url_name if request.resolver_match else None
    # Where the stand-in listens, while run.py plays Clerk; with Clerk itself there is none.
    stand_in: str | None = getattr(settings, "DEMO_STAND_IN", None)
    here = quote(request.build_absolute_uri(), safe="")
    return {
        "doors": DOORS,
        "groups": GROUPS,
        "door": next((door for door in DOORS if door.name == name), None),
        "stand_in": stand_in,
        "other_user_url": stand_in and f"{stand_in}/sign-in?redirect_url={here}",
        "verify_url": stand_in and f"{stand_in}/verify?redirect_url={here}",
        # The stand-in can only pass on Clerk's JavaScript if it was told where the packages are.
        "clerk_js": getattr(settings, "DEMO_CLERK_JS", True),
    }
