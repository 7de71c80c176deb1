"""The doors the site shows: what the pages say of each, in the order of the menu."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Door:
    """
    One way to put Clerk in front of a view.

    Attributes:
        name: The URL name of its page.
        view: The URL name of the view whose source is shown.
        code: The one line that makes the difference.
        imports: What the source needs from the library.
        is_open: Whether strangers may enter.
    """

    name: str
    view: str
    title: str
    code: str
    imports: str
    text: str
    is_open: bool = False


DOORS = (
    Door(
        "required",
        "required",
        "Function view",
        "@clerk_required",
        "from clerk_views import clerk_required",
        "One decorator. Browsers are led to sign in and come back to this very page; programs get a 401.",
    ),
    Door(
        "asynchronous",
        "asynchronous",
        "Async view",
        "@clerk_required",
        "from clerk_views import clerk_required",
        "The same decorator on async def. A token is checked in memory, without leaving the event loop.",
    ),
    Door(
        "class-based",
        "class-based",
        "Class-based view",
        "ClerkLoginRequiredMixin",
        "from clerk_views.mixins import ClerkLoginRequiredMixin",
        "A mixin, first among the bases. It stands before every method of the view, sync or async.",
    ),
    Door(
        "members",
        "members",
        "Django’s own tools",
        "@login_required",
        "# in MIDDLEWARE: clerk_views.middleware.ClerkMiddleware",
        "With ClerkMiddleware the whole site knows request.user, so what Django brings works unchanged, its admin too.",
    ),
    Door(
        "rest",
        "api-me",
        "REST framework",
        "IsClerkAuthenticated",
        "from clerk_views import get_clerk\nfrom clerk_views.drf import ClerkAuthentication, IsClerkAuthenticated",
        "An authentication class and a permission, which compose with those you have. Bearer token or cookie.",
    ),
    Door(
        "optional",
        "optional",
        "Open to anyone",
        "@clerk_optional",
        "from clerk_views import clerk_optional, get_clerk",
        "Nobody is turned away, and the view is told who is there. Strangers are welcome.",
        is_open=True,
    ),
    Door(
        "whoami",
        "whoami",
        "Who am I?",
        "request.clerk",
        "from clerk_views import clerk_optional, get_clerk",
        "All that a view knows of its visitor: what Clerk says, whom Django sees, and what the token claims.",
        is_open=True,
    ),
)
