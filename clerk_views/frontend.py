"""
What does a page need to run Clerk's JavaScript: which scripts, with which attributes, options and properties?

Pure: a configuration goes in, plain data comes out. Escaping is the template's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

import clerk_views
from clerk_views.conf import Config
from clerk_views.values import LOOPBACK_HOSTS, PublishableKey

#: The major of @clerk/ui that goes with clerk-js 6, whichever version of that CLERK_JS_VERSION names: the two are
#: numbered independently, and each 1.x asks for clerk-js 6.0.0 or later and for no certain one.
UI_VERSION = "1"

#: Name in templates -> the end of clerk-js's ``mount…`` and ``unmount…``. Source: Clerk, "Clerk class".
COMPONENTS = {
    "sign-in": "SignIn",
    "sign-up": "SignUp",
    "user-button": "UserButton",
    "user-avatar": "UserAvatar",
    "user-profile": "UserProfile",
    "organization-switcher": "OrganizationSwitcher",
    "organization-profile": "OrganizationProfile",
    "organization-list": "OrganizationList",
    "create-organization": "CreateOrganization",
    "waitlist": "Waitlist",
    "pricing-table": "PricingTable",
    "api-keys": "APIKeys",
    "oauth-consent": "OAuthConsent",
    "task-choose-organization": "TaskChooseOrganization",
    "task-reset-password": "TaskResetPassword",
    "task-setup-mfa": "TaskSetupMFA",
}

# Names that Clerk does not spell as Python's would be.
_SPELLINGS = {
    "additional_oauth_scopes": "additionalOAuthScopes",
    "unsafe_disable_development_mode_console_warning": "unsafe_disableDevelopmentModeConsoleWarning",
}


def publishable_key(config: Config) -> PublishableKey:
    """
    Return the key without which nothing of Clerk's runs in a browser.

    Raises:
        ImproperlyConfigured: There is none.
    """
    if config.publishable_key is None:
        raise ImproperlyConfigured(
            "CLERK_PUBLISHABLE_KEY is not set, so Clerk's JavaScript cannot be loaded. Copy the publishable key from "
            "the API keys page of Clerk's dashboard into the setting or environment variable CLERK_PUBLISHABLE_KEY."
        )
    return config.publishable_key


def script_urls(config: Config) -> tuple[str, str]:
    """Return the addresses of clerk-js and of its components, from the instance's own host, proxy or satellite."""
    packages = f"{_script_host(config)}/npm/@clerk"
    return (
        f"{packages}/clerk-js@{config.js_version}/dist/clerk.browser.js",
        f"{packages}/ui@{UI_VERSION}/dist/ui.browser.js",
    )


def _script_host(config: Config) -> str:
    """Return what comes before the path of a script. Source: Clerk's JavaScript loaders, "script URL"."""
    key = publishable_key(config)
    if config.proxy_url is not None:
        proxy = config.proxy_url.rstrip("/")
        parts = urlsplit(proxy)
        # Clerk's loaders always say https; a proxy on this machine has no certificate.
        return proxy if not parts.netloc or parts.hostname in LOOPBACK_HOSTS else f"https://{proxy.partition('://')[2]}"
    if config.is_satellite and config.domain is not None and key.is_production:
        return f"https://clerk.{config.domain.removeprefix('clerk.')}"
    return f"https://{key.host}"


def script_attributes(config: Config) -> dict[str, str]:
    """Return the attributes by which clerk-js learns whose it is."""
    attributes = {"data-clerk-publishable-key": publishable_key(config).text}
    if config.proxy_url is not None:
        attributes["data-clerk-proxy-url"] = config.proxy_url
    if config.is_satellite and config.domain is not None:
        attributes["data-clerk-domain"] = config.domain
    return attributes


def load_options(config: Config, nonce: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the options of ``Clerk.load()``.

    Args:
        nonce: Of the page's Content-Security-Policy, which the styles need as well; None for none.
        given: What the template says, in Python's spelling; it wins over what follows from the settings.
    """
    options: dict[str, Any] = {
        "telemetry": False,
        "sdkMetadata": {
            "name": "clerk-views",
            "version": clerk_views.__version__,
            "environment": "production" if publishable_key(config).is_production else "development",
        },
    }
    # Clerk knows its own pages, which may have been moved in the dashboard; so only what differs is told.
    known = {
        "signInUrl": config.own_sign_in_url,
        "signUpUrl": config.own_sign_up_url,
        "afterSignOutUrl": config.after_sign_out_url,
        "isSatellite": config.is_satellite or None,
        "satelliteAutoSync": (config.is_satellite and config.satellite_auto_sync) or None,
        "allowedRedirectOrigins": _redirect_origins(config) or None,
        "nonce": nonce,
    }
    options.update((name, value) for name, value in known.items() if value is not None)
    return options | properties(given)


def _redirect_origins(config: Config) -> list[str]:
    """
    Return where clerk-js may lead after signing in, besides the page's own origin; empty: as it has it by itself.

    That is the instance's domain and what is below it, which the option would replace; and the project's own origins,
    or else nobody would come back to a satellite from its primary's sign-in page. Source: clerk-js, "allowed redirect
    origins".
    """
    parties = [party for party in config.auth_parties if party is not None]
    if not parties:
        return []
    host = config.frontend_api_host or ""
    domain = host.replace("clerk.", "", 1)
    own = [f"https://{domain}", f"https://*.{domain}", *([f"https://{host}"] if config.is_development else [])]
    return [*own, *(party for party in parties if party not in own)]


def properties(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a template's keyword arguments under the names that Clerk gives them: ``show_name`` as ``showName``.

    What is inside a value keeps its names. An address that is a program, as ``javascript:``, is left out.
    """
    return {
        _SPELLINGS.get(name) or re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name): value
        for name, value in given.items()
        if not (name.lower().endswith("url") and _is_program(value))
    }


def _is_program(address: Any) -> bool:
    # Browsers pass over blanks and control characters when they read the scheme.
    scheme = re.match(r"([a-z][a-z0-9+.-]*):", re.sub(r"[\x00-\x20]", "", str(address)).lower())
    return scheme is not None and scheme[1] not in ("http", "https")
