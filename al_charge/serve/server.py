"""The server behind the page: gunicorn, with one process and some threads."""

from __future__ import annotations

import ipaddress
import socket

from flask import Flask
from gunicorn.app.base import BaseApplication
from typing_extensions import override

from al_charge.errors import InputError

THREADS = 8
"""Requests at once; open pages ask every few seconds."""


def listen(address: str, port: int, *, expose: bool = False) -> socket.socket:
    """Return a socket that listens.

    Parameters
    ----------
    address
        IPv4 address or name of this machine.
    port
        Port; 0 for any that is free.
    expose
        Whether others than this machine's own users may reach it.

    Returns
    -------
    socket.socket
        The socket.

    Raises
    ------
    InputError
        If the address is not a loopback one and nobody said so, or is not this machine's, or the
        port is taken.
    """
    try:
        number = ipaddress.ip_address(socket.gethostbyname(address))
    except (OSError, UnicodeError) as error:
        raise InputError("this machine has no such address", where="--address") from error
    if not number.is_loopback and not expose:
        raise InputError(
            f"anybody who reaches {address} could try tokens, and the token can be read in the "
            "traffic, which is not encrypted",
            where="--address",
            remedy="use an ssh tunnel (docs/page.md), or add --expose",
        )
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(number), port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen on {address}, port {port}: {error.strerror}",
            where="--port",
            remedy="choose another one; 0 takes any that is free",
        ) from error
    return listener


def serve(app: Flask, listener: socket.socket) -> None:
    """Serve an application until the process is told to stop.

    Parameters
    ----------
    app
        The application; it opens connections to the database only when it is asked something.
    listener
        Where it listens.
    """
    listener.set_inheritable(True)
    _Server(app, listener).run()


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with our settings; it reads none from files or the environment."""

    def __init__(self, app: Flask, listener: socket.socket) -> None:
        self._app = app
        self._listener = listener
        super().__init__()

    @override
    def load_config(self) -> None:
        chosen = {
            "bind": [f"fd://{self._listener.fileno()}"],
            "workers": 1,  # what is known of campaigns is kept in the process
            "worker_class": "gthread",
            "threads": THREADS,
            "loglevel": "warning",
            "control_socket_disable": True,
            "graceful_timeout": 2,
            "forwarded_allow_ips": "",
            "preload_app": True,
            "proc_name": "al-charge",
        }
        for name, value in chosen.items():
            self.cfg.set(name, value)

    @override
    def load(self) -> Flask:
        return self._app
