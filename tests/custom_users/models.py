"""The models. One at a time is the user model: ``CLERK_VIEWS_TEST_USER=custom_users.BareUser`` and so on."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.db import models


class BareUser(AbstractBaseUser):
    """A UUID for a key, a short name to sign in with, and nothing else: no address, no ``is_active``."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    handle = models.CharField(max_length=20, unique=True)

    objects: ClassVar[BaseUserManager[Any]] = BaseUserManager()

    USERNAME_FIELD = "handle"


class EmailUser(AbstractBaseUser):
    """People sign in with their address, which is unique and must be there."""

    email = models.EmailField(unique=True)
    is_active = models.BooleanField(default=True)
    clerk_user_id = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001  # as such projects have it

    objects: ClassVar[BaseUserManager[Any]] = BaseUserManager()

    USERNAME_FIELD = "email"


class PresentUsers(BaseUserManager[Any]):
    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().filter(removed=False)


class FullUser(AbstractUser):
    """Columns of many types under other names, relations, a unique address, and users who are hidden when removed."""

    email = models.EmailField(unique=True, null=True)  # type: ignore[assignment]  # noqa: DJ001  # as such projects have it
    clerk_user_id = models.CharField(max_length=255, unique=True, null=True, blank=True)
    image = models.URLField(max_length=40, blank=True)
    last_active_at = models.DateTimeField(null=True)
    given_name = models.CharField(max_length=5)
    employee_number = models.IntegerField(null=True)
    metadata = models.JSONField(default=dict)
    manager = models.ForeignKey("self", models.SET_NULL, null=True)
    removed = models.BooleanField(default=False)

    objects: ClassVar[PresentUsers] = PresentUsers()  # type: ignore[assignment]  # narrower than Django's own


class Shelf(models.TextField):  # type: ignore[type-arg]  # generic in the stubs alone
    """A tuple in Python, text with commas in the database."""

    def from_db_value(self, value: str, *context: Any) -> tuple[str, ...]:
        return tuple(value.split(","))

    def get_prep_value(self, value: tuple[str, ...]) -> str:
        return ",".join(value)


class Person(models.Model):
    """Somebody of whom the project knew before it had users."""

    name = models.CharField(max_length=20, blank=True)
    born = models.DateTimeField(null=True)
    books = Shelf(default=())

    def __str__(self) -> str:
        return self.name


class Members(models.QuerySet[Any]):
    def named(self, name: str) -> models.QuerySet[Any]:
        return self.filter(name=name)


class MemberUser(Person, AbstractBaseUser):
    """A user in two tables, read by a manager that can do more than Django's own, and does nothing else otherwise."""

    handle = models.CharField(max_length=20, unique=True)
    balance = models.DecimalField(max_digits=9, decimal_places=2, default=0)
    shared = models.JSONField(default=dict)

    objects: ClassVar[Any] = BaseUserManager.from_queryset(Members)()

    USERNAME_FIELD = "handle"
