"""
What Clerk says about a user becomes a Django user: found, linked or created, and kept in step.

One Clerk id, one Django user. Every step stands on what the database promises (unique columns, conditional updates),
as two first sign-ins at once, a late webhook and a slow answer of the API may all write about the same user.
"""

from __future__ import annotations

import hashlib
import logging
import random
import string
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.contrib.auth import get_user_model
from django.db import DataError, Error, IntegrityError, OperationalError, connections, models, router, transaction
from django.db.models.functions import Lower
from django.utils import timezone

from clerk_views import signals
from clerk_views.columns import Columns, stand_in_email, unique_name, wanted_name
from clerk_views.conf import Config
from clerk_views.exceptions import AccountRefused, ClerkUnavailable, UserNotFound
from clerk_views.models import ClerkAccount
from clerk_views.profiles import DELETED, Profile

logger = logging.getLogger("clerk_views")

CONFLICT_TRIES = 4
LOCK_RETRIES = 2
LOCK_PATIENCE = 1.0  # seconds, for all retries together

User = Any  # a row of the project's own user model
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def sync_profile(profile: Profile, config: Config, *, sender: type | None = None) -> User:
    """
    Return the Django user of this Clerk user, in step with the profile unless newer news was there already.

    Sends ``clerk_user_linked`` and ``clerk_user_synced``.

    Raises:
        AccountRefused: There is a Django user of this e-mail address who must not be linked.
            Or a token is of a user who was deleted at Clerk before he was ever seen here.
        UserNotFound: The profile says that the user was deleted, and there is no Django user of this id.
        ClerkUnavailable: The database does not write.
    """
    outcome = write_profile(profile, config)
    tell(outcome, profile, sender)
    return outcome.user


def write_profile(profile: Profile, config: Config, *, stranger: bool = False) -> Outcome:
    """
    Do what sync_profile() does but for the signals, and say what came of it. Raises the same errors.

    Args:
        stranger: By find_strangers(), a moment ago: nobody here has the e-mail address.
    """
    try:
        return _write(profile, config, get_user_model(), stranger)
    except Error as error:
        logger.error(
            "Clerk user %.100r could not be written: %s. If a column is to blame, map or unmap it in "
            "CLERK_USER_FIELDS; if a table is missing, run 'manage.py migrate'.",
            profile.id,
            described(error),
        )
        raise ClerkUnavailable("database-unavailable") from None  # the cause may quote the user's data


def rank_of(moment: int, text: bytes | None) -> int:
    """
    Return what orders news of the same change, whatever the order in which it arrives.

    Args:
        moment: When Clerk had it to tell, in milliseconds.
        text: The news itself, which decides where that is the same, too. None: Clerk was asked, and says what is later
            than any message of that moment.
    """
    return (moment << 21) | (2**21 - 1 if text is None else int.from_bytes(hashlib.sha256(text).digest()[:3]) >> 3)


def find_strangers(profiles: Sequence[Profile], config: Config) -> set[str]:
    """
    Return the Clerk ids of those whose e-mail address no Django user has, and no other of them.

    One query, where each would need one; and the table of users is rarely indexed for it. Who is not among them is
    looked up with all care.
    """
    field = Columns(get_user_model(), config).email
    addresses = Counter(_ascii_lower(profile.verified_email or "") for profile in profiles)
    if field is None:
        return {profile.id for profile in profiles}
    users = get_user_model()._base_manager.using(router.db_for_write(get_user_model()))
    spellings = addresses.keys() | {address.lower() for address in addresses}  # as databases differ in what is lower
    taken = users.annotate(_clerk_address=Lower(field.name)).filter(_clerk_address__in=spellings)
    found = {_ascii_lower(address) for address in taken.values_list(field.name, flat=True)}
    return {
        profile.id
        for profile in profiles
        if (address := _ascii_lower(profile.verified_email or "")) not in found and addresses[address] == 1
    }


def tell(outcome: Outcome, profile: Profile, sender: type | None = None) -> None:
    """Send the signals about what write_profile() did."""
    sender = sender or get_user_model()
    if outcome.linked:
        signals.clerk_user_linked.send_robust(sender, user=outcome.user, clerk_user=profile.source)
    if outcome.applied:
        signals.clerk_user_synced.send_robust(
            sender, user=outcome.user, clerk_user=profile.source, created=outcome.created
        )


def described(error: Error) -> str:
    """Describe a database error for the log; where its text quotes values of the row, its kind must do."""
    kind = type(error).__name__
    return kind if isinstance(error, (IntegrityError, DataError)) else f"{kind}: {error!s:.200}"


def _write(profile: Profile, config: Config, model: type[models.Model], stranger: bool) -> Outcome:
    """Write, and try again where that helps: after somebody else was first, or while he holds the lock (F-17, F-18)."""
    started = time.monotonic()
    conflicts = waits = 0
    while True:
        attempt = _Attempt(profile, Columns(model, config), config, model, conflicts, stranger and not conflicts)
        try:
            return attempt.run()
        except (IntegrityError, DataError, ClerkAccount.DoesNotExist):
            conflicts += 1
            if conflicts == CONFLICT_TRIES:
                raise
        except OperationalError:
            waits += 1
            pause = random.uniform(0.02, 0.2)  # noqa: S311  # so that two rivals do not meet again
            # MariaDB ends a deadlock by undoing the whole transaction, our caller's with it: nothing to try again in.
            undone = connections[attempt.db].needs_rollback
            if undone or waits > LOCK_RETRIES or time.monotonic() + pause - started > LOCK_PATIENCE:
                raise
            time.sleep(pause)


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What came of it.

    Attributes:
        applied: The profile was not older than what was there.
        changed: A column of the user was written.
        deactivated: He was active before, and is not now.
    """

    user: User
    created: bool = False
    linked: bool = False
    applied: bool = True
    changed: bool = False
    deactivated: bool = False


class _Attempt:
    """
    One attempt at writing a profile, whole or not at all.

    Inside somebody else's transaction it is a savepoint, so that the outer one survives a conflict. The first
    statement of the transaction writes: SQLite cannot turn a reader into a writer while somebody else writes.

    Args:
        stranger: Nobody here has the e-mail address, as far as is known.
        conflicts: How many attempts failed. At the last but one the user name is made of Clerk's id, as others may be
            after the same name at this moment. At the last one only what makes the link is written: some column of the
            project's own cannot be filled as Clerk says, and nobody shall stay outside for that.
    """

    def __init__(
        self,
        profile: Profile,
        columns: Columns,
        config: Config,
        model: type[models.Model],
        conflicts: int,
        stranger: bool,
    ) -> None:
        self.profile = profile
        self.columns = columns
        self.config = config
        self.db = router.db_for_write(model)
        self.model = model
        self.users: models.QuerySet[Any] = model._default_manager.using(self.db)
        self.everybody: models.QuerySet[Any] = model._base_manager.using(self.db)
        self.accounts = ClerkAccount.objects.using(self.db)
        self.again = conflicts > 0
        self.nameless = conflicts >= CONFLICT_TRIES - 2
        self.cautious = conflicts == CONFLICT_TRIES - 1
        self.stranger = stranger
        self.rank = rank_of(int(time.time() * 1000), None) if profile.rank is None else profile.rank

    def run(self) -> Outcome:
        account = self.find_account()
        if account is not None and account.user_id is not None:
            with transaction.atomic(using=self.db):
                return self.update(account)
        if account is not None and self.profile.deleted:
            raise UserNotFound
        if account is not None and self.profile.issued_at is not None:
            raise AccountRefused("user-not-found", "the Clerk user was deleted")  # his tokens outlive him by a minute
        adopted = self.find_adoptable()
        if adopted is None and self.profile.deleted:
            self.bury()
            raise UserNotFound
        user = adopted or self.find_by_email()
        with transaction.atomic(using=self.db):
            account = self.take(account)
            if user is None:
                return self.create(account)
            return self.link(user, account, by_email=adopted is None)

    def find_account(self) -> ClerkAccount | None:
        accounts = self.accounts.filter(clerk_id=self.profile.id)
        if self.again and connections[self.db].in_atomic_block:
            # A transaction that shows the database as it was at its start shows a rival's row to a locking read alone.
            accounts = accounts.select_for_update()
        return next((account for account in accounts if account.clerk_id == self.profile.id), None)

    @property
    def is_final(self) -> bool:
        """Whether Clerk reports a deletion. That it knows nobody at this moment may be the wrong instance's word."""
        return self.profile.deleted and self.profile.updated_at == DELETED

    def bury(self) -> None:
        """Remember of somebody who is unknown here that Clerk has deleted him, so that no late news lets him in."""
        if not self.is_final:
            return
        with transaction.atomic(using=self.db):
            self.accounts.create(clerk_id=self.profile.id, synced_at=timezone.now(), deleted=True, deactivated=True)

    def take(self, account: ClerkAccount | None) -> ClerkAccount:
        """
        Return an account that is ours to give a user: a new one, or that of somebody who was deleted unseen.

        Before all else, and without the user: from here on SQLite lets nobody else write, so what is looked up later
        still holds when it is used. Had it been looked up first, SQLite would refuse to write at once (F-17).
        """
        told = {
            "synced_at": timezone.now(),
            "clerk_updated_at": self.profile.updated_at,
            "claims_issued_at": self.profile.issued_at,
            "news_rank": self.rank,
        }
        if account is None:
            return self.accounts.create(clerk_id=self.profile.id, **told)
        if not self.accounts.filter(pk=account.pk, user=None).update(**told):
            raise ClerkAccount.DoesNotExist  # a rival's late news was first, or somebody has set him free
        return account

    def find_adoptable(self) -> User | None:
        """Find the user who carries Clerk's id in a column of the project's own."""
        field = self.columns.clerk_id
        if field is None:
            return None
        carriers = self.users.filter(**{field.name: self.profile.id})
        users = [user for user in carriers if getattr(user, field.name) == self.profile.id]
        if len(users) > 1 or any(self.is_linked_elsewhere(user) for user in users):
            raise self.link_refused("users who carry the id are several, or linked to another id")
        return users[0] if users else None

    def find_by_email(self) -> User | None:
        """Find the one user of the verified primary address (USR-01 to USR-05)."""
        field, email = self.columns.email, self.profile.verified_email
        if field is None or email is None or self.stranger or not self.config.link_by_email:
            return None
        # The query only proposes: databases differ in which letters they take for the same (USR-02).
        if connections[self.db].features.supports_expression_indexes:
            # Not "iexact", which no index serves on SQLite, and on PostgreSQL one on UPPER alone. Measured with 100 000
            # users: 0.1 ms with an index on Lower(), as ClerkUser and auth.User have one, 10 to 30 ms without.
            candidates = self.users.alias(clerk_address=Lower(field.name)).filter(
                clerk_address=Lower(models.Value(email))
            )
        else:  # MariaDB, whose columns compare so themselves, and have plain indexes for it
            candidates = self.users.filter(**{f"{field.name}__iexact": email})
        users = [user for user in candidates if _same_email(getattr(user, field.name), email)]
        if not users:
            return None
        if len(users) > 1:
            raise self.link_refused("several users have the address")
        if self.is_linked_elsewhere(users[0]) or self.carries_other_id(users[0]):
            raise self.link_refused("the user of the address belongs to another Clerk user")
        return users[0]

    def is_linked_elsewhere(self, user: User) -> bool:
        return self.accounts.filter(user=user).exclude(clerk_id=self.profile.id).exists()

    def carries_other_id(self, user: User) -> bool:
        field = self.columns.clerk_id
        return field is not None and getattr(user, field.name) not in (None, "", self.profile.id)

    def link_refused(self, why: str) -> AccountRefused:
        logger.warning("Clerk user %.100r was not linked: %s.", self.profile.id, why)
        return AccountRefused("link-refused", why)

    def link(self, user: User, account: ClerkAccount, *, by_email: bool) -> Outcome:
        account.user, account.linked = user, True
        account.save(using=self.db, update_fields=["user", "linked"])
        if by_email:
            # Looked at again under lock: he may have become staff, or another's, a moment ago.
            user = self.everybody.select_for_update().get(pk=user.pk)
            privileged = any(getattr(user, flag, False) for flag in ("is_staff", "is_superuser", "is_admin"))
            if privileged or not user.is_active or self.carries_other_id(user):
                raise self.link_refused("the user of the address is inactive or privileged")
            # Whoever registered the address here first need not own it: his password and sessions end (USR-10).
            user.set_unusable_password()
            user.save(using=self.db, update_fields=["password"])
        done = self.update(account)
        return replace(done, linked=True)

    def update(self, account: ClerkAccount) -> Outcome:
        applied = self.claim(account)
        # Read after the row is ours: what was read before may be older than a rival's write.
        user = self.lock(account)
        account = user.clerk_account
        if not self.again and not self.users.filter(pk=user.pk).exists():
            raise AccountRefused("user-inactive", "the user model's default manager hides the user")
        if not applied:
            return Outcome(user, applied=False)
        values = self.values(user)
        name = None if account.linked else self.followed_name(user)
        if name is not None:
            values.update(name)
        was_deactivated = account.deactivated
        changed = self.save_changes(user, account, values)
        return Outcome(user, changed=changed, deactivated=account.deactivated and not was_deactivated)

    def lock(self, account: ClerkAccount) -> User:
        """Read the user and the account as they are now, and keep others from writing to them."""
        rows = self.everybody.select_for_update().select_related("clerk_account").filter(clerk_account__pk=account.pk)
        for user in rows:
            return user
        raise ClerkAccount.DoesNotExist

    def claim(self, account: ClerkAccount) -> bool:
        """
        Note the sync, and say whether the profile is at least as new as the last one (USR-12).

        Claims are old as soon as Clerk tells of a change after their token was issued, or a younger token came by. They
        hold no news of Clerk's back themselves: when a token was issued says nothing of when its user changed. Of the
        deleted they say nothing, as tokens outlive their users by a minute.

        A deletion is noted apart, so that what is told of the user is the same whether it came before or after.
        """
        accounts = self.accounts.filter(pk=account.pk)
        now = timezone.now()
        noted: dict[str, Any] = {"synced_at": now}
        not_newer = models.Q()
        if self.is_final:
            noted["deleted"] = True
        elif self.profile.issued_at is not None:
            noted["claims_issued_at"] = self.profile.issued_at
            not_newer = _unknown_or_until("clerk_updated_at", self.profile.issued_at) & models.Q(deleted=False)
            not_newer &= _unknown_or_until("claims_issued_at", self.profile.issued_at)
        elif self.profile.updated_at is not None:
            noted.update(clerk_updated_at=self.profile.updated_at, news_rank=self.rank)
            # Of two pieces of news about the same change the later counts.
            earlier = ~models.Q(clerk_updated_at=self.profile.updated_at) | _unknown_or_until("news_rank", self.rank)
            not_newer = _unknown_or_until("clerk_updated_at", self.profile.updated_at) & earlier
        if accounts.filter(not_newer).update(**noted):
            return True
        accounts.update(synced_at=now)
        return False

    def values(self, user: User) -> dict[str, Any]:
        if self.cautious or self.profile.deleted:
            return {}
        values = self.columns.values(self.profile)
        field = self.columns.email
        if field is not None and field.unique and field.name in values:
            email = values[field.name]
            if email and email != getattr(user, field.name):
                others = self.everybody.exclude(pk=user.pk)
                if others.filter(**{field.name: email}).exists():
                    # Clerk may have given the address on, and we have not heard of the other user's change (USR-11).
                    logger.warning("Clerk user %.100r has an e-mail address that is another user's.", self.profile.id)
                    del values[field.name]
        return values

    def followed_name(self, user: User) -> dict[str, str] | None:
        field = self.columns.username
        wanted, explicit = wanted_name(self.profile)
        if field is None or not explicit or self.nameless:
            return None
        current = getattr(user, field.name)
        if current == wanted[: field.max_length]:
            return None
        others = self.everybody.exclude(pk=user.pk)
        return {field.name: unique_name(field, wanted, self.profile.id, others, current=current)}

    def create(self, account: ClerkAccount) -> Outcome:
        user: User = self.model()
        values = self.values(user)
        name_field = self.columns.username or self.columns.login
        if name_field is not None and name_field is not self.columns.email and name_field.name not in values:
            wanted = "" if self.nameless else wanted_name(self.profile)[0]
            values[name_field.name] = unique_name(name_field, wanted, self.profile.id, self.everybody)
        email_field = self.columns.email
        if email_field is not None and email_field.unique and not email_field.null:
            values.setdefault(email_field.name, stand_in_email(self.profile.id))
        if self.columns.clerk_id is not None:
            values[self.columns.clerk_id.name] = self.profile.id
        for name, value in values.items():
            setattr(user, name, value)
        user.set_unusable_password()
        self.follow_bans(user, account)
        user.save(using=self.db)
        account.user = user
        account.save(using=self.db, update_fields=["user", "deactivated"])
        return Outcome(user, created=True)

    def save_changes(self, user: User, account: ClerkAccount, values: dict[str, Any]) -> bool:
        was_deactivated = account.deactivated
        changed = [name for name, value in values.items() if getattr(user, name) != value]
        for name in changed:
            setattr(user, name, values[name])
        if self.follow_bans(user, account):
            changed.append("is_active")
        if changed:
            user.save(using=self.db, update_fields=changed)
        if account.deactivated != was_deactivated:
            account.save(using=self.db, update_fields=["deactivated"])
        return bool(changed)

    def follow_bans(self, user: User, account: ClerkAccount) -> bool:
        """
        Deactivate the banned and the deleted, and take back what was done here but nothing else (USR-07).

        A user whom an administrator has locked was not deactivated here, so Clerk's word does not unlock him.
        Returns whether ``is_active`` changed.
        """
        barred = self.profile.barred or account.deleted
        if not barred and not (self.profile.banned is False and account.deactivated):
            return False
        if not self.columns.has_is_active:
            account.deactivated = barred
            return False
        if barred and not user.is_active:
            return False
        account.deactivated = barred
        changed: bool = user.is_active == barred
        user.is_active = not barred
        return changed


def _unknown_or_until(column: str, time: int) -> models.Q:
    return models.Q(**{column: None}) | models.Q(**{f"{column}__lte": time})


def _same_email(one: str, other: str) -> bool:
    """Compare as mailboxes are compared at least: ASCII letters without case, and not one letter more."""
    return _ascii_lower(one) == _ascii_lower(other)


def _ascii_lower(text: str) -> str:
    return text.translate(_ASCII_LOWER)
