"""The charge states of exported labels, told again from their moments and Bader charges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ase import Atoms

from al_charge.crystal.configuration import Configuration, from_atoms, set_species
from al_charge.crystal.host import Host
from al_charge.crystal.species import charge_of
from al_charge.crystal.valence import Audit, Windows, audit_run
from al_charge.crystal.windows import with_own
from al_charge.errors import InputError
from al_charge.loop.label_document import in_states_of


@dataclass(frozen=True)
class Disagreement:
    """A label whose audit does not find what the file says.

    Attributes
    ----------
    key
        Of the label.
    reason
        What the file says, and what was found.
    """

    key: str
    reason: str


class Auditor:
    """What the labels of one export are audited with.

    Parameters
    ----------
    document
        The JSON file of the export.
    host
        A supercell of the labels; species are the same in all.
    """

    def __init__(self, document: Mapping[str, Any], host: Host) -> None:
        engine = document.get("engine_windows", {"ranges": {}, "given": False})
        self._engine = _ranges(engine["ranges"])
        # Exports of earlier releases have the user's windows in place of the engine's.
        self._users = _ranges(engine.get("users", engine["ranges"] if engine["given"] else {}))
        self._newest = _ranges(document["moment_windows"])
        self._host = host

    def windows(self, record: Mapping[str, Any]) -> Windows:
        """Return the user's windows, then those of the label or newer ones, then the engine's.

        A label without windows of its own was audited with the engine's; those that were calibrated
        since, on the same end members, tell states apart more surely. Of the engine's, only those
        of the host's states count.

        Parameters
        ----------
        record
            What the JSON file holds of the label.

        Returns
        -------
        Windows
            Empty if the export has none.
        """
        if own := _ranges(record.get("windows", {})):
            calibrated = Windows(own, dict(record.get("bader_centres", {})))
        else:
            calibrated = Windows(self._newest)
        engine = {
            token: span for token, span in self._engine.items() if token in self._host.species
        }
        return Windows(self._users).with_defaults(calibrated).with_defaults(Windows(engine))

    def audit(
        self,
        host: Host,
        atoms: Atoms,
        requested: Sequence[str],
        told: Sequence[str | None],
        windows: Windows,
    ) -> Audit | str:
        """Audit a label, and compare that with what its file says.

        Parameters
        ----------
        host
            The supercell that it is in.
        atoms
            Its last frame.
        requested
            Species token of every atom, as requested.
        told
            As found, by the file; None where it is uncertain.
        windows
            Moments of the charge states.

        Returns
        -------
        Audit or str
            How they disagree, if they do. The states of an engine without moments are as told.
        """
        uncertain = bool(atoms.info["ambiguous"])
        moments = atoms.calc.results.get("magmoms")
        if moments is not None:
            windows = with_own(windows, requested, moments)
        if moments is None:
            found = _as_told(told, uncertain=uncertain)
        elif missing := sorted(set(self._host.redox_elements) - windows.elements):
            return f"there is no window for the moments of {', '.join(missing)}"
        else:
            found = audit_run(moments, requested, windows, atoms.arrays.get("bader_charges"))
            found = in_states_of(host, found, atoms.arrays["host_site"].tolist())
        if found.species is None and not uncertain:
            return f"the file says that its charge states are certain, but {found.describe()}"
        if found.species is not None and uncertain:
            return "its charge states are uncertain in the file, but its moments tell every one"
        differ = [
            f"atom {i} is {one or 'uncertain'} in the file, {state} by its moment"
            for i, (one, state) in enumerate(zip(told, found.species or told, strict=True))
            if one != state
        ]
        return "; ".join(differ) or found


def configuration_with(host: Host, atoms: Atoms, species: Sequence[str]) -> Configuration:
    """Return the configuration of the atoms of a label with some charge states.

    Parameters
    ----------
    host
        A supercell.
    atoms
        Matched to its sites by ``host_site``, or by position if they have none.
    species
        Species token of every atom.

    Returns
    -------
    Configuration
        Not in canonical form.

    Raises
    ------
    InputError
        If it is none of this supercell.
    """
    atoms = atoms.copy()
    set_species(atoms, list(species))
    return from_atoms(host, atoms)


def on_its_sites(host: Host, atoms: Atoms, requested: Sequence[str]) -> bool:
    """Return whether the final positions of a label are on the sites that its file tells.

    Parameters
    ----------
    host
        Its supercell.
    atoms
        Its last frame, with ``host_site``.
    requested
        Species token of every atom.

    Returns
    -------
    bool
        Whether they match the same sites.
    """
    asked = configuration_with(host, atoms, requested)
    moved = atoms.copy()
    del moved.arrays["host_site"]
    try:
        return configuration_with(host, moved, requested) == asked
    except InputError:
        return False


def _ranges(found: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    return {str(state): (float(low), float(high)) for state, (low, high) in found.items()}


def _as_told(told: Sequence[str | None], *, uncertain: bool) -> Audit:
    """Return what a file says of charge states that its engine's labels do not show."""
    unknown = tuple(i for i, species in enumerate(told) if species is None)
    charge = None if uncertain or unknown else sum(charge_of(str(species)) for species in told)
    return Audit(tuple(told), ambiguous=unknown, charge=charge)
