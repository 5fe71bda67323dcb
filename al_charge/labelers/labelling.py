"""Make a label: prepare, run, read, audit; steered harder until the requested order is found."""

from __future__ import annotations

import logging
from pathlib import Path

from ase import Atoms

from al_charge.crystal.shells import mixed_sites
from al_charge.crystal.species import tokens_of
from al_charge.crystal.valence import Audit, Windows
from al_charge.errors import AlChargeError, CrashedError, InputError, UnfinishedError
from al_charge.labelers.protocol import Attempt, Labeler, LabelResult, Reading, Relax

_log = logging.getLogger("al_charge.labelers")


def make_label(
    labeler: Labeler,
    atoms: Atoms,
    directory: Path,
    *,
    relax: Relax | None = None,
    windows: Windows | None = None,
) -> LabelResult:
    """Label one geometry.

    Each try steers harder than the one before; the first whose energy may be compared and that
    finds the charge order that was asked for is the label. If none does, the label is the lowest in
    energy of those whose charge states are certain, else of all: it is what it is. Where several
    tries all end with sites that share a charge, it is delocalised.

    Parameters
    ----------
    labeler
        The engine.
    atoms
        Atoms with a ``species`` array and initial moments. Not modified.
    directory
        Folder for the engine's files, one subfolder for each try. Called again with the same job
        after an interruption, it continues where that one stopped.
    relax
        What may move; None for the labeler's own default.
    windows
        See `Labeler.audit`.

    Returns
    -------
    LabelResult
        Of the try that is kept, with the starts of all.

    Raises
    ------
    AlChargeError
        If no try gave a result; the reason is the last one's.
    UnfinishedError
        If time was up; called again, it continues.
    CrashedError
        If the engine was killed, or what it wrote cannot be read; called again, it runs again.
    InputError
        If the atoms have no species, or the engine refuses them.
    """
    species = tuple(tokens_of(atoms))
    found: list[tuple[Reading, Audit, Path]] = []
    attempts: list[Attempt] = []
    failure: AlChargeError | None = None
    # Without two states of an element there is no order to steer towards.
    for number in range(labeler.tries if mixed_sites(atoms) else 1):
        folder = directory / f"try-{number}"
        _log.info("try %d in %s", number + 1, folder)
        labeler.prepare(atoms, folder, relax=relax or labeler.relax, attempt=number)
        try:
            labeler.run(folder)
            reading = labeler.read(folder)
        except (InputError, UnfinishedError, CrashedError):
            raise  # none of which another way of steering mends
        except AlChargeError as error:
            failure = error
            _log.warning("try %d failed: %s", number + 1, error)
            attempts.append(Attempt(f"try {number + 1}", str(error)))
            continue
        audit = labeler.audit(reading, species, windows)
        found.append((reading, audit, folder))
        attempts += reading.attempts
        if audit.species == species and reading.converged and not reading.unusable:
            break
    if not found:
        assert failure is not None
        raise failure
    reading, audit, folder = min(found, key=lambda one: _rank(one[0], one[1], species))
    # One try alone, or one that failed, leaves open whether another start would end elsewhere.
    delocalised = failure is None and len(found) > 1 and all(_shares(*one) for one in found)
    return LabelResult(species, reading, audit, tuple(attempts), folder, delocalised)


def progress(labeler: Labeler, directory: Path) -> int:
    """Return how far a label has got, in all of its tries.

    Parameters
    ----------
    labeler
        The engine.
    directory
        As for `make_label`.

    Returns
    -------
    int
        See `Labeler.progress`.
    """
    return sum(steps_done(labeler, folder) for folder in directory.glob("try-*"))


def steps_done(labeler: Labeler, directory: Path) -> int:
    """Return how far one job has got.

    Parameters
    ----------
    labeler
        The engine; one that does not derive from `Labeler` may lack `progress`.
    directory
        Folder of the job.

    Returns
    -------
    int
        See `Labeler.progress`; 0 where the engine does not tell.
    """
    told = getattr(labeler, "progress", None)
    return 0 if told is None else int(told(directory))


def _shares(reading: Reading, audit: Audit, _: Path) -> bool:
    """Return whether a try ended, converged, with sites that share a charge."""
    return audit.delocalised and reading.converged and not reading.unusable


def _rank(reading: Reading, audit: Audit, species: tuple[str, ...]) -> tuple[bool | float, ...]:
    """Return what the best try has least of."""
    incomparable = not reading.converged or bool(reading.unusable)
    uncertain = audit.species is None
    return incomparable, audit.species != species, uncertain, reading.frames[-1].energy
