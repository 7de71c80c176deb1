"""SECURITY.md and the tests speak of the same threats; and the few that are nobody else's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from clerk_views.testing import LocalClerk
from tests.doors import FEW, REQUIRED, Door, door_id

ROOT = Path(__file__).resolve().parents[1]
ID = r"\b(?:SRC|TOK|KEY|CAC|USR|LFC|CSR|MWR|CTX|LOG|DOS|CFG|RED|F)-[0-9]{2}\b"


def test_every_threat_has_a_test_and_every_test_its_threat() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    listed = set(re.findall(rf"^\| ({ID[2:-2]}) \|", text, re.MULTILINE))
    later = set(re.findall(ID, text[text.index("No feature yet") :]))
    sources = [
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py") if path.name != Path(__file__).name
    ]
    own = Path(__file__).read_text(encoding="utf-8")
    cited = set(re.findall(ID, "\n".join(sources))) | set(re.findall(rf'"""({ID[2:-2]})', own))
    # A range such as "USR-01 to USR-05" cites all that lie in it.
    for family, first, last in re.findall(
        r"\b([A-Z]{1,3})-([0-9]{2}) to (?:[A-Z]{1,3}-)?([0-9]{2})", "\n".join(sources)
    ):
        cited |= {f"{family}-{number:02}" for number in range(int(first), int(last) + 1)}
    assert len(listed) > 100
    assert listed - cited == set()
    assert cited - listed - later == set()


@pytest.mark.django_db
@pytest.mark.parametrize("door", REQUIRED, ids=door_id)
def test_answers_do_not_tell_which_accounts_exist(local_clerk: LocalClerk, door: Door) -> None:
    """USR-13: without a verified token the answer is the same for everybody."""
    known = local_clerk.add_user(email="ada@example.com")
    assert door.send(f"Bearer {local_clerk.token(known)}").status_code == 200
    answers = set()
    for user_id in (known.id, "user_nobody"):
        forged = local_clerk.token(user_id)[:-8] + "AAAAAAAA"
        response = door.send(f"Bearer {forged}")
        answers.add((response.status_code, response.content))
    assert len(answers) == 1


@pytest.mark.django_db
@pytest.mark.parametrize("door", FEW, ids=door_id)
def test_metadata_gives_no_rights(local_clerk: LocalClerk, door: Door) -> None:
    """USR-14: neither what the user may write himself nor what the application wrote at Clerk."""
    rights: dict[str, Any] = {"is_staff": True, "is_superuser": True, "role": "admin", "groups": [1], "is_active": True}
    user = local_clerk.add_user(
        email="ada@example.com", unsafe_metadata=rights, public_metadata=rights, private_metadata=rights
    )
    assert door.verdict(door.send(f"Bearer {local_clerk.token(user, **rights)}")) == user.id
    for row in get_user_model().objects.all():
        assert (row.is_staff, row.is_superuser, row.groups.count()) == (False, False, 0)
