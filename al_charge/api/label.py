"""One label of a campaign: what is known of it, and its structure."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from al_charge.api.results import Result
from al_charge.crystal.host import Host
from al_charge.crystal.species import charge_of, element_of, unpaired_electrons
from al_charge.errors import InputError
from al_charge.loop import campaign as loop
from al_charge.report import style
from al_charge.store.documents import Geometry, LabelDoc

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core.structure import Structure
    from rich.console import RenderableType


@dataclass(frozen=True)
class Label(Result):
    """One label of a campaign.

    Attributes
    ----------
    campaign
        The campaign's name.
    document
        What ``al-charge show CAMPAIGN ID --json`` prints.
    """

    campaign: str
    document: dict[str, Any] = field(repr=False)
    _label: LabelDoc = field(repr=False)
    _host: Host = field(repr=False)

    @property
    def key(self) -> str:
        """The label's id."""
        return self._label.key

    @property
    def energy(self) -> float:
        """Total energy, eV per formula unit."""
        return float(self.document["energy_per_formula"])

    @property
    def species(self) -> list[str]:
        """Charge state of every atom as found, such as ``Fe3+``; ``Fe?`` where uncertain."""
        return self._label.states_found

    def table(self) -> RenderableType:
        """Return what `al-charge show CAMPAIGN ID` prints.

        Returns
        -------
        rich renderable
            What the label is, then its redox sites.
        """
        from al_charge.report.label import one_label_table

        return one_label_table(self.document)

    @cached_property
    def atoms(self) -> Atoms:
        """The label's last geometry as ASE Atoms, with its results.

        The array ``species`` has tokens such as ``Fe3+`` as they were found; energy (eV), forces
        (eV/angstrom), stress (eV/angstrom^3) and moments (Bohr magnetons) are those of the label.

        Raises
        ------
        InputError
            If the label's charge states are ambiguous or delocalised.
        """
        from ase.calculators.singlepoint import SinglePointCalculator
        from ase.stress import full_3x3_to_voigt_6_stress

        label, last = self._label, self._label.frames[-1]
        if label.resolved is None:
            doubt = "delocalised" if label.delocalised else "ambiguous"
            raise InputError(
                f"its charge states are {doubt}",
                where=f"label {label.key}",
                remedy="its 'structure' has those that are known",
            )
        atoms = loop.atoms_of(
            Geometry(
                numbers=label.numbers,
                positions=last.positions,
                cell=last.cell,
                species=label.resolved,
                host_site=label.host_site,
            )
        )
        results: dict[str, Any] = {"energy": last.energy, "forces": np.array(last.forces)}
        if last.stress is not None:
            results["stress"] = full_3x3_to_voigt_6_stress(np.array(last.stress))
        if label.moments is not None:
            results["magmoms"] = np.array(label.moments)
        atoms.calc = SinglePointCalculator(atoms, **results)
        return atoms

    @cached_property
    def structure(self) -> Structure:
        """The label's last geometry as a pymatgen structure.

        Redox ions have their oxidation state and, as spin, their unpaired electrons with the sign
        of the moment that was computed; an ion whose state is uncertain is an element. Site
        properties are ``magmom`` (Bohr magnetons) and ``bader_charge`` (e, cations positive), where
        the engine gives them.
        """
        from pymatgen.core.lattice import Lattice
        from pymatgen.core.periodic_table import Element, Species
        from pymatgen.core.structure import Structure

        label, last = self._label, self._label.frames[-1]
        moments = label.moments or [0.0] * len(label.numbers)
        redox = {site["atom"] for site in self.document["sites"]}
        ions: list[Any] = []
        for atom, (token, moment) in enumerate(zip(self.species, moments, strict=True)):
            if token.endswith("?"):
                ions.append(Element(token[:-1]))
                continue
            spin = unpaired_electrons(token) * (-1 if moment < 0 else 1) if atom in redox else None
            ions.append(Species(element_of(token), charge_of(token), spin=spin))
        properties = {
            name: values
            for name, values in (("magmom", label.moments), ("bader_charge", label.bader))
            if values is not None
        }
        return Structure(
            Lattice(cast(Any, last.cell)),
            ions,
            last.positions,
            coords_are_cartesian=True,
            site_properties=properties,
        )

    def write(self, path: Path | str) -> None:
        """Write the structure to a file with its charge states.

        Parameters
        ----------
        path
            ``.cif``, ``.extxyz``, or a name with ``POSCAR`` or ``.vasp`` in it. An existing file is
            replaced.

        Raises
        ------
        InputError
            If its name tells no format, or charge states are ambiguous or delocalised.
        """
        from al_charge.crystal.structure_output import kind_of, write_structure

        write_structure(Path(path), self.atoms, kind_of(Path(path)))

    def plot(self, path: Path | str, width: style.Width = "single") -> None:
        """Draw the structure, its redox ions told apart by their charge states.

        Parameters
        ----------
        path
            A file that ends in ``.png``, ``.svg`` or ``.pdf``.
        width
            Of a column of a journal (``single``, 86 mm) or of its page (``double``, 178 mm).

        Raises
        ------
        InputError
            If it ends in anything else.
        """
        from al_charge.report.canvas import write_figure
        from al_charge.report.names import mathtext
        from al_charge.report.structure_picture import structure_figure

        path = Path(path)
        style.check_image(path)
        said = self.document
        title = f"{mathtext(said['formula'])}, label {self.key[:8]}\n"
        title += f"{said['labeler']}, campaign {self.campaign}"
        write_figure(structure_figure(self._label, self._host, title=title, width=width), path)
