"""
How is a request called that has ``request.clerk``? For annotations alone; the request is Django's own.

::

    @clerk_required
    def report(request: ClerkHttpRequest) -> HttpResponse:
        return HttpResponse(request.clerk.user_id)

Without annotations nobody needs this. ``get_clerk(request)`` is typed for any request, REST framework's too.
"""

from __future__ import annotations

from django.http import HttpRequest

from clerk_views.auth import ClerkAuth


class ClerkHttpRequest(HttpRequest):
    """
    An HttpRequest as views behind the doors and behind ClerkMiddleware get it. No request is an instance of it.

    Attributes:
        clerk: Who is calling. Always an object, signed in or not.
    """

    clerk: ClerkAuth
