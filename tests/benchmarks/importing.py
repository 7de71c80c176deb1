"""What ``import clerk_views`` adds to the start of a project that has Django's own parts loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Any

from tests.benchmarks.measuring import quartiles
from tests.benchmarks.worker import ROOT

#: What every project imports on its way to the first request, whoever protects its views.
_PROJECT = """
import time
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"])
django.setup()
import django.contrib.auth.middleware, django.core.handlers.wsgi, django.core.handlers.asgi, django.core.management
import django.shortcuts, django.template.loader, django.urls, django.views.generic, django.views.decorators.csrf
before = time.process_time()
import clerk_views
print((time.process_time() - before) * 1000)
"""
TIMES = 15


def measure() -> dict[str, Any]:
    """Return the quartiles of the milliseconds of CPU time, over fresh processes that find everything compiled."""
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        costs = [_import(environment) for _ in range(TIMES + 1)][1:]  # the first one compiles
    return {"name": "import clerk_views", "ms": quartiles(costs), "at_most": 40}


def _import(environment: dict[str, str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _PROJECT],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return float(done.stdout)
