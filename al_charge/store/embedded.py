"""The embedded MongoDB: a private server that any command starts and the next one finds.

It listens on a unix socket in a private folder, wants a login, runs on after the command that
started it, and is brought back after a crash by whoever needs it next.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from al_charge.errors import AlChargeError, InputError
from al_charge.store import mongod
from al_charge.store.addresses import Credentials, complete_uri, socket_uri_parts
from al_charge.store.private_files import private_folder, read_json, write_private, writing_to

HOME_ENV = "AL_CHARGE_HOME"
USERNAME = "al-charge"

STOP_TIMEOUT = 60.0
"""s; a server writes everything to disk before it ends."""

HOLDER_TIMEOUT = 20.0
"""s; how long a server that is starting or ending may hold the data without answering."""

_WHERE = "embedded database"
_POLL = 0.05
_AUTHENTICATION_FAILED = 18

_log = logging.getLogger("al_charge.store")


def default_home() -> Path:
    """Return the folder of al-charge's own files.

    Returns
    -------
    pathlib.Path
        The variable AL_CHARGE_HOME, else ``al-charge`` in XDG_DATA_HOME or ~/.local/share.
    """
    if named := os.environ.get(HOME_ENV):
        return Path(named).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "al-charge"


class RunningServer:
    """A server that answers: where it listens and how to log in.

    Parameters
    ----------
    address
        Path of its unix socket.
    credentials
        Its one user.
    """

    def __init__(self, address: Path, credentials: Credentials) -> None:
        self.address = address
        self._credentials = credentials

    def __repr__(self) -> str:
        """Return the address only."""
        return f"RunningServer({str(self.address)!r})"

    def uri(self, name: str) -> str:
        """Return the URI of one of its databases, password included: never store or print it.

        Parameters
        ----------
        name
            Name of the database.

        Returns
        -------
        str
            The URI.
        """
        return complete_uri(socket_uri_parts(str(self.address)), name, self._credentials)

    def ensure_user(self) -> None:
        """Create the server's user unless it is there.

        Raises
        ------
        InputError
            If the server has users, but not ours.
        """
        from pymongo import MongoClient
        from pymongo.errors import OperationFailure

        with MongoClient[dict[str, Any]](self.uri("admin")) as client:
            try:
                client["admin"].command("ping")
                return
            except OperationFailure as error:
                if error.code != _AUTHENTICATION_FAILED:
                    raise
        anonymous = complete_uri(socket_uri_parts(str(self.address)), "admin", None)
        with MongoClient[dict[str, Any]](anonymous) as client:
            try:
                # Allowed without a login as long as the server has no user at all.
                client["admin"].command(
                    "createUser",
                    self._credentials.username,
                    pwd=self._credentials.password,
                    roles=["root"],
                    writeConcern={"w": "majority", "j": True},
                )
            except OperationFailure as error:
                raise InputError(
                    "its stored login is not the one that its data were made with",
                    where=_WHERE,
                    remedy="restore credentials.json, or set AL_CHARGE_HOME to another folder",
                ) from error


class EmbeddedServer:
    """The private MongoDB of one home folder.

    Parameters
    ----------
    home
        Folder of al-charge's own files; the server's are in its subfolder ``mongodb``.
    """

    def __init__(self, home: Path | None = None) -> None:
        self.folder = (home or default_home()) / "mongodb"
        self.data = self.folder / "data"
        self.log = self.folder / "mongod.log"
        self._pid_file = self.folder / "mongod.pid"
        self._credentials_file = self.folder / "credentials.json"
        self._state_file = self.folder / "server.json"

    def start(self) -> RunningServer:
        """Return the running server, starting it if need be.

        Returns
        -------
        RunningServer
            The server, which answers.

        Raises
        ------
        InputError
            If there is no mongod, or the folder or disk does not allow it.
        """
        if (running := self._running()) is not None:
            return running
        with self._alone():
            return self._running() or self._start()

    def stop(self) -> bool:
        """Stop the server.

        Returns
        -------
        bool
            False if none was running.

        Raises
        ------
        AlChargeError
            If it does not end.
        """
        if not self.folder.is_dir():
            return False
        with self._alone():
            running = self._running()
            if running is not None:
                self._shut_down(running)
            elif mongod.is_locked(self.data):
                raise mongod.locked(self.data, self._state().get("host", ""))
            return running is not None

    def status(self) -> dict[str, Any]:
        """Return whether it runs, where its files are, and why it does not run if it failed.

        Returns
        -------
        dict
            ``running``, ``pid``, ``folder``, ``socket``, ``log`` and ``last_error``, as plain data.
        """
        running = self._running()
        return {
            "running": running is not None,
            "pid": self.pid if running else None,
            "folder": str(self.folder),
            "socket": str(running.address) if running else None,
            "log": str(self.log),
            "last_error": "" if running else mongod.last_error(self.log),
        }

    @property
    def pid(self) -> int | None:
        """Process id of the server that was last started, None before the first."""
        try:
            return int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None

    def _start(self) -> RunningServer:
        with writing_to(self.folder):
            private_folder(self.data)
            credentials = self._credentials() or self._new_credentials()
        address = self._holder_address()
        if address is None:
            address = self._launch()
        running = RunningServer(address, credentials)
        running.ensure_user()
        self._write_state(address, ready=True)
        return running

    def _launch(self) -> Path:
        program = mongod.find_mongod()
        address = self._choose_address()
        # Written first: should this process be killed now, the next one finds the server.
        self._write_state(address, ready=False)
        mongod.launch(
            program, data=self.data, address=address, log=self.log, pid_file=self._pid_file
        )
        _log.debug("embedded server started; it listens on %s", address)
        return address

    def _holder_address(self) -> Path | None:
        """Return where a server that holds our data answers; None if nothing holds them.

        Raises
        ------
        InputError
            If the data are held by a server that does not answer.
        """
        state = self._state()
        address = Path(state.get("socket", ""))
        ours = state.get("host") == socket.gethostname()
        deadline = time.monotonic() + (HOLDER_TIMEOUT if ours else 0.0)
        while mongod.is_locked(self.data):
            if ours and mongod.answers(address):
                return address
            if time.monotonic() > deadline:
                raise mongod.locked(self.data, state.get("host", ""))
            time.sleep(_POLL)
        return None

    def _running(self) -> RunningServer | None:
        """Return the server if it has been set up and answers."""
        state, credentials = self._state(), self._credentials()
        if not state.get("ready") or credentials is None:
            return None
        address = Path(state["socket"])
        return RunningServer(address, credentials) if mongod.answers(address) else None

    def _shut_down(self, running: RunningServer) -> None:
        from pymongo import MongoClient
        from pymongo.errors import AutoReconnect, PyMongoError

        with MongoClient[dict[str, Any]](running.uri("admin")) as client:
            try:
                client["admin"].command("shutdown")
            except AutoReconnect:
                pass  # it closes the connection as it goes
            except PyMongoError as error:
                raise AlChargeError(f"mongod refused to stop: {error}", where=_WHERE) from error
        deadline = time.monotonic() + STOP_TIMEOUT
        while mongod.is_locked(self.data):
            if time.monotonic() > deadline:
                raise AlChargeError(
                    f"mongod (process {self.pid}) is still there after {STOP_TIMEOUT:.0f} s",
                    where=_WHERE,
                    remedy=f"its log is {self.log}",
                )
            time.sleep(_POLL)

    def _choose_address(self) -> Path:
        # The name tells this home's socket from another's in a shared folder.
        digest = hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:12]
        name = f"mongod-{digest}.sock"
        for folder in mongod.socket_folders(self.folder):
            try:
                private_folder(folder)
            except (OSError, InputError):
                continue
            if mongod.fits_socket(folder / name):
                return folder / name
        raise InputError(
            "no folder takes a unix socket",
            where=_WHERE,
            remedy="set AL_CHARGE_HOME to a short path on a local disk",
        )

    def _state(self) -> dict[str, Any]:
        return read_json(self._state_file) or {}

    def _write_state(self, address: Path, *, ready: bool) -> None:
        state = {"socket": str(address), "host": socket.gethostname(), "ready": ready}
        with writing_to(self.folder):
            write_private(self._state_file, state)

    def _credentials(self) -> Credentials | None:
        stored = read_json(self._credentials_file)
        return None if stored is None else Credentials(stored["username"], stored["password"])

    def _new_credentials(self) -> Credentials:
        credentials = Credentials(USERNAME, secrets.token_urlsafe(24))
        write_private(
            self._credentials_file,
            {"username": credentials.username, "password": credentials.password},
        )
        return credentials

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock under which the server is started and stopped."""
        with writing_to(self.folder):
            private_folder(self.folder)
            file = (self.folder / "start.lock").open("w")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
