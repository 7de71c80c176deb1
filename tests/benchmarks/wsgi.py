"""The application as gunicorn serves it. Set DJANGO_SETTINGS_MODULE and CLERK_VIEWS_BENCH first."""

from __future__ import annotations

from importlib import import_module

from django.core.wsgi import get_wsgi_application

from tests.benchmarks.settings import SERVED

application = get_wsgi_application()
if SERVED is not None:
    import_module("tests.benchmarks.urls").put_first(SERVED)  # it needs Django set up
