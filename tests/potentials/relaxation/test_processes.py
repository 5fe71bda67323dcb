"""Relaxing by several processes: the results of one by one, and an end in any case."""

from __future__ import annotations

import os
import signal

import numpy as np
import psutil
import pytest
from ase import Atoms

from al_charge.errors import AlChargeError
from al_charge.potentials.committee import Committee
from al_charge.potentials.painn import CpainnSettings
from al_charge.potentials.relaxation.one_by_one import relax
from al_charge.potentials.relaxation.processes import relax_in_processes
from al_charge.testing.potentials import small_salt, untrained

OPTIONS = {"fmax": 0.05, "max_steps": 12}


@pytest.fixture(scope="module")
def committee() -> Committee:
    """Return two potentials with heads and a scale."""
    settings = CpainnSettings(cutoff="3 A", channels=2, layers=1, radial=4)
    return Committee([untrained(settings, seed=seed) for seed in (0, 1)], spread_scale=1.7)


@pytest.fixture(scope="module")
def structures() -> list[Atoms]:
    return [small_salt(seed) for seed in range(4)]


def children() -> list[psutil.Process]:
    """Return the processes that relax, without what Python starts for itself."""
    found = psutil.Process().children(recursive=True)
    alive = [child for child in found if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if "spawn_main" in " ".join(child.cmdline())]


def test_the_same_bits_in_the_same_order(committee: Committee, structures: list[Atoms]) -> None:
    """A Ctrl-C that reaches the processes as well as this one does not end them by itself."""
    reported = []

    def report(done: int, of: int) -> None:
        reported.append((done, of))
        for child in children():
            child.send_signal(signal.SIGINT)

    expected = relax(committee, structures, **OPTIONS, cell=False, largest_displacement=0.1)
    found = relax_in_processes(
        committee,
        structures,
        **OPTIONS,
        cell=False,
        largest_displacement=0.1,
        processes=2,
        progress=report,
    )
    assert reported == [(k + 1, 4) for k in range(4)]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.energy, ours.spread) == (theirs.energy, theirs.spread)
        assert (ours.converged, ours.steps) == (theirs.converged, theirs.steps)
        assert np.array_equal(ours.atoms.positions, theirs.atoms.positions)
        assert np.array_equal(ours.atoms.cell, theirs.atoms.cell)
        assert list(ours.atoms.arrays["species"]) == list(theirs.atoms.arrays["species"])
        assert np.array_equal(ours.moments, theirs.moments)
        assert np.array_equal(ours.charges, theirs.charges)
    assert not children()


def test_a_structure_that_fails_is_named(committee: Committee, structures: list[Atoms]) -> None:
    strange = structures[1].copy()
    strange.arrays["species"][2] = "Mn2+"
    with pytest.raises(AlChargeError, match=r"structure 1.*does not know Mn2\+"):
        relax_in_processes(committee, [structures[0], strange], **OPTIONS, processes=1)
    assert not children()


def test_a_process_that_dies_is_no_reason_to_wait(
    committee: Committee, structures: list[Atoms]
) -> None:
    def kill(done: int, of: int) -> None:
        for child in children():
            child.kill()

    with pytest.raises(AlChargeError, match=r"relaxing structure \d: .*exit code -9"):
        relax_in_processes(committee, structures, **OPTIONS, processes=1, progress=kill)
    assert not children()


def test_ctrl_c_ends_all(committee: Committee, structures: list[Atoms]) -> None:
    def interrupt(done: int, of: int) -> None:
        assert children()
        os.kill(os.getpid(), signal.SIGINT)

    # Tests that a shell started in the background were told to ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            relax_in_processes(committee, structures, **OPTIONS, processes=2, progress=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not children()


def test_nothing_to_do(committee: Committee) -> None:
    assert relax_in_processes(committee, [], **OPTIONS, processes=2) == []
