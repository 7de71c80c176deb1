"""What ``import clerk_views`` adds to the start of a project that has Django's own parts loaded."""

from __future__ import annotations

import json
import subprocess
import sys
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
    """Return the quartiles of the milliseconds of CPU time, over fresh processes."""
    costs = []
    for _ in range(TIMES):
        done = subprocess.run(
            [sys.executable, "-c", _PROJECT], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
        )
        costs.append(json.loads(done.stdout))
    return {"name": "import clerk_views", "ms": quartiles(costs), "at_most": 40}
