"""The demo in examples/demo: what its ``--check`` sees, and that its project is in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[1] / "examples" / "demo"

pytest.importorskip("rest_framework")
pytest.importorskip("uvicorn")


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of the demo's programs with the Python that runs the tests."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=DEMO,
        env={key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def manage(*command: str) -> subprocess.CompletedProcess[str]:
    """Run ``manage.py`` with keys in the environment, as with Clerk itself. They are made up; nobody is called."""
    return run(
        "manage.py",
        *command,
        CLERK_SECRET_KEY="sk_test_0123456789abcdefghijklmnopqrstuvwxyzABCD",
        CLERK_PUBLISHABLE_KEY="pk_test_Zm9vLWJhci0xMy5jbGVyay5hY2NvdW50cy5kZXYk",
        DEMO_DATABASE=":memory:",
    )


def test_every_door_is_as_it_should_be() -> None:
    before = sorted(DEMO.iterdir())
    done = run("run.py", "--no-venv", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["keys", "door", "who", "expected", "seen", "ok"]
    doors = {tuple(re.split(" {2,}", line)[:2]) for line in lines[2:-1]}
    expected = {"Function view", "Async view", "REST framework", "Admin", "Role", "Permission", "Step-up", "Sign-out"}
    for keys in ("development", "production"):
        assert {door for kind, door in doors if kind == keys} >= expected
    assert all(line.endswith("  ok") for line in lines[2:-1])
    assert lines[-1].endswith("as they should be.")
    assert [path for path in sorted(DEMO.iterdir()) if path.name != "__pycache__"] == [
        path for path in before if path.name != "__pycache__"
    ]


def test_the_check_says_what_is_wrong() -> None:
    # Everybody in Acme is an admin there, and one kind of keys is enough to see it.
    program = (
        "import sys; sys.path.insert(0, '.'); import run; run.KINDS = (True,); "
        "run.MEMBERS['Acme']['user_ada'] = 'org:admin'; sys.argv[1:] = ['--no-venv', '--check']; run.main()"
    )
    done = run("-c", program)
    assert done.returncode == 1, done.stdout + done.stderr
    wrong = "WRONG  Role, Ada · Acme, production keys: expected 403 This door stays closed; saw 200 Hello, ada"
    assert wrong in done.stdout


def test_packages_that_are_not_there_are_named(tmp_path: Path) -> None:
    done = run("run.py", "--no-venv", "--packages", str(tmp_path))
    assert done.returncode == 2
    assert "there is no node_modules/@clerk/clerk-js/dist/clerk.browser.js in" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("check", "--fail-level", "WARNING"), id="check"),
        pytest.param(("makemigrations", "--check", "--dry-run"), id="migrations"),
    ],
)
def test_the_project_is_in_order(command: tuple[str, ...]) -> None:
    done = manage(*command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_with_real_keys_the_pages_load_clerks_script() -> None:
    done = manage(
        "shell",
        "--no-imports",
        "-c",
        "from django.test import Client; "
        "browser = Client(headers={'host': '127.0.0.1:8000', 'accept': 'text/html'}); "
        "browser.cookies['__clerk_db_jwt'] = 'dvb_1'; "
        "print(browser.get('/optional/').content.decode())",
    )
    assert done.returncode == 0, done.stderr
    assert 'src="https://foo-bar-13.clerk.accounts.dev/npm/@clerk/clerk-js@6/dist/clerk.browser.js"' in done.stdout
    assert 'data-clerk-publishable-key="pk_test_Zm9vLWJhci0xMy5jbGVyay5hY2NvdW50cy5kZXYk"' in done.stdout
    assert "sk_test_" not in done.stdout
