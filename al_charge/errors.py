"""The failures that a user can meet, each reported in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

LONGEST = 500
"""Most characters of each part of a message; longer text is content of the faulty file."""


class AlChargeError(Exception):
    """Work that was started and failed.

    Parameters
    ----------
    what
        What is wrong, as one sentence without a full stop.
    where
        The field, file or job that it concerns.
    remedy
        What the user can do about it.

    Attributes
    ----------
    exit_code
        Exit code of a command that ends with this error.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(what)

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep ``where`` and ``remedy`` when the error comes from another process."""
        return _rebuild, (type(self), self.what, self.where, self.remedy)

    def __str__(self) -> str:
        """Return the one line that the user sees."""
        where, what, remedy = map(one_line, (self.where, self.what, self.remedy))
        line = f"{where}: {what}" if where else what
        return f"{line}; {remedy}" if remedy else line


class UnfinishedError(AlChargeError):
    """Work that was stopped early and continues from there when it is run again."""


class CrashedError(AlChargeError):
    """Work that ended without a result, for a reason that may not recur."""


class DamagedError(AlChargeError):
    """Data in the database that are not what was written."""


class InputError(AlChargeError):
    """Input that was refused before anything was written."""

    exit_code = 2


class NotInstalledError(InputError):
    """Valid input that cannot be used on this machine because something is not installed."""


def one_line(text: str) -> str:
    """Return text that fits into one line of a terminal, whatever a file put into it.

    Parameters
    ----------
    text
        Any text.

    Returns
    -------
    str
        The text on one line: control characters, which a terminal would obey, as escape sequences;
        text longer than `LONGEST` without its middle.
    """
    line = " ".join(text.split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 4 :]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the known word nearest to an unknown one, regardless of case.

    Parameters
    ----------
    name
        The word that was not recognised.
    known
        The words that would have been.

    Returns
    -------
    str
        A remedy for an error message: the nearest word, else all of them; empty without any.
    """
    words = sorted(known)
    by_lower = {word.lower(): word for word in reversed(words)}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{by_lower[close[0]]}'?"
    return f"choose one of: {', '.join(words)}" if words else ""


def _rebuild(kind: type[AlChargeError], what: str, where: str, remedy: str) -> AlChargeError:
    return kind(what, where=where, remedy=remedy)
