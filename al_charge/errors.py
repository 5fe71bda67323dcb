"""The two kinds of failure that a user can meet, each told in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        if self.remedy:
            line = f"{line}; {self.remedy}"
        return " ".join(line.split())


class InputError(AlChargeError):
    """Input that was refused before anything was written."""

    exit_code = 2


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a remedy that names the nearest known word, or all of them.

    Parameters
    ----------
    name
        The word that was not recognised.
    known
        The words that would have been.
    """
    words = sorted(known)
    close = difflib.get_close_matches(name, words, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"choose one of: {', '.join(words)}"
