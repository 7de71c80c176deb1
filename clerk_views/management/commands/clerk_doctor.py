"""``manage.py clerk_doctor``: ask Clerk, the cache and the database whether all is well."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from clerk_views.diagnosis import Finding, examine


class Command(BaseCommand):
    """Show the findings of an examination; fail if one is an error."""

    help = "Asks Clerk, the cache and the database whether all is well, and says what to do where it is not."
    requires_system_checks = []  # they are part of the examination

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Write a list of objects, for programs.")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = []
        for finding in examine():
            findings.append(finding)
            if not options["json"]:
                self.show(finding)
        if options["json"]:
            self.stdout.write(json.dumps([finding.as_dict() for finding in findings], indent=2))
        errors = [finding.name for finding in findings if finding.verdict == "error"]
        if errors:
            raise CommandError(f"Not well: {', '.join(dict.fromkeys(errors))}.")

    def show(self, finding: Finding) -> None:
        colours = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "error": self.style.ERROR}
        colour = colours.get(finding.verdict, str)
        self.stdout.write(f"{colour(f'{finding.verdict:7}')}  {finding.name}: {finding.detail}")
        if finding.advice:
            self.stdout.write(f"         → {finding.advice}")
