"""
``manage.py clerk_sync`` in a process of its own, as an operator runs it; in the end it says what memory it took.

Reads from its standard input, as JSON: ``settings``, those of LocalClerk; ``database``, the name; ``page``, how many
users one has. The last line of its output is JSON again: ``first``, the most memory it had held after three pages, and
``most``, in the end, both in MB, and None where the system does not say; ``held``, the most users that were in memory
at the end of one of the first PAGES pages, each as Clerk's answer and as what is made of it.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

PAGES = 20  # are enough to see whether users are kept; the memory tells of the others


def most_memory() -> float | None:
    """Return the most memory that this process has held so far, in MB; None where Linux does not say."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1]) / 1024


def main() -> None:
    asked = json.load(sys.stdin)
    # Programs that a script has put into the background are born deaf to this one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from tests import settings

    for name, value in asked["settings"].items():
        setattr(settings, name, value)
    settings.DATABASES["default"]["NAME"] = asked["database"]
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"

    import django
    from django.core.management import execute_from_command_line

    django.setup()

    from clerk_views import full_sync
    from clerk_views.payloads import ClerkObject
    from clerk_views.profiles import Profile
    from clerk_views.signals import clerk_user_synced

    full_sync.PAGE = asked["page"]
    first: list[float | None] = []
    held: list[int] = []
    seen = itertools.count(1)

    def count(**sent: Any) -> None:
        pages, further = divmod(next(seen), full_sync.PAGE)
        if not further and pages <= PAGES:
            # Not after gc.collect(): an interruption would come up in a finaliser it runs, where Python drops it.
            held.append(sum(isinstance(thing, ClerkObject | Profile) for thing in gc.get_objects()))
            if pages == 3:
                first.append(most_memory())

    clerk_user_synced.connect(count)
    try:
        execute_from_command_line(["manage.py", "clerk_sync"])
    finally:
        told = {"first": first[0] if first else None, "most": most_memory(), "held": max(held, default=0)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
