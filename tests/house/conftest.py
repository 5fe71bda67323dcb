"""A group's server, run as `db/` says, with certificates of its own."""

from __future__ import annotations

import base64
import configparser
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from al_charge.store.mongod import find_mongod
from al_charge.store.settings import CREDENTIALS_ENV, URI_ENV

DB = Path(__file__).parents[2] / "db"
CERTIFICATE_USER = "CN=dora,O=group"
KEY_PASSWORD = "key-canary"

Run = Callable[..., tuple[int, str, str]]


@dataclass
class Authority:
    """Somebody who signs certificates."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(cls, name: str) -> Authority:
        """Return one that vouches for itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        basic = x509.BasicConstraints(ca=True, path_length=None)
        built = _builder(subject, subject, key).add_extension(basic, critical=True)
        return cls(key, built.sign(key, hashes.SHA256()))

    def write(self, path: Path) -> Path:
        """Write the certificate."""
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def issue(self, path: Path, name: str, group: str, host: str = "", password: str = "") -> Path:
        """Write a certificate and its key, encrypted if there is a password."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, group),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        builder = _builder(subject, self.certificate.subject, key)
        if host:
            names = x509.SubjectAlternativeName([x509.DNSName(host)])
            builder = builder.add_extension(names, critical=False)
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            encryption = serialization.BestAvailableEncryption(password.encode())
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
            )
            + builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        path.chmod(0o600)
        return path


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


@dataclass
class Group:
    """A group's server and what its users have.

    Attributes
    ----------
    folder
        In place of /srv/al-charge.
    ca
        Who signed the certificates.
    """

    folder: Path
    port: int
    ca: Authority

    @property
    def uri(self) -> str:
        """The URI that everybody uses."""
        return f"mongodb://localhost:{self.port}/al_charge?authSource=admin"

    @property
    def ca_file(self) -> Path:
        """The certificate of who signed the server's."""
        return self.folder / "ca.pem"

    def login(self, role: str) -> Path:
        """Return the credentials file of the user of a role."""
        return self.folder / f"{role}.json"


def unit() -> configparser.ConfigParser:
    """Return the systemd unit."""
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(DB / "mongod.service")
    return parsed


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def group(
    tmp_path_factory: pytest.TempPathFactory, private_home: Path, run: Run
) -> Iterator[Group]:
    """Set up a server as the README says, and a user of each role."""
    made = Group(tmp_path_factory.mktemp("srv"), free_port(), Authority.new("authority"))
    folder = made.folder
    (folder / "data").mkdir()
    made.ca.write(made.ca_file)
    made.ca.issue(folder / "server.pem", "server", "servers", host="localhost")
    (folder / "keyfile").write_bytes(base64.b64encode(secrets.token_bytes(512)))
    (folder / "keyfile").chmod(0o400)
    text = (DB / "mongod.conf").read_text().replace("/srv/al-charge", str(folder))
    settings = yaml.safe_load(text)
    settings["net"] |= {"port": made.port, "unixDomainSocket": {"enabled": False}}
    configuration = folder / "mongod.conf"
    configuration.write_text(yaml.safe_dump(settings))
    words = shlex.split(unit()["Service"]["ExecStart"])
    words = [str(find_mongod()), *words[1:-1], str(configuration)]
    subprocess.run([*words, "--fork"], check=True, capture_output=True, timeout=120)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(URI_ENV, f"{made.uri}&tls=true&tlsCAFile={made.ca_file}")
            _set_up(made, run, patch)
        yield made
    finally:
        stop = [str(find_mongod()), "--dbpath", str(folder / "data"), "--shutdown"]
        subprocess.run(stop, check=True, timeout=60, capture_output=True)
        shutil.rmtree(folder)


def _set_up(group: Group, run: Run, patch: pytest.MonkeyPatch) -> None:
    add = ("db", "users", "add")
    for arguments in (
        ("db", "initiate", f"localhost:{group.port}"),
        (*add, "admin", "--role", "admin", "--credentials", str(group.login("admin"))),
    ):
        code, _, err = run(*arguments)
        assert code == 0, err
    patch.setenv(CREDENTIALS_ENV, str(group.login("admin")))
    for role in ("worker", "reader"):
        file = str(group.login(role))
        code, _, err = run(*add, role, "--role", role, "--credentials", file)
        assert code == 0, err
    code, _, err = run(*add, CERTIFICATE_USER, "--role", "reader", "--certificate")
    assert code == 0, err
    assert json.loads(group.login("worker").read_text())["username"] == "worker"
    assert not os.environ.get("AL_CHARGE_NEW_PASSWORD")


def as_user(group: Group, role: str, **fields: Any) -> dict[str, Any]:
    """Return the fields of a campaign file's `database` for the user of a role."""
    known = {
        "uri": group.uri,
        "credentials_file": group.login(role),
        "tls_ca_file": group.ca_file,
    }
    return known | fields
