"""
LocalClerk: Clerk's Backend API, its Frontend API and a sign-in page, on a port of this machine.

Real HTTP, real RSA signatures, so the library under test is used exactly as in production, only with other settings.
It is for development and tests: whoever reaches it may sign in as anybody. It therefore listens on 127.0.0.1 and
offers no way to listen elsewhere, refuses requests that were addressed to any other host, and no module and no
setting of the library starts it.

Who it is, with the settings that point at it, stands in instance.py; what it can do, below, and each part of it in a
file of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from django.utils.text import slugify

from clerk_views.testing import packages as npm
from clerk_views.testing import pictures
from clerk_views.testing.backend import BackendApi
from clerk_views.testing.calls import Calls
from clerk_views.testing.clients import Clients
from clerk_views.testing.directory import Directory, LocalUser, id_of, now_ms, user_body
from clerk_views.testing.entitlements import slugs_of
from clerk_views.testing.faults import Faults
from clerk_views.testing.frontend import FrontendApi
from clerk_views.testing.handshakes import Handshakes
from clerk_views.testing.instance import Instance
from clerk_views.testing.listener import Exchange, Listener
from clerk_views.testing.machines import LocalMachine, Machines
from clerk_views.testing.minting import SigningKey, new_id
from clerk_views.testing.organizations import LocalMembership, LocalOrganization, Organizations, Subscription
from clerk_views.testing.places import HOST
from clerk_views.testing.sessions import LocalSession, Sessions
from clerk_views.testing.sign_in import SignInPages
from clerk_views.testing.tokens import SessionTokens, words_of
from clerk_views.testing.webhooks import LocalWebhook, WebhookAnswer, webhook_message

if TYPE_CHECKING:
    from django.test import AsyncClient, Client


class LocalClerk(Instance):
    """
    A local stand-in for one Clerk instance.

    Its names, keys, ``settings()`` and ``rotate_keys()`` are those of Instance.

    Use it as a context manager, or with ``start()`` and ``stop()``. After ``stop()`` it can be started again and
    keeps its port.

    Args:
        port: 0 for any free port.
        session_lifetime: Seconds that the tokens of a browser's session live, 60 at Clerk. clerk-js and the handshake
            renew them; an application with neither wants longer ones. Short ones make tests of renewal quick.
        parties: Origins for ``CLERK_AUTH_PARTIES``; the first one is the default ``azp`` of tokens. None for those
            of Django's test client and development server.
        secret_key: None for a fresh one.
        production: Whether the keys are those of a production instance, ``pk_live_…`` and ``sk_live_…``. Browsers then
            get ``__client_uat`` and the outcome of a handshake by cookies of this host name, and there are no
            development browsers.
        packages: Where ``npm install @clerk/clerk-js @clerk/ui`` was run, for pages that load these from here as from
            Clerk. None: their addresses answer 404.
        host: ``127.0.0.1`` or ``localhost``, as the application under test is called in the browser: cookies that are
            set for one name are not sent to the other. With a production key also ``clerk.`` and the domain of the
            application, as in ``clerk.example.test`` beside ``app.example.test``: ``__client_uat`` and the outcome of
            a handshake then are cookies of that domain, as at Clerk. The domain must be under ``.test`` or
            ``.localhost``; that the browser finds these names on this machine is for its settings to say.

    Raises:
        ValueError: For another host, or a domain with development keys.

    Attributes:
        secret_key: What requests must present; may be changed at any time.
        webhook_secret: What webhooks are signed with, ``whsec_…``.
        instance_id: The instance's id, ``ins_…``; the key id of the first signing key.
        signing_key: The SigningKey that signs tokens now.
        faults: What shall go wrong; see Faults.
        calls: What was asked; see Calls.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        session_lifetime: float = 60,
        parties: Sequence[str] | None = None,
        secret_key: str | None = None,
        production: bool = False,
        packages: Path | str | None = None,
        host: str = HOST,
    ) -> None:
        super().__init__(host=host, port=port, parties=parties, secret_key=secret_key, production=production)
        self.session_lifetime = session_lifetime
        self.packages = None if packages is None else Path(packages)
        self.faults = Faults()
        self.calls = Calls()
        self._server: Listener | None = None
        self._directory = Directory()
        self._organizations = Organizations()
        self._sessions = Sessions()
        self._machines = Machines(self)
        self._tokens = SessionTokens(self, self._organizations, self._sessions)
        self._clients = Clients(self, self._directory, self._sessions, self._browser_token)
        self._handshakes = Handshakes(self, self._clients, self._organizations, self._browser_token)
        self._frontend = FrontendApi(
            self, self._directory, self._organizations, self._sessions, self._clients, self._browser_token
        )
        self._backend = BackendApi(
            self, self._directory, self._organizations, self._sessions, self._handshakes, self._machines
        )
        self._pages = SignInPages(self, self._clients, self._directory, self._organizations)

    def __repr__(self) -> str:
        return f"<LocalClerk on port {self._port}{'' if self._server else ', stopped'}>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Listen. Raises OSError if the port is taken."""
        if self._server is None:
            self._server = Listener(self._port, self._handle, self.calls)
            self._port = self._server.server_port
            self._server.begin()
        return self

    def stop(self) -> None:
        """Close the port and every connection, without waiting for answers that are under way."""
        if self._server is not None:
            self._server.end()
            self._server = None

    def reset(self) -> None:
        """
        Become another, empty instance on the same port: fresh secret key, instance id and signing key; no users, no
        organisations, no sessions, no faults, no calls. Connections are closed.
        """
        if self._server is not None:
            self._server.hang_up()
        self.faults.clear()
        self._directory.clear()
        self._organizations.clear()
        self._sessions.clear()
        self._machines.clear()
        self._clients.clear()
        self._handshakes.clear()
        self._backend.clear()
        self._renew()
        self.calls.reset()

    def add_user(
        self,
        *,
        email: str | None = None,
        username: str | None = None,
        first_name: str | None = None,
        last_name: str | None = None,
        verified: bool | str | None = True,
        email_addresses: Iterable[str | Mapping[str, Any]] = (),
        id: str | None = None,
        **fields: Any,
    ) -> LocalUser:
        """
        Add a user.

        Args:
            email: The primary address; None for none.
            verified: Whether the primary address is; or the status of its verification ("expired", "failed", …), or
                None for an address without any.
            email_addresses: Further addresses: text for a verified one, or an entry of the body as it should stand.
            id: None for a fresh one.
            fields: Any other member of Clerk's User, such as ``banned=True``, ``locked=True``, ``image_url=…`` or
                ``updated_at=…`` (milliseconds), sent as it is. Left out, ``image_url`` is a picture from here, or empty
                as long as there is no port.

        Raises:
            ValueError: If the id is taken.
        """
        id = id or new_id("user")
        picture = self._picture_url(id)
        body = user_body(
            id=id,
            email=email,
            verified=verified,
            email_addresses=email_addresses,
            username=username,
            first_name=first_name,
            last_name=last_name,
            **{"image_url": picture, "profile_image_url": picture, **fields},
        )
        return self._directory.add(body)

    def update_user(self, user: LocalUser | str, **fields: Any) -> LocalUser:
        """
        Change members of a user's body; ``email=`` and ``verified=`` give a new primary address.

        ``updated_at`` rises, unless it is among the fields. Banning a user revokes all sessions, as at Clerk.
        Raises LookupError if there is no such user.
        """
        updated = self._directory.update(user, fields)
        if fields.get("banned"):
            for session in self._sessions.of_user(updated.id):
                session.revoke()
        return updated

    def delete_user(self, user: LocalUser | str) -> None:
        """
        Delete a user, with all memberships and sessions: the API answers 404 from now on.

        Raises LookupError if there is no such user.
        """
        self._directory.remove(user)
        self._organizations.forget_user(id_of(user))
        for session in self._sessions.of_user(id_of(user)):
            session.remove()

    def add_organization(
        self,
        *,
        name: str,
        slug: str | None = None,
        id: str | None = None,
        roles: Mapping[str, Iterable[str]] | None = None,
        features: Iterable[str] = (),
        plans: Iterable[str] = (),
    ) -> LocalOrganization:
        """
        Add an organisation.

        Args:
            slug: None for one made from the name.
            id: None for a fresh one.
            roles: What each role may do here, as in ``{"org:admin": ["org:invoices:create"]}``; a role that is not
                among them may do nothing.
            features: Slugs of what the organisation may use, without a scope.
            plans: Slugs of what it has subscribed to, without a scope.

        Raises:
            ValueError: If the id or the slug is taken, or a role, permission or slug is none.
        """
        subscription = Subscription(slugs_of(plans), slugs_of(features))
        id = id or new_id("org")
        slug = slug or slugify(name) or id.lower()
        organization = self._organizations.add(LocalOrganization(name, slug, id, roles or {}, self._picture_url(id)))
        self._organizations.subscribe(organization.id, subscription)
        return organization

    def add_member(
        self,
        organization: LocalOrganization | str,
        user: LocalUser | str,
        role: str = "org:member",
        permissions: Iterable[str] | None = None,
    ) -> LocalMembership:
        """
        Make a user a member of an organisation, or give a member another role.

        Args:
            role: ``org:`` may be left out.
            permissions: What this member may do, such as "org:invoices:create"; None for what the role may do.

        Raises:
            LookupError: If there is no such user or organisation.
            ValueError: If the role or a permission is none.
        """
        return self._organizations.join(organization, self._directory.get(user).id, role, permissions)

    def remove_member(self, organization: LocalOrganization | str, user: LocalUser | str) -> None:
        """
        End a membership. Sessions that had the organisation active go on without one.

        Raises LookupError if there is no such membership.
        """
        self._organizations.leave(organization, id_of(user))
        left = self._organizations.get(organization).id
        for session in self._sessions.of_user(id_of(user)):
            if session.organization_id == left:
                session.activate(None)

    def set_plan(self, holder: LocalUser | LocalOrganization | str, *plans: str, features: Iterable[str] = ()) -> None:
        """
        Say what a user or an organisation has subscribed to, in place of what was said before.

        Args:
            holder: Whose plan it is, and with it the scope in tokens.
            plans: Slugs, such as "pro", without a scope; none for an end to all plans.
            features: Slugs of what comes with them, likewise.
        """
        self._organizations.subscribe(id_of(holder), Subscription(slugs_of(plans), slugs_of(features)))

    def open_session(
        self,
        user: LocalUser | str,
        organization: LocalOrganization | str | None = None,
        origin: str | None = None,
        *,
        pending: bool | str = False,
        actor: str | Mapping[str, Any] | None = None,
        second_factor: bool = False,
        client_id: str | None = None,
    ) -> LocalSession:
        """
        Sign a user in, without a browser.

        Args:
            organization: The active one; None for the personal account.
            origin: Of the page that asks, which becomes ``azp``; None for the first of ``parties``.
            pending: Leave a task open: "reset-password", "setup-mfa", or with True to choose an organisation.
            actor: Who impersonates the user: an id, or an ``act`` claim.
            second_factor: Whether the user has proved a second factor too.
            client_id: Of the browser; None for a new one.

        Raises:
            LookupError: If there is no such user, or the user is no member of the organisation.
        """
        user_id = self._directory.get(user).id
        membership = organization and self._organizations.membership(organization, user_id)
        return self._sessions.open(
            user_id,
            organization_id=membership.organization.id if membership else None,
            origin=origin,
            pending=pending,
            actor=actor,
            second_factor=second_factor,
            client_id=client_id,
        )

    def sessions(self, user: LocalUser | str) -> list[LocalSession]:
        """Return the open sessions of a user, oldest first: those of browsers, and those that tests have opened."""
        return self._sessions.of_user(id_of(user))

    def session_token(self, session: LocalSession, /, **claims: Any) -> str:
        """
        Mint the next token of a session: its organisation with the member's rights of now, its factor ages, its actor.

        It is minted for a session that is over as well, since tokens outlive their sessions.

        Args:
            claims: As for token(), laid over what the session says.
        """
        return self.token(session.user_id, **words_of(session, claims))

    def token(
        self,
        user: LocalUser | str,
        /,
        *,
        version: int = 2,
        header: Mapping[str, Any] | None = None,
        expires_in: float = 60,
        issued_at: float | None = None,
        key: SigningKey | None = None,
        organization: LocalOrganization | str | None = None,
        org_id: str | None = None,
        org_slug: str | None = None,
        org_role: str | None = None,
        org_permissions: Iterable[str] | None = None,
        features: Iterable[str] | None = None,
        plans: Iterable[str] | None = None,
        factor_verification_age: Sequence[float] | None = None,
        actor: LocalUser | str | Mapping[str, Any] | None = None,
        pending: bool = False,
        **claims: Any,
    ) -> str:
        """
        Mint a session token for a user, known to the server or not.

        What is named here is written as the token version writes it, ``org_role="org:admin"`` for example as ``o.rol``
        or as ``org_role``. Every other keyword is a claim of that very name, unless it is all but one of these.

        Three layers, each laid over the one before: what the directory knows (the membership in ``organization``, the
        plans and features of organisation and user), what is named here, and the claims.

        Args:
            version: Clerk's token version, 2 or 1.
            header: Members to add to the header or to change; None as a value removes one.
            expires_in: Seconds until it expires; below zero for an expired token.
            issued_at: Unix seconds; None for now.
            key: The key to sign with and to name; None for the current one.
            organization: The active organisation, with the user's role and permissions there. The user must be a
                member, unless ``org_role`` is given.
            org_id: An active organisation that the server need not know. None with one of the next three: an id that
                stays the same until ``reset()``.
            org_slug: None for that of ``organization``, else none.
            org_role: None for that of the membership, else ``org:member``. ``org:`` may be left out.
            org_permissions: Such as "org:invoices:create"; None for those of the membership or, with ``org_role``, for
                what that role may do in ``organization``; else none.
            features: ``org:reports``, ``user:beta`` or ``uo:chat`` for both; without a scope the organisation's where
                one is active, else the user's. None for what organisation and user have subscribed to.
            plans: Likewise.
            factor_verification_age: Minutes since the first and the second factor were proved, -1 for never. None for
                (0, -1).
            actor: Who impersonates the user: a user or an id, or a whole ``act`` claim.
            pending: Whether the session has a task to finish first.
            claims: Claims to add or to change; None as a value removes one. Left out, ``azp`` is the first of
                ``parties``, and tokens of one user share their ``sid``, which is that of the session opened last.

        Raises:
            LookupError: If there is no such organisation, or the user is no member of it.
            TypeError: If a keyword is nearly, but not quite, one of the above.
            ValueError: If a role, permission, feature or plan has no place in Clerk's claims, or if both
                ``organization`` and ``org_id`` are given.
        """
        return self._tokens.mint(
            id_of(user),
            claims,
            version=version,
            header=header,
            expires_in=expires_in,
            issued_at=issued_at,
            key=key,
            organization=organization,
            org_id=org_id,
            org_slug=org_slug,
            org_role=org_role,
            org_permissions=org_permissions,
            features=features,
            plans=plans,
            factor_verification_age=factor_verification_age,
            actor=actor.id if isinstance(actor, LocalUser) else actor,
            pending=pending,
        )

    def add_machine(self, name: str = "machine", *, id: str | None = None) -> LocalMachine:
        """
        Add a machine, as M2M tokens are of.

        Args:
            id: None for a fresh one.

        Raises:
            ValueError: If the id is taken.
        """
        return self._machines.add(LocalMachine(name, id))

    def create_api_key(
        self,
        subject: LocalUser | LocalOrganization | str,
        scopes: Iterable[str] = (),
        *,
        claims: Mapping[str, Any] | None = None,
        expires_in: float | None = None,
        name: str = "key",
    ) -> str:
        """
        Make an API key, and return its secret.

        Args:
            subject: Whose it is, known to the server or not.
            claims: Custom claims.
            expires_in: Seconds; None for never.
        """
        return self._machines.create_api_key(id_of(subject), scopes, claims, expires_in, name)

    def m2m_token(
        self,
        machine: LocalMachine | str,
        scopes: Iterable[str] = (),
        *,
        claims: Mapping[str, Any] | None = None,
        expires_in: float | None = None,
        jwt: bool = False,
        header: Mapping[str, Any] | None = None,
        key: SigningKey | None = None,
    ) -> str:
        """
        Make an M2M token.

        Args:
            machine: Whose it is, known to the server or not.
            claims: Custom claims. Of a JWT also others; None as a value removes one.
            expires_in: Seconds; None for never, of a JWT for an hour.
            jwt: Whether it can be verified without asking. Such a token cannot be revoked.
            header: Of a JWT: members to add to the header or to change; None as a value removes one.
            key: Of a JWT: what to sign with and to name; None for the current one.
        """
        if jwt:
            return self._machines.m2m_jwt(id_of(machine), scopes, claims, expires_in, header, key)
        return self._machines.m2m_token(id_of(machine), scopes, claims, expires_in)

    def oauth_token(
        self,
        user: LocalUser | str,
        scopes: Iterable[str] = (),
        *,
        client_id: str = "client_of_the_stand_in",
        claims: Mapping[str, Any] | None = None,
        expires_in: float | None = None,
        jwt: bool = False,
        header: Mapping[str, Any] | None = None,
        key: SigningKey | None = None,
    ) -> str:
        """
        Make an OAuth access token.

        Args:
            user: For whom the client asks, known to the server or not.
            client_id: Of the client.
            claims: Of a JWT: claims to add or to change; None as a value removes one. Opaque ones have none.
            expires_in: See m2m_token(); likewise the other three.
        """
        if jwt:
            return self._machines.oauth_jwt(id_of(user), scopes, client_id, claims, expires_in, header, key)
        return self._machines.oauth_token(id_of(user), scopes, client_id, expires_in)

    def revoke_machine_token(self, token: str) -> None:
        """Revoke an opaque machine token: Clerk says so from now on. Raises LookupError if there is no such token."""
        self._machines.update(token, {"revoked": True, "revocation_reason": "revoked"})

    def expire_machine_token(self, token: str) -> None:
        """Let an opaque machine token expire now. Raises LookupError if there is no such token."""
        self._machines.update(token, {"expiration": now_ms(), "expired": True})

    def delete_machine_token(self, token: str) -> None:
        """Know an opaque machine token no more: the API answers 404. Raises LookupError if there is no such token."""
        self._machines.remove(token)

    def update_machine_token(self, token: str, **members: Any) -> None:
        """
        Change members of the answer about an opaque machine token, to whatever.

        Raises LookupError if there is no such token.
        """
        self._machines.update(token, members)

    def session_cookies(self, token: str, signed_in_at: float = 1) -> dict[str, str]:
        """
        Return the cookies that clerk-js keeps for a session, by name.

        ``__session`` is the token, ``__client_uat`` the time of the sign-in in Unix seconds, which must not be later
        than the token's ``iat`` (0 means signed out; left out, long ago). With a development key ``__clerk_db_jwt``
        stands for the browser of the token's session, so that a handshake finds it again. Each also with this
        instance's suffix.
        """
        return self._clients.cookies_for(token, signed_in_at)

    def webhook(
        self,
        event_type: str,
        data: LocalUser | LocalSession | Any,
        *,
        id: str | None = None,
        timestamp: float | str | None = None,
        secret: str | None = None,
        **fields: Any,
    ) -> LocalWebhook:
        """
        Make a signed webhook message, to be sent with ``message.send(client)`` or ``message.send(url)``.

        Args:
            event_type: Such as "user.updated".
            data: What it is about: a user or a session as it is now, or what shall stand in the message.
            id: Of the message; None for a fresh one.
            timestamp: Unix seconds, or any text; None for now.
            secret: Another ``whsec_…`` to sign with.
            fields: Members of the envelope to add or to change.
        """
        return webhook_message(
            event_type,
            data,
            secret=secret or self.webhook_secret,
            instance_id=self.instance_id,
            id=id,
            timestamp=timestamp,
            **fields,
        )

    def send_webhook(
        self,
        target: str | Client | AsyncClient,
        event_type: str,
        data: LocalUser | LocalSession | Any,
        *,
        path: str | None = None,
        attempts: int = 1,
        **message: Any,
    ) -> WebhookAnswer:
        """
        Tell a project what has happened, and return its last answer.

        Args:
            target: The address of a running server, over real HTTP; or Django's ``Client`` or ``AsyncClient``.
            path: Where a test client posts to; None for ``clerk_views:webhook``.
            attempts: How often to try until the answer is 2xx, each time with the same message, as Clerk does.
            message: As for webhook().
        """
        made = self.webhook(event_type, data, **message)
        for _ in range(attempts - 1):
            answer = made.send(target, path)
            if answer.is_taken:
                return answer
        return made.send(target, path)

    def respond(
        self,
        path: str,
        body: bytes,
        status: int = 200,
        content_type: str = "application/json",
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        """
        Answer requests for exactly this path of the Backend API, without query, with these bytes, until ``reset()``.
        """
        self._backend.respond(path, body, status, content_type, headers)

    def _picture_url(self, id: str) -> str:
        return f"{self.url}{pictures.PATH}{quote(id, safe='')}" if self._port else ""

    def _browser_token(self, session: LocalSession, origin: str | None = None, **claims: Any) -> str:
        """Mint a session's next token for a browser; ``organization_id`` puts another organisation than the active."""
        if origin is not None:
            claims["azp"] = origin
        if "organization_id" in claims:
            claims["organization"] = claims.pop("organization_id")
        return self.session_token(session, expires_in=self.session_lifetime, **claims)

    def _handle(self, exchange: Exchange) -> None:
        parts = urlsplit(exchange.path)
        path, query = parts.path, parse_qs(parts.query, keep_blank_values=True)
        if not self.places.serves(exchange.host):
            exchange.answer(421, b"LocalClerk serves this machine only.\n", "text/plain")
            return
        for_scripts = self._frontend.knows(path)
        if for_scripts or path.startswith(("/npm/", pictures.PATH)):
            exchange.standing_headers += self._frontend.cors_headers(exchange.headers["Origin"])
        if self.faults.strike(path, exchange):
            return
        if path in ("/v1/client/handshake", "/v1/client/sync"):
            self._handshakes.begin(exchange, query, synced=path == "/v1/client/sync")
        elif path == "/sign-in" and "__clerk_redirect_url" in query:
            self._handshakes.present(exchange, query)
        elif path.startswith("/npm/"):
            script = npm.script(self.packages, path)
            exchange.answer(*(200, script) if script else (404, b""), "text/javascript; charset=utf-8")
        elif path.startswith(pictures.PATH):
            exchange.answer(200, pictures.picture(unquote(path.removeprefix(pictures.PATH))), "image/png")
        elif for_scripts:
            self._frontend.handle(exchange, path, query)
        elif self._backend.knows(path):
            self._backend.handle(exchange, path, parse_qs(parts.query))
        else:
            self._pages.handle(exchange, path, parse_qs(parts.query))
