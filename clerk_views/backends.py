"""
``ClerkBackend``: Django's own questions about permissions, answered from the current request's token.

::

    AUTHENTICATION_BACKENDS = ["clerk_views.backends.ClerkBackend", "django.contrib.auth.backends.ModelBackend"]

Then ``user.has_perm("org:invoices:create")``, ``permission_required``, ``PermissionRequiredMixin`` and ``{{ perms }}``
know the permissions of Clerk's active organisation. Model permissions stay with the backend beside it.

In an async view ask ``await user.ahas_perm(...)``, or use ``permission_required``, which does so. Django's questions
without ``await`` go through all backends until one grants, and ModelBackend reads the database for its answer, which
Django forbids on an event loop (``SynchronousOnlyOperation``). With ClerkBackend first in the list what it grants is
answered before; what it does not grant still raises. So does ``PermissionRequiredMixin`` on async views, which asks
without ``await``; there take ``ClerkLoginRequiredMixin`` and its ``clerk_permission``.

Sessions are the other backend's, wherever this one stands: ``client.force_login(user)`` of Django's test clients takes
the first backend that has a ``get_user``, and ``login(request, user)`` wants to be told which one it is.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import BaseBackend

from clerk_views.visitors import auth_of_user

#: Clerk's permissions start so; ``org:`` alone stands for all of them, as an app label does for a model's.
PREFIX = "org:"


class ClerkBackend(BaseBackend):
    """
    Signs nobody in; says what a user whom Clerk has signed in may do in his active organisation.

    It answers for the very object that is ``request.user``, as long as its request lasts. Any other object of the same
    user, loaded from the database or kept from an earlier request, has none of these permissions: a token speaks for
    one request.
    """

    @property
    def get_user(self) -> Any:
        """
        Nothing: no session is this backend's. Django takes the first that has one for whom it logs in by force.

        Raises:
            AttributeError: Always, so that ``hasattr`` says no.
        """
        raise AttributeError(
            "ClerkBackend has no get_user, as it signs nobody in. A session names it as its backend all the same: "
            "give login() the backend that the session belongs to, "
            'for example backend="django.contrib.auth.backends.ModelBackend".'
        )

    def get_user_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """Return the permissions, each as ``org:<feature>:<name>``; none for a single object, as in ModelBackend."""
        auth = auth_of_user(user_obj) if obj is None and user_obj.is_active else None
        return set() if auth is None else set(auth.org_permissions)

    async def aget_user_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """See get_user_permissions()."""
        return self.get_user_permissions(user_obj, obj)

    async def aget_group_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """Return none, as get_group_permissions() does."""
        return set()

    async def aget_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """See get_all_permissions()."""
        return self.get_all_permissions(user_obj, obj)

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        """Whether the user has this permission, which starts with ``org:``; of others nothing is known here."""
        if obj is not None or not user_obj.is_active or not perm.startswith(PREFIX):
            return False
        auth = auth_of_user(user_obj)
        return auth is not None and auth.has(permission=perm)

    async def ahas_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        """See has_perm()."""
        return self.has_perm(user_obj, perm, obj)

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        """
        Whether the user has any permission of a feature (``org:invoices``), or any at all (``org``).

        A template's ``"org:invoices:create" in perms`` asks here as well, so a permission's full name is understood.
        """
        if app_label.count(":") > 1:
            return self.has_perm(user_obj, app_label)
        permissions = self.get_user_permissions(user_obj)
        return any(permission.startswith(f"{app_label}:") for permission in permissions)

    async def ahas_module_perms(self, user_obj: Any, app_label: str) -> bool:
        """See has_module_perms()."""
        return self.has_module_perms(user_obj, app_label)
