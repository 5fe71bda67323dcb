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
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from al_charge.errors import AlChargeError, InputError
from al_charge.store import mongod
from al_charge.store.addresses import Credentials
from al_charge.store.private_files import (
    private_folder,
    read_json,
    reading,
    write_private,
    writing_to,
)
from al_charge.store.running_server import LOST_LOGIN, RunningServer

HOME_ENV = "AL_CHARGE_HOME"
USERNAME = "al-charge"

STOP_TIMEOUT = 60.0
"""s; a server writes everything to disk before it ends."""

HOLDER_TIMEOUT = 20.0
"""s; how long a server that is starting or ending may hold the data without answering."""

_WHERE = "embedded database"
_POLL = 0.05

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


def refuse_never_used(campaign: str) -> None:
    """Refuse to start a server only to find that it holds no campaign.

    Parameters
    ----------
    campaign
        Name that a command was given; its database may stand in the campaign's file alone.

    Raises
    ------
    InputError
        If the embedded server has never held anything.
    """
    if not EmbeddedServer().has_data():
        raise InputError(
            "there is no such campaign: no database is named, and there is no embedded one yet",
            where=f"campaign '{campaign}'",
            remedy="give the campaign's file, which may name its database, or set "
            "AL_CHARGE_DATABASE",
        )


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
        with reading(self.folder):
            if not self.folder.is_dir():
                return False
        with self._alone():
            return self._end()

    def reset_password(self) -> None:
        """Give data whose login is lost another one; whoever owns the files may.

        The server is started without logins for that, on a socket that nobody else can reach.

        Raises
        ------
        InputError
            If there are no data, or their login works.
        """
        try:
            self.start().ensure_user()
        except InputError as error:
            _log.debug("the login does not work: %s", error)
        else:
            raise InputError(
                "its login works", where=_WHERE, remedy=f"it is in {self._credentials_file}"
            )
        with self._alone():
            if not self.has_data():
                raise InputError("there are no data of a server", where=str(self.data))
            self._end()
            usual = self._choose_address()
            address = usual.with_name(usual.name.replace("mongod", "noauth"))
            credentials = Credentials(USERNAME, secrets.token_urlsafe(24))
            mongod.launch(
                mongod.find_mongod(),
                data=self.data,
                address=address,
                log=self.log,
                pid_file=self._pid_file,
                auth=False,
            )
            try:
                RunningServer(address, credentials).replace_password()
            finally:
                self._end()
            with writing_to(self.folder):
                self._keep(credentials)

    def status(self) -> dict[str, Any]:
        """Return whether it runs, where its files are, and why it does not run if it failed.

        Returns
        -------
        dict
            ``running``, ``pid``, ``folder``, ``socket``, ``log`` and ``last_error``, as plain data,
            and ``silent``, which says how a server is that is there and does not answer.
        """
        state = self._state()
        address = Path(state.get("socket", ""))
        running = bool(state.get("ready")) and mongod.answers(address)
        return {
            "running": running,
            "pid": self.pid if running else None,
            "folder": str(self.folder),
            "socket": str(address) if running else None,
            "log": str(self.log),
            "last_error": "" if running else mongod.last_error(self.log),
            "silent": "" if running else mongod.silent(self.data),
        }

    @property
    def pid(self) -> int | None:
        """Process id of the server that was last started, None before the first."""
        with reading(self._pid_file):
            try:
                return int(self._pid_file.read_text())
            except (FileNotFoundError, ValueError):
                return None

    def _start(self) -> RunningServer:
        from pymongo.errors import ConnectionFailure

        with writing_to(self.folder):
            private_folder(self.data)
        address = self._holder_address()
        with writing_to(self.folder):
            credentials = self._credentials() or self._new_credentials()
        if address is None:
            address = self._launch()
        running = RunningServer(address, credentials)
        try:
            running.ensure_user()
        except ConnectionFailure as error:
            reason = mongod.last_error(self.log) or "it answers no more"
            raise mongod.start_failure(
                "ended soon after its start", reason, self.data, self.log
            ) from error
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
                if ours and (what := mongod.silent(self.data)):
                    remedy = "wait, or end it with 'al-charge db stop'"
                    raise InputError(what, where=_WHERE, remedy=remedy)
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

    def _end(self) -> bool:
        """End the server by its process, or by its login where we do not see the process."""
        if not mongod.is_locked(self.data):
            return False
        host = self._state().get("host", socket.gethostname())
        pid = mongod.holder(self.data) if host == socket.gethostname() else None
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
                os.kill(pid, signal.SIGCONT)  # a stopped process ends when it goes on
        elif (running := self._running()) is not None:
            running.shut_down()
        else:
            raise mongod.locked(self.data, host)
        deadline = time.monotonic() + STOP_TIMEOUT
        while mongod.is_locked(self.data):
            if time.monotonic() > deadline:
                raise AlChargeError(
                    f"mongod (process {pid or self.pid}) is still there after {STOP_TIMEOUT:.0f} s",
                    where=_WHERE,
                    remedy=f"its log is {self.log}",
                )
            time.sleep(_POLL)
        return True

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
        """Return the login; None where none was made yet.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        stored = read_json(self._credentials_file)
        if stored is None:
            return None
        username, password = stored.get("username"), stored.get("password")
        if not (isinstance(username, str) and isinstance(password, str)):
            raise InputError("it is damaged", where=str(self._credentials_file), remedy=LOST_LOGIN)
        return Credentials(username, password)

    def has_data(self) -> bool:
        """Tell whether the server has ever stored anything.

        Returns
        -------
        bool
            Whether there is something in its data folder.
        """
        with reading(self.data):
            return self.data.is_dir() and any(self.data.iterdir())

    def _new_credentials(self) -> Credentials:
        """Make the login of a new server.

        Raises
        ------
        InputError
            If there are data, which have another one.
        """
        if self.has_data():
            raise InputError(
                "it is missing, and the data have a login",
                where=str(self._credentials_file),
                remedy=LOST_LOGIN,
            )
        credentials = Credentials(USERNAME, secrets.token_urlsafe(24))
        self._keep(credentials)
        return credentials

    def _keep(self, credentials: Credentials) -> None:
        write_private(
            self._credentials_file,
            {"username": credentials.username, "password": credentials.password},
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock under which the server is started and stopped."""
        lock = self.folder / "start.lock"
        with writing_to(self.folder):
            private_folder(self.folder)
            file = lock.open("w")
        with file:
            with reading(lock):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
