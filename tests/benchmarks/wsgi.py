"""The application as gunicorn serves it. Set DJANGO_SETTINGS_MODULE and CLERK_VIEWS_BENCH first."""

from __future__ import annotations

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
