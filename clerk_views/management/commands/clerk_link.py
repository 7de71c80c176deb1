"""``manage.py clerk_link``: say which Clerk user a Django user is. The way for staff, whom no e-mail address links."""

from __future__ import annotations

from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import router, transaction

from clerk_views.api import get_api
from clerk_views.calls import Budget
from clerk_views.columns import Columns
from clerk_views.conf import Config, config
from clerk_views.exceptions import AccountRefused, ClerkUnavailable, UserNotFound
from clerk_views.models import ClerkAccount
from clerk_views.profiles import Profile, read_profile
from clerk_views.sync import Outcome, tell, write_profile


class Command(BaseCommand):
    """Ask Clerk whether there is such a user, then write the link."""

    help = (
        "Links a Django user to a Clerk user, so that whoever signs in at Clerk as the one is the other here, with all "
        "privileges. The password stays as it is."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="The Django user: name or primary key.")
        parser.add_argument("clerk_id", help="The Clerk user: user_...")
        parser.add_argument(
            "--force",
            action="store_true",
            help="Even if one of the two is linked already. Those links end; the Django user of the other one stays.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        settings = config()
        profile = self.ask(options["clerk_id"], settings)
        database = router.db_for_write(get_user_model())
        try:
            with transaction.atomic(using=database):
                user = _find(options["user"], database)
                self.make_room(user, profile, settings, database, force=options["force"])
                outcome = _link(user, profile, settings, database)
        except (AccountRefused, UserNotFound) as error:
            raise CommandError(f"Not linked: {error.detail}.") from error
        except ClerkUnavailable as error:
            raise CommandError(f"Not linked: {error.reason}; the log says more.") from error
        tell(outcome, profile)
        self.stdout.write(self.style.SUCCESS(f"{_named(outcome.user)} is {profile.id} from now on."))

    def ask(self, clerk_id: str, settings: Config) -> Profile:
        try:
            profile = read_profile(get_api(settings).get_user(clerk_id, Budget(settings.timeout)))
        except UserNotFound:
            raise CommandError(f"There is no user {clerk_id!r:.100} at Clerk.") from None
        except ClerkUnavailable as error:
            raise CommandError(f"Clerk cannot be asked for this user: {error}.") from error
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        if profile.barred:
            raise CommandError(f"{profile.id} is banned at Clerk, and the link would lock the Django user out.")
        return profile

    def make_room(self, user: Any, profile: Profile, settings: Config, database: str, *, force: bool) -> None:
        """Take links away that are in the way, if that is wanted."""
        accounts = ClerkAccount.objects.using(database).select_for_update()
        for account in accounts.filter(user=user).exclude(clerk_id=profile.id):
            self.end(account, f"{_named(user)} is linked to {account.clerk_id} already", force=force)
        for account in accounts.filter(clerk_id=profile.id).exclude(user=user):
            other = "a user who was deleted" if account.user_id is None else _named(account.user)
            self.end(account, f"{profile.id} is linked to {other} already", force=force)
        field = Columns(get_user_model(), settings).clerk_id
        if field is None:
            return
        carriers = get_user_model()._base_manager.using(database).filter(**{field.name: profile.id}).exclude(pk=user.pk)
        for carrier in carriers:
            if not force or not (field.null or not field.unique):
                raise CommandError(f"{profile.id} stands in {field.name} of {_named(carrier)}. Clear it there first.")
            setattr(carrier, field.name, None if field.null else "")
            carrier.save(using=database, update_fields=[field.name])

    def end(self, account: ClerkAccount, why: str, *, force: bool) -> None:
        if not force:
            raise CommandError(f"{why}. With --force that link ends.")
        self.stdout.write(self.style.WARNING(f"{why}; that link ends."))
        account.delete()


def _find(text: str, database: str) -> Any:
    """Return the user of this name or primary key; a name that is another's key is nobody's."""
    model = get_user_model()
    users = model._base_manager.using(database)
    found = list(users.filter(**{model.USERNAME_FIELD: text}))
    with suppress(ValidationError):  # no key looks like this
        found += users.filter(pk=model._meta.pk.to_python(text)).exclude(pk__in=[user.pk for user in found])
    if not found:
        raise CommandError(f"There is no Django user with the name or primary key {text!r:.100}.")
    if len(found) > 1:
        raise CommandError(f"{text!r:.100} is the name of one Django user and the primary key of another.")
    return users.select_for_update().get(pk=found[0].pk)


def _link(user: Any, profile: Profile, settings: Config, database: str) -> Outcome:
    field = Columns(get_user_model(), settings).clerk_id
    if field is not None and getattr(user, field.name) != profile.id:
        setattr(user, field.name, profile.id)
        user.save(using=database, update_fields=[field.name])
    ClerkAccount.objects.using(database).update_or_create(clerk_id=profile.id, defaults={"user": user, "linked": True})
    return write_profile(profile, settings)


def _named(user: Any) -> str:
    role = (
        " (superuser)" if getattr(user, "is_superuser", False) else " (staff)" if getattr(user, "is_staff", 0) else ""
    )
    return f"{user.get_username()!r}{role}"
