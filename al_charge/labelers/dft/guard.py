"""Tie a process to the life of the one that started it: ``python guard.py PID COMMAND...``.

The guard asks the kernel to kill it with its parent, and then becomes the command. A worker that
is killed, by whatever signal, thus leaves no engine behind.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; does nothing outside Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def main(arguments: list[str]) -> None:
    """Become the command, tied to the parent.

    Parameters
    ----------
    arguments
        Process id of the expected parent, then the command and its arguments.
    """
    parent, *command = arguments
    die_with_parent()
    # The parent may have ended before the kernel was asked; somebody else is the parent then.
    if os.getppid() != int(parent):
        sys.exit("the process that started this one has ended")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
