"""The settings of mails to the owners of accounts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from config.variables import Refused, Variable, address, one_of, shown

_ADDRESS = r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*"
_SENDER = re.compile(rf'{_ADDRESS}|[^<>"@,\x00-\x1f\x7f]{{1,80}} <{_ADDRESS}>')
_PUBLIC = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*")


def sender(text: str) -> str:
    """A parser for `Name <address>` or an address alone; nothing is none."""
    if text and not _SENDER.fullmatch(text):
        raise Refused(f"is {shown(text)}", "an address such as Example <no-reply@example.org>")
    return text


def public_url(text: str) -> str:
    """A parser for the address below which the pages of an app are."""
    if text and not _PUBLIC.fullmatch(text):
        raise Refused(f"is {shown(text)}", "an address such as https://app.example.org, without a slash at its end")
    return text


MAIL: tuple[Variable, ...] = (
    Variable(
        "YEOUL_SMTP_URL",
        "smtp_url",
        "",
        "Mail server, smtps:// or smtp:// (STARTTLS); empty: no mail is sent",
        address("smtp", "smtps"),
        secret=True,
    ),
    Variable("YEOUL_MAIL_FROM", "mail_from", "", "From whom mails are: Example <no-reply@example.org>", sender),
    Variable(
        "YEOUL_PUBLIC_URL", "public_url", "", "Where the pages are that links in mails lead to; empty: none", public_url
    ),
    Variable(
        "YEOUL_EMAIL_VERIFICATION",
        "email_verification",
        "optional",
        "required: who has not verified the address can't log in",
        one_of("optional", "required"),
    ),
)
"""Their rows in the table of settings."""


def unmet(environment: str, values: Mapping[str, Any]) -> list[str]:
    """Complaints about what one of them needs of another. In the local environment `./yeoul up` gives a server."""
    complaints = []
    if values.get("smtp_url") and not values.get("mail_from"):
        complaints.append("YEOUL_MAIL_FROM is missing; YEOUL_SMTP_URL needs it")
    if values.get("email_verification") == "required" and not values.get("smtp_url") and environment != "local":
        complaints.append("YEOUL_SMTP_URL is missing; YEOUL_EMAIL_VERIFICATION=required needs it")
    return complaints
