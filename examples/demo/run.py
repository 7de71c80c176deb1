"""
Run the demo: a small Django site behind Clerk, and a stand-in for Clerk on this machine.

    python3 examples/demo/run.py                   until Ctrl-C
    python3 examples/demo/run.py --production      with keys, cookies and handshakes as in production
    python3 examples/demo/run.py --packages DIR    with Clerk's own JavaScript, which npm put into DIR
    python3 examples/demo/run.py --check           visit every door, print what was seen, and stop

It needs Python 3.11 and git, and sets up the rest itself, in .venv at the root of the clone. With CLERK_SECRET_KEY and
CLERK_PUBLISHABLE_KEY in the environment the site uses Clerk itself instead of the stand-in.

Until the environment is ready only the standard library is at hand; so what needs more is imported where it is used.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvicorn

    from clerk_views.testing import LocalClerk

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

HOST = "127.0.0.1"
PORT = 8000  # of the site; the stand-in's follows. If taken, the next free one.

#: Whose absence means that there is something to install.
MODULES = ("clerk_backend_api", "clerk_views", "cryptography", "django", "httpx", "jwt", "rest_framework", "uvicorn")

#: Where Clerk's two packages for browsers lie below the folder that npm filled.
SCRIPTS = ("clerk-js/dist/clerk.browser.js", "ui/dist/ui.browser.js")

#: What the check goes through: whether the keys are those of a production instance.
KINDS = (False, True)

# Their ids stay, so that they are the same Django users after the next start.
USERS: tuple[dict[str, Any], ...] = (
    {"id": "user_ada", "username": "ada", "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
    {
        "id": "user_grace",
        "username": "grace",
        "first_name": "Grace",
        "last_name": "Hopper",
        "email": "grace@example.com",
    },
    {"id": "user_katherine", "first_name": "Katherine", "last_name": "Johnson", "email": "katherine@example.com"},
    {"id": "user_alan", "username": "alan", "first_name": "Alan", "last_name": "Turing"},
    {"id": "user_mallory", "first_name": "Mallory", "email": "mallory@example.com", "banned": True},
)
STAFF = "user_grace"

#: Organisations: what a role may do there, and who has it.
ROLES = {"org:admin": ("org:invoices:read", "org:invoices:create"), "org:member": ("org:invoices:read",)}
MEMBERS: dict[str, dict[str, str]] = {
    "Acme": {"user_grace": "org:admin", "user_ada": "org:member"},
    "Globex": {"user_katherine": "org:admin"},
}


def main() -> None:
    """Prepare the environment, then serve or check."""
    parser = argparse.ArgumentParser(description="Run the clerk-views demo.")
    parser.add_argument("--check", action="store_true", help="visit every door, print what was seen, and stop")
    parser.add_argument(
        "--port", type=int, default=PORT, help="where to serve (default: %(default)s, or the next free)"
    )
    parser.add_argument(
        "--production", action="store_true", help="play a production instance; the check plays both kinds anyway"
    )
    parser.add_argument(
        "--packages", type=packages, metavar="DIR", help="where 'npm install @clerk/clerk-js@6 @clerk/ui@1' was run"
    )
    parser.add_argument("--no-venv", action="store_true", help="use the running Python as it is; install nothing")
    options = parser.parse_args()
    if not options.no_venv:
        if sys.version_info < (3, 11):  # noqa: UP036  # read by whatever "python3" is
            sys.exit(f"The demo needs Python 3.11 or later; this is {sys.version.split()[0]}.")
        prepare()
        hand_over()
    sys.path[:0] = [str(ROOT)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was opened is closed
    try:
        if options.check:
            sys.exit(check(options.packages))
        sys.exit(serve(options.port, options.production, options.packages))
    except KeyboardInterrupt:
        print("\nStopped.")


def packages(folder: str) -> Path:
    """Return the folder with Clerk's packages, for argparse."""
    path = Path(folder).resolve()
    missing = [name for name in SCRIPTS if not (path / "node_modules/@clerk" / name).is_file()]
    if missing:
        raise argparse.ArgumentTypeError(
            f"there is no node_modules/@clerk/{missing[0]} in {folder}; run npm install @clerk/clerk-js@6 @clerk/ui@1 "
            "there first"
        )
    return path


def prepare() -> None:
    """Have an environment with the library and what the demo needs. Does nothing if that is so already."""
    if not starts("sys.version_info >= (3, 11)"):
        say(f"Creating {ENVIRONMENT} ...")
        make_environment()
    if is_ready():
        return
    say("Installing Django, Clerk's SDK and a web server into .venv; only the first start takes this long ...")
    if not starts("find_spec('pip')") and run(PYTHON, "-m", "ensurepip", stdout=subprocess.DEVNULL):
        make_environment()
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir")
    if run(PYTHON, *install, "--editable", f"{ROOT}[drf]", "uvicorn>=0.34"):
        sys.exit("That did not work; pip says why above. Nothing was changed outside the clone: simply try again.")
    (ENVIRONMENT / "demo-ready").touch()


def make_environment() -> None:
    """Create the environment, in place of a broken one."""
    if run(sys.executable, "-m", "venv", "--clear", ENVIRONMENT):
        sys.exit("Python could not create a virtual environment. On Debian and Ubuntu: apt install python3-venv")


def is_ready() -> bool:
    """Whether all is installed, from this clone, and since its dependencies last changed."""
    stamps = [ENVIRONMENT / "demo-ready", ENVIRONMENT / "ready"]  # the other one is that of tests/run
    changed = (ROOT / "pyproject.toml").stat().st_mtime
    return any(stamp.exists() and stamp.stat().st_mtime >= changed for stamp in stamps) and starts(
        f"all(map(find_spec, {MODULES!r})) and find_spec('clerk_views').origin.startswith({str(ROOT)!r})"
    )


def starts(question: str) -> bool:
    """Whether the environment's Python runs, and the expression is true there."""
    program = f"import sys; from importlib.util import find_spec; sys.exit(not ({question}))"
    return PYTHON.exists() and run(PYTHON, "-I", "-c", program, stderr=subprocess.DEVNULL) == 0


def run(*command: str | Path, **options: Any) -> int:
    """Run a program to its end; return its exit code, or 127 if there is no such program."""
    try:
        return subprocess.run(command, cwd=ROOT, check=False, **options).returncode  # noqa: S603  # ours, no shell
    except OSError:
        return 127


def hand_over() -> None:
    """Go on in the environment's Python."""
    command = [str(PYTHON), str(Path(__file__).resolve()), "--no-venv", *sys.argv[1:]]
    if os.name == "nt":  # there, exec would not keep the terminal
        sys.exit(subprocess.call(command))  # noqa: S603  # our own interpreter
    os.execv(command[0], command)  # noqa: S606  # our own interpreter


def serve(port: int, production: bool, scripts: Path | None) -> int:
    """Serve until Ctrl-C."""
    keys = [name for name in ("CLERK_SECRET_KEY", "CLERK_PUBLISHABLE_KEY") if os.environ.get(name)]
    # Two files, so that the stand-in's people never mix with real ones.
    database = HERE / ("clerk.sqlite3" if len(keys) == 2 else "stand-in.sqlite3")
    with ExitStack() as stack:
        site = stack.enter_context(listen(port))
        port = site.getsockname()[1]
        if len(keys) == 2:
            prepare_site(port, database, {})
            who = "whoever has an account at your Clerk instance"
            where = "Clerk itself, with the keys in the environment"
        else:
            clerk = stack.enter_context(stand_in(port, port + 1, production=production, scripts=scripts))
            prepare_site(port, database, stand_in_settings(clerk))
            add_staff()
            names = [f"{user['first_name']} {user.get('last_name', '')}".strip() for user in USERS[:-1]]
            who = ", ".join(names) + " (no passwords; Grace may enter /admin/)"
            kind = "production" if production else "development"
            where = f"a stand-in at {clerk.url} with {kind} keys: no account, no network"
            if keys:
                other = ({"CLERK_SECRET_KEY", "CLERK_PUBLISHABLE_KEY"} - {*keys}).pop()
                where += f"\n                 (for Clerk itself set {other} too, not only {keys[0]})"
        say("")
        say(f"  Open           http://{HOST}:{port}/")
        say(f"  Who signs in   {who}")
        say(f"  Clerk          {where}")
        say(f"  Database       {os.path.relpath(database)}")
        say("  Stop           Ctrl-C")
        say("")
        web_server().run(sockets=[site])
    return 0


def check(scripts: Path | None) -> int:
    """Visit every door with a fresh database, with keys of both kinds; return 0 if all is as it should be, else 1."""
    from check import report, walk  # needs httpx

    rows = []
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="check-", dir=HERE))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for production in KINDS:
            with ExitStack() as world:
                site = world.enter_context(listen(0))
                port = site.getsockname()[1]
                clerk = world.enter_context(stand_in(port, 0, production=production, scripts=scripts))
                # Without leeway nobody has to wait long for a token to expire.
                settings = stand_in_settings(clerk) | {"CLERK_CLOCK_SKEW_IN_MS": 0}
                prepare_site(port, folder / "check.sqlite3", settings)
                add_staff()
                logging.disable(logging.WARNING)  # many will be refused, and the table says so
                rows += walk(web_server(), site, clerk)
    return report(rows)


@contextmanager
def listen(port: int) -> Iterator[socket.socket]:
    """Open the first free port from this one on (0: any), on this machine alone."""
    with socket.socket() as opened:
        if os.name != "nt":  # there, it would mean taking a port from somebody else
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for candidate in range(port, port + 50):
            try:
                opened.bind((HOST, candidate))
                opened.listen(100)
            except OSError:
                continue
            break
        else:
            sys.exit(f"No free port from {port} to {port + 49}; try another --port.")
        yield opened


@contextmanager
def stand_in(
    site_port: int, port: int, *, production: bool = False, scripts: Path | None = None
) -> Iterator[LocalClerk]:
    """Run the stand-in, with our users, on the first free port from ``port`` on (0: any)."""
    from clerk_views.testing import LocalClerk

    origins = [f"http://{host}:{site_port}" for host in (HOST, "localhost")]
    for candidate in range(port, port + 50):
        clerk = LocalClerk(port=candidate, parties=origins, production=production, packages=scripts)
        try:
            clerk.start()
        except OSError:
            continue
        break
    else:
        sys.exit(f"No free port from {port} to {port + 49}; try another --port.")
    try:
        populate(clerk)
        yield clerk
    finally:
        clerk.stop()


def populate(clerk: LocalClerk) -> None:
    """Add the users and where they belong."""
    for user in USERS:
        clerk.add_user(**user)
    for name, members in MEMBERS.items():
        organization = clerk.add_organization(
            name=name, id=f"org_{name.lower()}", roles=ROLES, features=("invoices", "reports")
        )
        for user_id, role in members.items():
            clerk.add_member(organization, user_id, role)
    clerk.set_plan("user_katherine", "pro")


def stand_in_settings(clerk: LocalClerk) -> dict[str, Any]:
    """Return what settings.py does not know: the stand-in exists only while this program runs."""
    return clerk.settings(DEMO_STAND_IN=clerk.url, DEMO_CLERK_JS=clerk.packages is not None)


def prepare_site(port: int, database: Path, settings: dict[str, Any]) -> None:
    """Load the site with these settings laid over its own, and bring its database up to date."""
    import django
    from django.core.management import call_command
    from django.test import override_settings

    os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
    os.environ["DEMO_DATABASE"] = str(database)
    os.environ["DEMO_PORT"] = str(port)
    django.setup()
    override_settings(**settings).enable()
    call_command("migrate", verbosity=0, interactive=False)


def add_staff() -> None:
    """
    Let one of the stand-in's users into Django's admin.

    Clerk never grants that; a project does it in its own database. The library finds the row by Clerk's id.
    """
    from django.contrib.auth.hashers import make_password

    from clerk_views.users.models import ClerkUser

    nobody_knows_it = make_password(None)
    rights = {"is_staff": True, "is_superuser": True}
    ClerkUser.objects.get_or_create(
        clerk_user_id=STAFF, defaults={"username": "grace", "password": nobody_knows_it, **rights}
    )


def web_server() -> uvicorn.Server:
    """Return a web server for the site, static files included."""
    import uvicorn
    from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
    from mysite.asgi import application

    return uvicorn.Server(
        uvicorn.Config(
            ASGIStaticFilesHandler(application),
            lifespan="off",
            log_level="warning",  # its list of requests would show what Clerk puts into addresses
            timeout_graceful_shutdown=1,
        )
    )


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
