"""The sign-in page of the stand-in: plain HTML that needs neither scripts nor the network."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from clerk_views.testing.directory import LocalUser
from clerk_views.testing.organizations import LocalMembership
from clerk_views.testing.sessions import LocalSession

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #656d76; --line: #d8dee4; --card: #fff; --page: #f4f5f7;
  --tint: #6c47ff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --card: #1b1f24;
  --page: #0f1216; --tint: #a391ff; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 2rem 1rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { width: min(26rem, 100%); padding: 2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 1rem; box-shadow: 0 1rem 3rem #0001; }
h1 { margin: 0; font-size: 1.35rem; }
p { margin: .25rem 0 1.25rem; color: var(--soft); }
form { display: grid; gap: .6rem; }
button { display: flex; align-items: center; gap: .9rem; width: 100%; padding: .7rem .9rem; text-align: left;
  color: inherit; font: inherit; background: none; border: 1px solid var(--line); border-radius: .7rem;
  cursor: pointer; }
button:hover:enabled, button:focus-visible { border-color: var(--tint); outline: 2px solid var(--tint); }
button:disabled { opacity: .5; cursor: not-allowed; }
.place { width: auto; margin-left: 3.2rem; padding: .4rem .9rem; font-size: .9rem; }
.badge { flex: none; display: grid; place-items: center; width: 2.3rem; height: 2.3rem; border-radius: 50%;
  background: var(--tint); color: var(--card); font-weight: 600; }
.who { display: grid; min-width: 0; }
.who > * { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
small { color: var(--soft); }
footer { margin-top: 1.5rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .8rem; }
"""


def sign_in_page(
    people: Iterable[tuple[LocalUser, Iterable[LocalMembership]]],
    redirect_url: str | None,
    browser: str = "",
    problem: str = "",
) -> str:
    """
    Return the page on which a visitor chooses who to be.

    The button of a user sends ``user_id``; below it stands one for each membership, which sends ``membership_id`` and
    so asks for a session with that organisation active.

    Args:
        browser: The name of the development browser that is asking, if it has told; it goes with the form.
    """
    choices = (
        "\n".join(_choice(user) + "".join(_place(user, entry) for entry in there) for user, there in people)
        or "<p>Nobody is here yet: <code>add_user()</code> first.</p>"
    )
    return _page(
        "Sign in",
        f"<p>{escape(problem or 'Choose who you want to be.')}</p>"
        f'<form method="post" action="/sign-in">{_hidden("redirect_url", redirect_url)}'
        f"{_hidden('__clerk_db_jwt', browser)}{choices}</form>",
    )


def verification_page(user: LocalUser, session: LocalSession, redirect_url: str | None) -> str:
    """
    Return the page on which a visitor proves once more who he is, or lets the proof that he gave grow old.

    The buttons send ``proof``, "now" or "old".
    """
    first, second = session.factor_ages()
    ages = f"First factor {_ago(first)}" + ("" if second < 0 else f", second factor {_ago(second)}")
    return _page(
        "Verify that it is you",
        f"<p>{escape(user.name)}. {ages}.</p>"
        f'<form method="post" action="/verify">{_hidden("redirect_url", redirect_url)}'
        '<button name="proof" value="now">It is me: prove it again</button>'
        '<button name="proof" value="old">As if an hour had passed</button></form>',
    )


def _ago(minutes: int) -> str:
    return "never proved" if minutes < 0 else f"proved {minutes} minute{'' if minutes == 1 else 's'} ago"


def signed_in_page(user: LocalUser) -> str:
    """Return the page for a visitor who came without an address to go back to."""
    return _page(
        "You are signed in",
        f"<p>as {escape(user.name)}. Go back to your application and load its page again.</p>"
        '<form method="post" action="/sign-out"><button>Sign out</button></form>',
    )


def signed_out_page() -> str:
    """Return the page after signing out, without an address to go back to."""
    return _page("You are signed out", '<p><a href="/sign-in">Sign in again</a></p>')


def can_sign_in(user: LocalUser) -> bool:
    """Say whether Clerk would let this user start a session: neither banned nor locked."""
    body = user.data
    return not (body["banned"] or body["locked"])


def _choice(user: LocalUser) -> str:
    name = user.name
    below = [user.email] if user.email and user.email != name else []
    off = "" if can_sign_in(user) else " disabled"
    if off:
        below.append("banned" if user.data["banned"] else "locked")
    return (
        f'<button name="user_id" value="{escape(user.id)}"{off}><span class="badge">{escape(name[:1].upper())}</span>'
        f'<span class="who"><span>{escape(name)}</span><small>{escape(" · ".join(below))}</small></span></button>'
    )


def _place(user: LocalUser, membership: LocalMembership) -> str:
    off = "" if can_sign_in(user) else " disabled"
    text = f"{user.name} · {membership.organization.name} ({membership.role.removeprefix('org:')})"
    return f'<button class="place" name="membership_id" value="{membership.id}"{off}>{escape(text)}</button>'


def _hidden(name: str, value: str | None) -> str:
    return f'<input type="hidden" name="{name}" value="{escape(value)}">' if value else ""


def _page(title: str, content: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} - local Clerk</title><style>{_STYLE}</style></head>\n"
        f"<body><main><h1>{title}</h1>{content}"
        "<footer>A local stand-in for Clerk, on this machine only. No passwords, no real accounts.</footer>"
        "</main></body></html>\n"
    )
