"""
The test project for servers in processes of their own. See serving.py, which starts them.

Each answer says by ``X-Process`` which process gave it. With ``CLERK_VIEWS_TEST_WARM_UP`` set to a token, a request is
made while this module is imported, so that keys and connections are there before a server forks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from tests import settings

for name, value in json.loads(os.environ["CLERK_VIEWS_TEST_OVERRIDES"]).items():
    setattr(settings, name, value)

from django.core.wsgi import get_wsgi_application  # noqa: E402  # after the settings are as they should be

_project = get_wsgi_application()


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        return start_response(status, [*headers, ("X-Process", str(os.getpid()))], exc_info)

    return _project(environ, start)


if token := os.environ.get("CLERK_VIEWS_TEST_WARM_UP"):
    from tests.serving import call_wsgi

    answer = call_wsgi(_project, b"/required/", [(b"authorization", f"Bearer {token}".encode())])
    assert answer.status == 200, answer
