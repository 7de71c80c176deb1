"""
Protect Django views with Clerk.

The everyday names; everything else is imported by module path, as with ``django.contrib.auth``::

    from clerk_views import clerk_required
    from clerk_views.mixins import ClerkLoginRequiredMixin
    from clerk_views.drf import ClerkAuthentication, IsClerkAuthenticated
    from clerk_views.middleware import ClerkMiddleware
"""

from clerk_views.auth import ClerkAuth
from clerk_views.client import ClerkClient, clerk_client
from clerk_views.decorators import clerk_optional, clerk_required
from clerk_views.visitors import aget_clerk, get_clerk

__version__ = "0.1.0"

__all__ = [
    "ClerkAuth",
    "ClerkClient",
    "aget_clerk",
    "clerk_client",
    "clerk_optional",
    "clerk_required",
    "get_clerk",
]
