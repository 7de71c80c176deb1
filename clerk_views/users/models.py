"""The ready-made user model, a column for everything that the sync can bring; and how users are made by hand."""

from __future__ import annotations

from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.core.mail import send_mail
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from clerk_views.models import ClerkIdField


class ClerkUserManager(BaseUserManager["ClerkUser"]):
    """Makes users and superusers; without a password a user can sign in through Clerk alone."""

    use_in_migrations = True

    def create_user(
        self, username: str, email: str | None = None, password: str | None = None, **fields: Any
    ) -> ClerkUser:
        """
        Make a user.

        Raises:
            ValueError: There is no user name.
        """
        if not username:
            raise ValueError("A user needs a user name.")
        user = self.model(username=self.model.normalize_username(username), email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    async def acreate_user(
        self, username: str, email: str | None = None, password: str | None = None, **fields: Any
    ) -> ClerkUser:
        """See create_user()."""
        return await sync_to_async(self.create_user)(username, email, password, **fields)

    def create_superuser(
        self, username: str, email: str | None = None, password: str | None = None, **fields: Any
    ) -> ClerkUser:
        """
        Make a user who may do everything.

        Raises:
            ValueError: There is no user name, or the fields say that he is no superuser.
        """
        for flag in ("is_staff", "is_superuser"):
            if fields.setdefault(flag, True) is not True:
                raise ValueError(f"A superuser has {flag}=True.")
        return self.create_user(username, email, password, **fields)

    async def acreate_superuser(
        self, username: str, email: str | None = None, password: str | None = None, **fields: Any
    ) -> ClerkUser:
        """See create_superuser()."""
        return await sync_to_async(self.create_superuser)(username, email, password, **fields)


class ClerkUser(AbstractBaseUser, PermissionsMixin):
    """
    A Django user whose columns Clerk fills.

    E-mail addresses are unique at Clerk, where they are verified; here they need not be, for our copy of one user may
    be older than that of another to whom the address went meanwhile. Users without a verified address have none.
    """

    clerk_user_id = ClerkIdField(_("Clerk id"), max_length=255, unique=True, null=True, blank=True)
    username = models.CharField(
        _("username"), max_length=255, unique=True, error_messages={"unique": _("A user of this name exists already.")}
    )
    email = models.EmailField(_("email address"), blank=True, db_index=True)
    first_name = models.CharField(_("first name"), max_length=255, blank=True)
    last_name = models.CharField(_("last name"), max_length=255, blank=True)
    image = models.URLField(_("image"), max_length=2048, blank=True)
    last_active_at = models.DateTimeField(_("last active"), null=True, blank=True)
    is_staff = models.BooleanField(
        _("staff status"), default=False, help_text=_("Whether the user may enter this admin site.")
    )
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("Whether the user may come in. Clear this instead of deleting users.")
    )
    date_joined = models.DateTimeField(_("date joined"), default=timezone.now)

    objects: ClassVar[ClerkUserManager] = ClerkUserManager()

    EMAIL_FIELD = "email"
    USERNAME_FIELD = "username"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["email"]

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        # For the search by e-mail at a first sign-in, which does not mind the case. See sync.py.
        indexes: ClassVar[list[models.Index]] = [models.Index(Lower("email"), name="clerk_users_email_lower")]

    def clean(self) -> None:
        """Write the address as ``create_user`` does, and no Clerk id as NULL, of which there may be many."""
        super().clean()
        self.clerk_user_id = self.clerk_user_id or None
        self.email = type(self).objects.normalize_email(self.email)

    def get_full_name(self) -> str:
        """Return first and last name."""
        return f"{self.first_name} {self.last_name}".strip()

    def get_short_name(self) -> str:
        """Return the first name."""
        return self.first_name

    def email_user(self, subject: str, message: str, from_email: str | None = None, **kwargs: Any) -> None:
        """Send the user an e-mail, if there is a verified address to send it to."""
        if self.email:
            send_mail(subject, message, from_email, [self.email], **kwargs)
