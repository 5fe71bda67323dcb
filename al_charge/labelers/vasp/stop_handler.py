"""A custodian handler that stops VASP in order when its time is up, or when told to.

A module of its own: custodian notes handlers by module, and `run` is ``__main__`` when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from custodian.vasp.handlers import WalltimeHandler
from typing_extensions import override


class StopHandler(WalltimeHandler):
    """Custodian's own handler of the walltime, which also heeds a file.

    Parameters
    ----------
    stop
        VASP is asked to stop as soon as this file exists.
    **settings
        Of `WalltimeHandler`.
    """

    def __init__(self, stop: Path, **settings: Any) -> None:
        super().__init__(**settings)
        self.stop = str(stop)

    @override
    def check(self, directory: str = "./") -> bool:
        return Path(self.stop).exists() or bool(super().check(directory))
