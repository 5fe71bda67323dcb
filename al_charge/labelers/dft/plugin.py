"""What the plug-ins of all DFT codes share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from typing_extensions import override

from al_charge.crystal.charge_balance import end_member_species
from al_charge.crystal.host import Host
from al_charge.crystal.species import charge_of, element_of
from al_charge.crystal.valence import Windows
from al_charge.errors import InputError
from al_charge.labelers.convergence import ConvergenceParameter, Step, around, series
from al_charge.labelers.plugin import LabelerPlugin


class DftPlugin(LabelerPlugin):
    """Base of the plug-ins whose labelers tell charge states by moments."""

    @abstractmethod
    def known_windows(self, settings: Any) -> Windows:
        """Return the moments that the code is known to give.

        Parameters
        ----------
        settings
            Of this plug-in's own model.

        Returns
        -------
        Windows
            Of the states that have been seen with it.
        """

    def kpoint_parameter(self, settings: Any) -> ConvergenceParameter:
        """Return grids, spacings or densities of k-points around those in use.

        Parameters
        ----------
        settings
            Of this plug-in's own model.

        Returns
        -------
        ConvergenceParameter
            Of the grid where one is given, else of the spacing or VASP's density.
        """
        grid = settings.hashed_kpoints()
        if "spacing" in grid:
            values = around(grid["spacing"], (1.25, 1, 0.8, 0.63), 2)
            return series("k-point spacing", "kpoint_spacing", values, discrete=True)
        if "density" in grid:
            values = around(grid["density"], (0.5, 1, 2, 4), 1)
            return series("k-point density", "kpoint_density", values, discrete=True)
        grids = [[n + more for n in grid] for more in (-1, 0, 1, 2) if min(grid) + more > 0]
        steps = tuple(Step("x".join(map(str, grid)), {"kpoints": grid}) for grid in grids)
        return ConvergenceParameter("k-points", steps, of_cell=True)

    @override
    def windows(self, settings: Any) -> Windows:
        """Return the user's windows, and the code's defaults for other states."""
        return Windows(settings.moment_windows or {}).with_defaults(self.known_windows(settings))

    @override
    def check(self, host: Host, settings: Any) -> None:
        """Refuse windows of other states, and states for which there can be no window, too."""
        for given in settings.moment_windows or {}:
            ion = element_of(given), charge_of(given)
            same = [t for t in host.redox_species if (element_of(t), charge_of(t)) == ion]
            if same and not any(t in settings.moment_windows for t in same):
                raise InputError(
                    f"{given} is not a spin state of this host",
                    where="labeler.moment_windows",
                    remedy=f"write '{same[0]}'",
                )
        if settings.moment_windows and host.redox_species.isdisjoint(settings.moment_windows):
            raise InputError(
                "no window is given for a state of this host",
                where="labeler.moment_windows",
                remedy=f"give those of {', '.join(sorted(host.redox_species))}",
            )
        for given in settings.moments:
            of_element = [t for t in host.species if element_of(t) == element_of(given)]
            if of_element and given not in of_element:
                raise InputError(
                    f"{given} is not a state of this host",
                    where="labeler.moments",
                    remedy=f"write '{of_element[0]}'"
                    if len(of_element) == 1
                    else f"it has {', '.join(of_element)}",
                )
        self.windows(settings).check(host.redox_species - end_member_species(host))
        super().check(host, settings)
