"""The doors the site shows: what the pages say of each, in the order of the menu."""

from dataclasses import dataclass, field
from itertools import groupby

from django.urls import reverse


@dataclass(frozen=True)
class Door:
    """
    One way to put Clerk in front of a view.

    Attributes:
        name: The URL name of its page.
        view: The URL name of the view whose source is shown.
        short: Its name in the menu.
        code: The one line that makes the difference.
        imports: What the source needs from the library.
        group: The heading it stands under on the first page.
        whom: Whom it lets in.
        is_open: Whether strangers may enter.
        arguments: What the addresses need besides the names.
        template: The template whose source is shown instead of a view's.
    """

    name: str
    view: str
    title: str
    short: str
    code: str
    imports: str
    text: str
    group: str = "Doors"
    whom: str = "asks you to sign in"
    is_open: bool = False
    arguments: dict[str, str] = field(default_factory=dict)
    template: str = ""

    @property
    def url(self) -> str:
        """The address of its page."""
        return reverse(self.name, kwargs=self.arguments)


DOORS = (
    Door(
        "required",
        "required",
        "Function view",
        "Function",
        "@clerk_required",
        "from clerk_views import clerk_required",
        "One decorator. Browsers are led to sign in and come back to this very page; programs get a 401.",
    ),
    Door(
        "asynchronous",
        "asynchronous",
        "Async view",
        "Async",
        "@clerk_required",
        "from clerk_views import clerk_required",
        "The same decorator on async def. A token is checked in memory, without leaving the event loop.",
    ),
    Door(
        "class-based",
        "class-based",
        "Class-based view",
        "Class",
        "ClerkLoginRequiredMixin",
        "from clerk_views.mixins import ClerkLoginRequiredMixin",
        "A mixin, first among the bases. It stands before every method of the view, sync or async.",
    ),
    Door(
        "members",
        "members",
        "Django’s own tools",
        "Django",
        "@login_required",
        "# in MIDDLEWARE: clerk_views.middleware.ClerkMiddleware",
        "With ClerkMiddleware the whole site knows request.user, so what Django brings works unchanged, its admin too.",
    ),
    Door(
        "rest",
        "api-me",
        "REST framework",
        "REST",
        "IsClerkAuthenticated",
        "from clerk_views import get_clerk\nfrom clerk_views.drf import ClerkAuthentication, IsClerkAuthenticated",
        "An authentication class and a permission, which compose with those you have. Bearer token or cookie.",
    ),
    Door(
        "optional",
        "optional",
        "Open to anyone",
        "Open",
        "@clerk_optional",
        "from clerk_views import clerk_optional, get_clerk",
        "Nobody is turned away, and the view is told who is there. Strangers are welcome.",
        whom="open to all",
        is_open=True,
    ),
    Door(
        "administration",
        "administration",
        "A role",
        "Role",
        'role="org:admin"',
        "from clerk_views import clerk_required, get_clerk",
        "Admins of the active organisation only. Members get a 403; strangers are led to sign in, as at every door.",
        group="Organisations",
        whom="for admins",
    ),
    Door(
        "invoices",
        "api-invoices",
        "A permission",
        "Permission",
        'permission="org:invoices:create"',
        "from clerk_views import get_clerk\nfrom clerk_views.drf import ClerkAuthentication, clerk_requires",
        "A REST endpoint that wants a permission in the active organisation. The page is open, the endpoint is not.",
        group="Organisations",
        whom="for who may create invoices",
    ),
    Door(
        "organization",
        "organization",
        "An organisation in the URL",
        "In the URL",
        'organization="slug"',
        "from clerk_views import clerk_required\n# settings: CLERK_ORGANIZATION_PATTERNS = ['/orgs/:slug/']",
        "Its members only. If another organisation is active, a handshake with Clerk makes this one so on the way.",
        group="Organisations",
        whom="for members of Acme",
        arguments={"slug": "acme"},
    ),
    Door(
        "step-up",
        "step-up",
        "Step-up",
        "Step-up",
        'reverification="strict"',
        "from clerk_views import clerk_required",
        "Being signed in is not enough: you must have proved who you are within the last ten minutes.",
        group="A closer look",
        whom="for who proved it lately",
    ),
    Door(
        "may",
        "may",
        "What may I do?",
        "May I?",
        "{% clerk_has %}",
        "",
        "Templates ask the same questions as the doors, to show only what a visitor may use. Hiding protects nothing.",
        group="A closer look",
        whom="open to all",
        is_open=True,
        template="panel.html",
    ),
    Door(
        "whoami",
        "whoami",
        "Who am I?",
        "Who am I?",
        "request.clerk",
        "from clerk_views import clerk_optional, get_clerk",
        "All that a view knows of its visitor: what Clerk says, whom Django sees, and what the token claims.",
        group="A closer look",
        whom="open to all",
        is_open=True,
    ),
)

#: The doors under their headings.
GROUPS = tuple((heading, tuple(doors)) for heading, doors in groupby(DOORS, lambda door: door.group))
