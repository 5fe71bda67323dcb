"""How a user describes a database: where it is, how to log in, and how it is encrypted."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from al_charge.errors import InputError
from al_charge.store.addresses import UriParts, split_uri

DEFAULT_NAME = "al_charge"
URI_ENV = "AL_CHARGE_DATABASE"
USERNAME_ENV = "AL_CHARGE_DATABASE_USER"
PASSWORD_ENV = "AL_CHARGE_DATABASE_PASSWORD"
CREDENTIALS_ENV = "AL_CHARGE_DATABASE_CREDENTIALS"
KEY_PASSWORD_ENV = "AL_CHARGE_DATABASE_KEY_PASSWORD"

_UNCHECKED = ("tlsInsecure", "tlsAllowInvalidCertificates", "tlsAllowInvalidHostnames")
_ENCRYPTION = ("tls", "ssl")


class DatabaseSettings(BaseModel):
    """An external MongoDB: where it is, and where its credentials are found."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    uri: str = Field(description="mongodb://host:port or mongodb+srv://host, without a password")
    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,38}$",
        description="database; by default the one that the URI names, else al_charge",
    )
    username_env: str | None = Field(
        default=None,
        description=f"environment variable with the user name; {USERNAME_ENV} when absent",
    )
    password_env: str | None = Field(
        default=None,
        description=f"environment variable with the password; {PASSWORD_ENV} when absent",
    )
    credentials_file: Path | None = Field(
        default=None,
        description="JSON file with 'username' and 'password', readable by its owner only; "
        f"{CREDENTIALS_ENV} names one as well",
    )
    tls_ca_file: Path | None = Field(
        default=None,
        description="PEM file of the certificate authorities trusted for the server; by default "
        "those of the system",
    )
    tls_certificate_key_file: Path | None = Field(
        default=None,
        description="PEM file with this client's certificate and private key, readable by its "
        "owner only",
    )
    tls_key_password_env: str | None = Field(
        default=None,
        description="environment variable with the password of an encrypted private key; "
        f"{KEY_PASSWORD_ENV} when absent",
    )
    tls_key_password_file: Path | None = Field(
        default=None, description="file with that password, readable by its owner only"
    )
    x509: bool = Field(
        default=False,
        description="whether the certificate is the login, instead of a user name and password",
    )

    @field_validator("uri")
    @classmethod
    def _is_safe_uri(cls, uri: str) -> str:
        parts = split_uri(uri)
        if parts is None:
            raise ValueError("this is not a MongoDB URI; write it like mongodb://host:27017")
        if parts.has_password:
            raise ValueError(
                "a URI may not hold a password; put it into the environment variable "
                f"{PASSWORD_ENV} or name a credentials_file"
            )
        for option in _UNCHECKED:
            if parts.option(option) not in (None, "false"):
                raise ValueError(
                    f"{option} would let anybody pass for the server; leave it out and name the "
                    "server's authority as tls_ca_file (tlsCAFile in a URI)"
                )
        return uri.strip()

    @model_validator(mode="after")
    def _is_consistent(self) -> DatabaseSettings:
        if self.wants_tls and any(self.parts.option(name) == "false" for name in _ENCRYPTION):
            raise ValueError("the URI switches off TLS, which other fields need")
        if self.x509 and self.key_file is None:
            raise ValueError("x509 needs a tls_certificate_key_file")
        return self

    @property
    def parts(self) -> UriParts:
        """The URI, split into its parts.

        Raises
        ------
        InputError
            If it is not a MongoDB URI, which the validator rules out.
        """
        parts = split_uri(self.uri)
        if parts is None:  # the validator has refused it
            raise InputError("this is not a MongoDB URI", where="database.uri")
        return parts

    @property
    def database_name(self) -> str:
        """The name of the database in use."""
        return self.name or self.parts.path or DEFAULT_NAME

    @property
    def login_database(self) -> str:
        """The database that keeps the user who logs in."""
        return self.parts.option("authSource") or self.parts.path or "admin"

    @property
    def wants_tls(self) -> bool:
        """Whether a field asks for TLS."""
        return self.x509 or bool(self.tls_ca_file or self.tls_certificate_key_file)

    @property
    def key_file(self) -> Path | None:
        """The file with the client's certificate and private key, wherever it is named."""
        named = self.parts.option("tlsCertificateKeyFile")
        return self.tls_certificate_key_file or (Path(named) if named else None)

    @property
    def uses_certificate_login(self) -> bool:
        """Whether the certificate is the login."""
        return self.x509 or (self.parts.option("authMechanism") or "").upper() == "MONGODB-X509"

    @property
    def is_encrypted(self) -> bool:
        """Whether what goes to and fro is encrypted."""
        given = [self.parts.option(name) for name in _ENCRYPTION]
        by_default = self.parts.scheme == "mongodb+srv://" and "false" not in given
        return self.wants_tls or by_default or "true" in given

    def insecurity(self) -> str | None:
        """Return a warning that data reach the server without encryption.

        Returns
        -------
        str or None
            One line; None if they are encrypted, or the server is on this machine.
        """
        if self.is_encrypted or self.parts.is_local:
            return None
        return (
            f"database {self.uri}: data reach it without encryption; set up TLS (docs/security.md)"
        )


def settings_from_environment() -> DatabaseSettings | None:
    """Return the database that AL_CHARGE_DATABASE names.

    Returns
    -------
    DatabaseSettings or None
        None where the variable is not set.

    Raises
    ------
    InputError
        If it is not a MongoDB URI, holds a password, or is unsafe.
    """
    uri = os.environ.get(URI_ENV)
    return settings_of(uri, URI_ENV) if uri else None


def settings_of(uri: str, where: str) -> DatabaseSettings:
    """Return the database of a URI.

    Parameters
    ----------
    uri
        The URI, without a password.
    where
        The option or variable that it was given in, for the message.

    Returns
    -------
    DatabaseSettings
        Settings with nothing but the URI.

    Raises
    ------
    InputError
        If it is not a MongoDB URI, holds a password, or is unsafe.
    """
    try:
        return DatabaseSettings(uri=uri)
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(what, where=where) from None
