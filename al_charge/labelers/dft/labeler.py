"""What all DFT labelers share, whatever the code."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms
from ase.build import bulk
from typing_extensions import override

from al_charge.crystal.valence import Audit, Windows, audit_run
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.dft.settings import DftSettings
from al_charge.labelers.protocol import Labeler, Reading, Relax


class DftLabeler(Labeler):
    """Base of the labelers whose moments tell the charge states.

    Parameters
    ----------
    settings
        The engine's settings.
    known
        Moments of the charge states as the engine is known to give them, for want of windows of
        the user or of the campaign's end members.
    """

    def __init__(self, settings: DftSettings, known: Windows) -> None:
        self._dft = settings
        self._known = known
        given = settings.moment_windows
        self._given = Windows(given) if given is not None else None

    @property
    @override
    def relax(self) -> Relax:
        return self._dft.relax

    @property
    @override
    def tries(self) -> int:
        """One where the shells are not to be distorted."""
        return self._dft.tries if self._dft.shell_distortion > 0 else 1

    @override
    def audit(self, reading: Reading, species: Sequence[str], windows: Windows | None) -> Audit:
        """Determine charge states from moments, checked by Bader charges.

        The user's windows come first, then those calibrated on the campaign's end members, then
        those that the engine is known to give. Where an element is asked for in one state alone
        that has none (Co4+ in CoO2), the run's own moments calibrate it: they must agree with each
        other and with the spin of that state.
        """
        if reading.moments is None:
            raise AlChargeError("the run has no moments", where=reading.engine)
        bader = reading.bader.net if reading.bader is not None else None
        used = self._given or Windows({})
        for others in (windows, self._known):
            used = used.with_defaults(others or Windows({}))
        return audit_run(reading.moments, species, used, bader)


def metal_crystal(ion: str) -> Atoms:
    """Return the primitive cell of a metal at its lattice constant in experiment.

    Parameters
    ----------
    ion
        Element of the working ion.

    Returns
    -------
    ase.Atoms
        One atom or few, periodic.

    Raises
    ------
    InputError
        If the element's structure is not tabulated in ASE.
    """
    try:
        atoms: Atoms = bulk(ion)
    except (ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"the crystal structure of metallic {ion} is not known: {error}",
            where="host.working_ion",
        ) from error
    return atoms
