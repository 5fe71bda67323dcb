"""Relaxing structures by several processes, one thread each, with the results of one by one."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import numpy as np
from ase import Atoms

from al_charge.errors import AlChargeError
from al_charge.potentials.committee import Committee
from al_charge.potentials.relaxation.one_by_one import Progress, Relaxed, relax

Sent = tuple[list[tuple[str, bytes]], float]
"""A committee to be sent: configuration as JSON, weights as safetensors, and its scale."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def relax_in_processes(
    committee: Committee,
    structures: Sequence[Atoms],
    *,
    fmax: float,
    max_steps: int,
    cell: bool = True,
    largest_displacement: float = np.inf,
    processes: int,
    progress: Progress | None = None,
) -> list[Relaxed]:
    """Relax structures as ``relax`` does, bit for bit and in their order, by several processes.

    They compute on the CPU, wherever the committee is.

    Each process gets the committee once, and the next structure whenever it is free. They are
    started afresh, so that a script which calls this needs ``if __name__ == "__main__":``. When
    this ends, by an error or Ctrl-C as well, they have ended.

    Parameters
    ----------
    committee
        Whose mean energy falls.
    structures
        Starts, with ``species`` arrays; not modified.
    fmax
        Largest force left in eV/angstrom, as for ``relax``.
    max_steps
        Evaluations of each structure at most.
    cell
        False keeps every cell as it is and moves ions only.
    largest_displacement
        Largest displacement in angstrom, as for ``relax``.
    processes
        At most; never more than there are structures.
    progress
        Called after every structure.

    Returns
    -------
    list of Relaxed
        One per structure, in their order.

    Raises
    ------
    AlChargeError
        If a structure cannot be relaxed, or a process dies; it names the structure.
    """
    sent = _packed(committee)
    options = {
        "fmax": fmax,
        "max_steps": max_steps,
        "cell": cell,
        "largest_displacement": largest_displacement,
    }
    todo = iter(enumerate(structures))
    done: dict[int, Relaxed] = {}
    workers: list[_Worker] = []
    try:
        with _inherited():
            for _ in range(min(processes, len(structures))):
                workers.append(_start(options))
        for worker in workers:
            worker.send(sent)
            worker.give(todo)
        while busy := {worker.pipe: worker for worker in workers if worker.structure is not None}:
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                done[worker.place] = worker.take()
                worker.give(todo)
                if progress is not None:
                    progress(len(done), len(structures))
    finally:
        for worker in workers:
            worker.end()
    return [done[place] for place in range(len(structures))]


@dataclass
class _Worker:
    """A process, and the structure that it works on."""

    process: SpawnProcess
    pipe: Connection
    structure: int | None = None

    @property
    def place(self) -> int:
        assert self.structure is not None
        return self.structure

    def send(self, what: Sent | Atoms) -> None:
        """Send the committee, once, or a structure."""
        try:
            self.pipe.send(what)
        except OSError:
            raise self._death() from None

    def give(self, todo: Iterator[tuple[int, Atoms]]) -> None:
        """Hand out the next structure, if there is one."""
        self.structure, atoms = next(todo, (None, None))
        if atoms is not None:
            self.send(atoms.copy())

    def take(self) -> Relaxed:
        """Return the structure, relaxed."""
        try:
            result: Relaxed | Exception = self.pipe.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if isinstance(result, AlChargeError):
            where = f"relaxing structure {self.structure}"
            result.where = f"{where}, {result.where}" if result.where else where
        if isinstance(result, Exception):
            raise result
        return result

    def end(self) -> None:
        """End the process at once."""
        self.pipe.close()
        self.process.kill()
        self.process.join()
        self.process.close()

    def _death(self) -> AlChargeError:
        self.process.join(10)
        place = "the first structure" if self.structure is None else f"structure {self.structure}"
        return AlChargeError(
            f"a process ended unexpectedly (exit code {self.process.exitcode})",
            where=f"relaxing {place}",
            remedy="try fewer processes: there may be too little memory for all of them",
        )


def _start(options: dict[str, Any]) -> _Worker:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, options), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _work(pipe: Connection, options: dict[str, Any]) -> None:
    """Relax what comes through the pipe until it is closed."""
    import torch

    torch.set_num_threads(1)
    try:
        committee = _unpacked(pipe.recv())
        while True:
            atoms = pipe.recv()
            try:
                (result,) = relax(committee, [atoms], **options)
                pipe.send(result)
            except AlChargeError as error:
                pipe.send(error)
            except Exception as error:
                # Whatever it is, the caller must learn of it, with the structure that it concerns.
                pipe.send(AlChargeError(f"{type(error).__name__}: {error}"))
    except (EOFError, OSError):
        return  # the caller has gone


def _packed(committee: Committee) -> Sent:
    from safetensors.torch import save

    members = []
    for member in committee.members:
        config, weights = member.state()
        members.append((json.dumps(config), save(weights)))
    return members, committee.spread_scale


def _unpacked(sent: Sent) -> Committee:
    from safetensors.torch import load

    from al_charge.potentials.potential import Potential

    members, scale = sent
    return Committee(
        [Potential.from_state(json.loads(config), load(weights)) for config, weights in members],
        spread_scale=scale,
    )


@contextmanager
def _inherited() -> Iterator[None]:
    """Give processes that are started one thread, and leave Ctrl-C to this one."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
