"""From a structure file to the parent structure that a campaign uses and stores."""

from __future__ import annotations

from pymatgen.core.structure import Structure

from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.parent import read_structure
from al_charge.crystal.roles import with_roles
from al_charge.crystal.space_group import symmetrized


def parent_structure(spec: HostSpec) -> Structure:
    """Return the parent structure of a host as it is used and stored.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.

    Returns
    -------
    Structure
        That of the file, its noise removed if the specification says so; what ``sites`` names is
        a property of its sites.

    Raises
    ------
    InputError
        If the file cannot be read, or ``sites`` names none of it.
    """
    structure = read_structure(spec.structure)
    if spec.symmetrize is not None:
        structure = symmetrized(structure, spec.symmetrize)
    return with_roles(spec, structure)
