"""
What happened, for whoever wants to listen.

All are sent with ``send_robust``: a receiver that raises changes nothing. The sender is the class of the request
where there is one, else the user model. ``token_hash`` is the SHA-256 hex digest of the token, None without one.
"""

from __future__ import annotations

from django.dispatch import Signal

# A request was authenticated and its Django user loaded. Once per request.
# Sends: user, source ("cache": no call to Clerk was needed, "api": one was), auth (ClerkAuth), request.
clerk_auth_success = Signal()

# A presented credential was refused, or its account was. Not sent for a request that brought none. Once per request.
# Sends: reason (kebab-case code), token_hash, request.
clerk_auth_failed = Signal()

# A token was not known to this process and had to be verified.
# Sends: token_hash, request.
clerk_cache_miss = Signal()

# A Clerk user was written to, or compared with, its Django user.
# Sends: user, clerk_user (what Clerk's API, a webhook or the claims said), created (bool).
clerk_user_synced = Signal()

# An existing Django user was linked to a Clerk user by verified e-mail, or adopted by its own clerk_user_id.
# Sends: user, clerk_user.
clerk_user_linked = Signal()

# An event that Clerk sent to our webhook, of any type, after what it meant for users is stored. Once per message.
# Sends: event_type (text such as "user.created"), data (what the event is about, as Clerk sent it), event_id (the
# message's id, the same on every delivery).
clerk_webhook_received = Signal()
