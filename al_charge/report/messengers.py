"""Send notices by mail, or to a web address; what cannot be sent is tried again."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Sequence
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import override

from al_charge.errors import InputError, one_line
from al_charge.report.notices import Notice
from al_charge.store.credentials import read_private
from al_charge.store.embedded import default_home

FILE_ENV = "AL_CHARGE_NOTIFY"
"""Environment variable that names the file with the settings."""
KINDS = ("mail", "webhook")
TIMEOUT = 20.0
"""s until a server that does not answer counts as an error."""
FIRST_RETRY, LONGEST_RETRY = 30.0, 1800.0
"""s until something is tried again, twice as long each time."""
LAST_WORDS = 600.0
"""s for which the end of a campaign is tried to be told before the command ends."""

Send = Callable[[Notice], None]
_log = logging.getLogger("al_charge.report")


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class MailSettings(_Settings):
    """A mail server, and who writes to whom."""

    server: str = Field(min_length=1, description="host of the mail server")
    port: int = Field(default=587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="'none' without a password, or to this machine, only"
    )
    sender: str = Field(alias="from", pattern=r"^[^@\s]+@[^@\s]+$")
    to: list[str] = Field(min_length=1)
    username: str | None = None
    password: str | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _is_complete(self) -> MailSettings:
        if (self.username is None) != (self.password is None):
            raise ValueError("'username' and 'password' belong together")
        if self.password and self.security == "none" and not _is_here(self.server):
            raise ValueError("a password needs 'security': 'starttls' or 'tls'")
        return self


class WebhookSettings(_Settings):
    """A web address that takes JSON."""

    url: str = Field(repr=False, description="https://..., or http:// to this machine")

    @model_validator(mode="after")
    def _is_safe(self) -> WebhookSettings:
        parts = urlsplit(self.url)
        safe = parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname))
        if not safe or not parts.hostname:
            raise ValueError("write a URL that starts with https://")
        return self


class NotifySettings(_Settings):
    """What the file holds."""

    mail: MailSettings | None = None
    webhook: WebhookSettings | None = None


def senders(kinds: Collection[str]) -> dict[str, Send]:
    """Return what sends notices.

    Parameters
    ----------
    kinds
        Of ``mail`` and ``webhook``.

    Returns
    -------
    dict
        By kind, a function that sends one notice.

    Raises
    ------
    InputError
        If the file with the settings is missing, others can read it, or something in it is wrong
        or lacking.
    """
    path = Path(os.environ.get(FILE_ENV) or default_home() / "notify.json").expanduser()
    where = f"notify file {path}"
    try:
        settings = NotifySettings.model_validate_json(read_private(path, where))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{field}: {what}" if field else what, where=where) from None
    made: dict[str, Send] = {}
    for kind in kinds:
        if getattr(settings, kind) is None:
            raise InputError(f"it has no '{kind}'", where=where, remedy="see docs/page.md")
    if "mail" in kinds and (mail := settings.mail) is not None:
        made["mail"] = lambda notice: send_mail(mail, notice)
    if "webhook" in kinds and (webhook := settings.webhook) is not None:
        made["webhook"] = lambda notice: post(webhook, notice)
    return made


def send_mail(settings: MailSettings, notice: Notice) -> None:
    """Send a notice as a mail.

    Parameters
    ----------
    settings
        Server and addresses.
    notice
        What has happened.

    Raises
    ------
    OSError
        If the server cannot be reached, or refuses.
    """
    message = EmailMessage()
    message["From"], message["To"] = settings.sender, ", ".join(settings.to)
    message["Subject"] = f"al-charge: {notice.campaign}: {notice.event} ({notice.state})"
    message["Date"] = format_datetime(notice.time)
    message["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2])
    message.set_content(f"{notice.text}\n\nSeen {notice.time.isoformat(timespec='seconds')}.\n")
    context = ssl.create_default_context()
    if settings.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            settings.server, settings.port, timeout=TIMEOUT, context=context
        )
    else:
        server = smtplib.SMTP(settings.server, settings.port, timeout=TIMEOUT)
    with server:
        if settings.security == "starttls":
            server.starttls(context=context)
        if settings.username and settings.password:
            server.login(settings.username, settings.password)
        server.send_message(message)


def post(settings: WebhookSettings, notice: Notice) -> None:
    """Send a notice as JSON to a web address.

    Parameters
    ----------
    settings
        The address.
    notice
        What has happened.

    Raises
    ------
    OSError
        If the server cannot be reached, or answers anything but success.
    """
    request = urllib.request.Request(
        settings.url,
        data=json.dumps(notice.document()).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "al-charge"},
        method="POST",
    )
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT):
        pass


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: what is sent would go to somebody else, or as a question."""

    @override
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Outbox:
    """Notices to send, each until it is sent; an error is logged, and ends nothing.

    Parameters
    ----------
    send
        What sends, by its kind.
    clock
        Returns a time that never goes back, s.
    sleep
        Waits, for so many seconds.
    """

    def __init__(
        self,
        send: dict[str, Send],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._send = send
        self._clock = clock
        self._sleep = sleep
        self._waiting: dict[str, list[Notice]] = {kind: [] for kind in send}
        self._due: dict[str, float] = dict.fromkeys(send, float("-inf"))
        self._pause: dict[str, float] = dict.fromkeys(send, FIRST_RETRY)

    def add(self, notices: Sequence[Notice]) -> None:
        """Take notices, and send what is due.

        Parameters
        ----------
        notices
            In the order in which they are told.
        """
        for kind, waiting in self._waiting.items():
            waiting += notices
            self._try(kind)

    def close(self) -> None:
        """Send what is left, for some minutes; then say what was not sent."""
        until = self._clock() + LAST_WORDS
        while any(self._waiting.values()) and self._clock() < until:
            self._sleep(max(0.0, min(min(self._next()), until) - self._clock()))
            self.add([])
        for kind, waiting in self._waiting.items():
            for notice in waiting:
                _log.error("%s: never sent: %s", kind, notice.text)

    def _next(self) -> list[float]:
        return [self._due[kind] for kind, waiting in self._waiting.items() if waiting]

    def _try(self, kind: str) -> None:
        waiting = self._waiting[kind]
        while waiting and self._clock() >= self._due[kind]:
            try:
                self._send[kind](waiting[0])
            except (OSError, HTTPException, ValueError) as error:
                pause = self._pause[kind]
                self._due[kind] = self._clock() + pause
                self._pause[kind] = min(2 * pause, LONGEST_RETRY)
                _log.warning("%s: %s; tried again in %.0f s", kind, _reason(error), pause)
            else:
                del waiting[0]
                self._due[kind], self._pause[kind] = float("-inf"), FIRST_RETRY


def _is_here(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    """Return why something was not sent, without the address, which may be a secret."""
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code}"
    if isinstance(error, urllib.error.URLError):
        return one_line(str(error.reason))
    return one_line(str(error) or type(error).__name__)
