"""URIs of MongoDB: splitting them, and adding credentials and options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote_plus, unquote_plus

SELECTION_TIMEOUT = 5.0
"""s; how long a command waits for a server before it says that there is none."""

_URI = re.compile(
    r"(?P<scheme>mongodb(?:\+srv)?://)"
    r"(?:(?P<user>[^:@/?]*)(?P<password>:[^/?]*)?@)?"
    r"(?P<hosts>[^@/?]+)"
    r"(?:/(?P<path>[^?/@]*))?"
    r"(?:\?(?P<options>[^@]*))?"
)

_SECRET_OPTIONS = frozenset({"tlscertificatekeyfilepassword", "authmechanismproperties"})


@dataclass(frozen=True)
class Credentials:
    """A user of a database; the password is kept out of every printed form.

    Attributes
    ----------
    username
        Name of the user.
    password
        The user's password.
    """

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class UriParts:
    """A MongoDB URI without any password.

    Attributes
    ----------
    scheme
        ``mongodb://`` or ``mongodb+srv://``.
    user
        User name before the host, or an empty string.
    hosts
        As written: ``host``, ``host:port``, a comma-separated list, or a quoted socket path.
    path
        The database named in the URI, or an empty string.
    options
        Options as written, each ``name=value``.
    has_password
        Whether the text had one, in an option or before the host.
    """

    scheme: str
    user: str
    hosts: str
    path: str
    options: tuple[str, ...]
    has_password: bool

    def option(self, name: str) -> str | None:
        """Return the value of an option.

        Parameters
        ----------
        name
            Name of the option; case does not matter.

        Returns
        -------
        str or None
            The last value that the URI gives, unquoted; None where it gives none.
        """
        for given in reversed(self.options):
            key, _, value = given.partition("=")
            if key.lower() == name.lower():
                return unquote_plus(value)
        return None

    def without(self, *names: str) -> UriParts:
        """Return the same server without a user and without some options.

        Parameters
        ----------
        *names
            Names of the options; case does not matter.

        Returns
        -------
        UriParts
            The rest.
        """
        dropped = {name.lower() for name in names}
        kept = [one for one in self.options if one.partition("=")[0].lower() not in dropped]
        return replace(self, user="", options=tuple(kept))

    @property
    def is_local(self) -> bool:
        """Whether every host is this machine."""
        return self.scheme == "mongodb://" and all(map(_is_local, self.hosts.split(",")))


def split_uri(uri: str) -> UriParts | None:
    """Split a URI into its parts.

    Parameters
    ----------
    uri
        The text.

    Returns
    -------
    UriParts or None
        None if it is not a MongoDB URI.
    """
    match = _URI.fullmatch(uri.strip())
    if match is None:
        return None
    options = tuple(option for option in re.split("[&;]", match["options"] or "") if option)
    secret = any(option.partition("=")[0].lower() in _SECRET_OPTIONS for option in options)
    return UriParts(
        scheme=match["scheme"],
        user=unquote_plus(match["user"] or ""),
        hosts=match["hosts"],
        path=match["path"] or "",
        options=options,
        has_password=secret or match["password"] is not None,
    )


def complete_uri(
    parts: UriParts,
    name: str,
    credentials: Credentials | None,
    extra: Mapping[str, str] | None = None,
) -> str:
    """Return a URI with credentials, a database and safe options.

    Every write waits for the journal: without that a killed server loses acknowledged writes.

    Parameters
    ----------
    parts
        The server.
    name
        Name of the database.
    credentials
        Who logs in; None for the user of ``parts`` without a password, if there is one.
    extra
        Options that replace those of the URI, not yet quoted.

    Returns
    -------
    str
        The URI, password included: never store or print it.
    """
    login = ""
    always = {"journal": "true"} | dict(extra or {})
    replaced = {key.lower() for key in always}
    options = dict(option.partition("=")[::2] for option in parts.options)
    options = {key: value for key, value in options.items() if key.lower() not in replaced}
    options |= {key: quote_plus(value) for key, value in always.items()}
    given = {key.lower() for key in options}
    if "serverselectiontimeoutms" not in given:
        options["serverSelectionTimeoutMS"] = str(round(1000 * SELECTION_TIMEOUT))
    if credentials is not None:
        login = f"{quote_plus(credentials.username)}:{quote_plus(credentials.password)}@"
        if "authsource" not in given:
            options["authSource"] = parts.path or "admin"
    elif parts.user:
        login = f"{quote_plus(parts.user)}@"
    query = "&".join(f"{key}={value}" for key, value in options.items())
    return f"{parts.scheme}{login}{parts.hosts}/{name}?{query}"


def limits(uri: str, patience: float | None = None) -> dict[str, int]:
    """Return by when a client gives up a connection on which nothing comes back any more.

    A network that swallows everything ends no operation, and by itself a client waits for half a
    minute. The sum is the longest that an operation under way lasts then.

    Parameters
    ----------
    uri
        The URI; what it says itself is left as it is.
    patience
        How long its user waits for a server, s; None for `SELECTION_TIMEOUT`.

    Returns
    -------
    dict
        Options of a client, in ms; never longer than its own defaults.
    """
    seconds = SELECTION_TIMEOUT if patience is None else patience
    options = {
        "connectTimeoutMS": min(20.0, 2 * seconds),
        "heartbeatFrequencyMS": max(0.5, min(10.0, seconds)),
    }
    return {
        name: round(1000 * limit)
        for name, limit in options.items()
        if f"{name.lower()}=" not in uri.lower()
    }


def _is_local(host: str) -> bool:
    if "%2f" in host.lower():
        return True
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    return name in ("localhost", "[::1]") or re.fullmatch(r"127(\.\d+){3}", name) is not None


def socket_uri_parts(socket: str) -> UriParts:
    """Return the URI of a server that listens on a unix socket.

    Parameters
    ----------
    socket
        Path of the socket.

    Returns
    -------
    UriParts
        Without a user and without options.
    """
    return UriParts("mongodb://", "", quote_plus(socket), "", (), False)
