"""A campaign in the database, for notebooks and scripts."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Self

from al_charge.api.hull import HullResult, hull_result
from al_charge.api.results import CostResult, JobsResult, LabelsResult, StatusResult
from al_charge.api.voltage import VoltageResult, voltage_result
from al_charge.loop import campaign as loop
from al_charge.loop.committee import load_committee
from al_charge.loop.energies import assessed_round
from al_charge.loop.spec import CampaignSpec
from al_charge.store.settings import DatabaseSettings
from al_charge.thermo.hull import Entry

if TYPE_CHECKING:
    from ase import Atoms
    from emmet.core.electrode import InsertionElectrodeDoc
    from pymatgen.apps.battery.insertion_battery import InsertionElectrode
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    from al_charge.api.chart import ChartResult
    from al_charge.api.label import Label
    from al_charge.potentials.committee import Committee


class Campaign:
    """What a campaign has found, and its status.

    Made by `open_campaign`, which is ``al_charge.open``. Everything is read from the database when
    it is asked for, so that a running campaign can be followed.

    Parameters
    ----------
    campaign
        The campaign as tasks see it.
    database
        Where it is stored; None for the embedded database.

    Examples
    --------
    >>> import al_charge as ac
    >>> campaign = ac.open("demo-1")
    >>> for step in campaign.voltage().steps:
    ...     print(f"x = {step.x_from} to {step.x_to}: {step.voltage:.2f} V")
    x = 0 to ...
    >>> campaign.hull().plot("hull.png")
    >>> campaign.ground_state("0").species.count("Fe3+")
    4
    >>> len(campaign.labels(where="x = 0 and Fe3+ >= 1").to_frame())
    1
    >>> len(campaign.labels()) == campaign.status().document["labels_used"]
    True
    >>> campaign.close()
    """

    def __init__(self, campaign: loop.Campaign, database: DatabaseSettings | None) -> None:
        self._campaign = campaign
        self._database = database

    @property
    def name(self) -> str:
        """The campaign's name."""
        return self._campaign.name

    @property
    def spec(self) -> CampaignSpec:
        """The campaign file, checked, with every default filled in."""
        return self._campaign.spec

    @property
    def state(self) -> str:
        """``running``, ``paused``, ``converged``, ``sampled``, ``exhausted`` or ``failed``."""
        return self._campaign.store.campaigns.state(self.name).value

    def hull(self, round: int | None = None) -> HullResult:
        """Return the hull after an assessed round.

        Parameters
        ----------
        round
            Its number; the last assessed round when None.

        Returns
        -------
        HullResult
            Prints as a table; ``vertices`` and ``entries`` hold energies in eV per formula unit,
            ``to_frame()`` is a table of pandas.

        Raises
        ------
        InputError
            If this round has not been assessed.
        AlChargeError
            If no round has been assessed yet.
        """
        return hull_result(self._campaign, round)

    def voltage(self, round: int | None = None) -> VoltageResult:
        """Return the voltage profile after an assessed round.

        Parameters
        ----------
        round
            Its number; the last assessed round when None.

        Returns
        -------
        VoltageResult
            Prints as a table; ``steps`` holds the plateaus in V against the working-ion metal.

        Raises
        ------
        InputError
            If this round has not been assessed.
        AlChargeError
            If no round has been assessed yet.
        """
        return voltage_result(self._campaign, round)

    def labels(self, where: str | None = None) -> LabelsResult:
        """Return the labels that the campaign uses.

        Parameters
        ----------
        where
            Condition that they fulfil, such as ``x = 1/2 and Fe2+ >= 4``; see the page on Python.
            All when None.

        Returns
        -------
        LabelsResult
            Prints as a table; ``to_frame()`` is one of pandas.

        Raises
        ------
        InputError
            If the condition cannot be read.
        """
        from al_charge.report.labels import labels_document

        return LabelsResult(self.name, labels_document(self._campaign, where))

    def label(self, which: str | Entry) -> Label:
        """Return one label.

        Parameters
        ----------
        which
            First characters of its id or of its configuration's hash, as many as only one has; or
            x, such as ``1/2``, for the lowest label there; or an entry of the hull.

        Returns
        -------
        Label
            Prints as a table; ``structure`` and ``atoms`` are its last geometry.

        Raises
        ------
        InputError
            If there is no such label, or several.
        """
        from al_charge.api.label import Label
        from al_charge.loop.lookup import find_label
        from al_charge.report.label import one_label_document
        from al_charge.store.labels import LAST_FRAME

        campaign = self._campaign
        key = find_label(campaign, which.key if isinstance(which, Entry) else which)
        (found,) = campaign.store.labels.read(LAST_FRAME, keys=[key])
        told = one_label_document(campaign, found)
        return Label(self.name, told, found, campaign.cells.of(found))

    def ground_state(self, x: str | Fraction) -> Label:
        """Return the lowest label of a composition.

        Parameters
        ----------
        x
            Working ions per formula unit, such as ``1/2``.

        Returns
        -------
        Label
            Prints as a table; ``structure`` and ``atoms`` are its last geometry.

        Raises
        ------
        InputError
            If no label there may be on the hull, or the campaign has no such composition.
        """
        from al_charge.loop.lookup import composition_of

        return self.label(str(composition_of(self._campaign, str(x))))

    def chart(self, kind: str) -> ChartResult:
        """Return a figure of the campaign.

        Parameters
        ----------
        kind
            ``parity``, ``error``, ``evolution``, ``volume``, ``lattice``, ``moments``, ``charges``
            or ``cost``; see `al-charge plot`.

        Returns
        -------
        ChartResult
            ``plot("parity.pdf")`` draws it; ``to_frame()`` has the numbers behind it.

        Raises
        ------
        InputError
            If there is no such figure.
        AlChargeError
            If the campaign has nothing to show in it.
        """
        from al_charge.api.chart import chart_result

        return chart_result(self._campaign, kind)

    def entries(self) -> list[ComputedStructureEntry]:
        """Return the labels that may be on a hull as pymatgen's entries.

        Returns
        -------
        list of ComputedStructureEntry
            Energies in eV per cell. ``parameters`` have run type, U and, for VASP, the POTCARs, so
            that pymatgen's phase diagrams and the Materials Project's corrections apply; ``data``
            has oxidation states and ids.
        """
        from al_charge.report.entries import entries_of

        return entries_of(self._campaign)

    def electrode(self) -> InsertionElectrode:
        """Return the electrode that the hull of the last assessed round makes.

        Returns
        -------
        InsertionElectrode
            pymatgen's; its voltages are those of `voltage`.

        Raises
        ------
        AlChargeError
            If no round has been assessed yet.
        """
        from al_charge.api.electrode import electrode_of

        return electrode_of(self._campaign)

    def electrode_document(self) -> InsertionElectrodeDoc:
        """Return the Materials Project's document of that electrode.

        Returns
        -------
        InsertionElectrodeDoc
            emmet's.

        Raises
        ------
        AlChargeError
            If emmet cannot build it, or finds other voltages than the campaign's hull has.
        """
        from al_charge.api.electrode import electrode_document

        return electrode_document(self._campaign)

    def status(self, runs: Path | None = None) -> StatusResult:
        """Return rounds, tasks and criteria of convergence, and the files on this machine.

        Parameters
        ----------
        runs
            Folder of the jobs' files; the default one when None.

        Returns
        -------
        StatusResult
            Prints as a panel.
        """
        from al_charge.fw.launchpad import connect_launchpad
        from al_charge.fw.run_folders import files_document
        from al_charge.fw.status import status_document
        from al_charge.fw.tasks import files_of
        from al_charge.store.embedded import default_home

        launchpad = connect_launchpad(self._database)
        with launchpad.connection:
            document = status_document(launchpad, self._campaign)
        files = files_of(runs or default_home() / "runs", self.name)
        return StatusResult(self.name, document | {"files": files_document(files)})

    def jobs(self, *, failed: bool = False) -> JobsResult:
        """Return the jobs of all rounds.

        Parameters
        ----------
        failed
            Only those that failed, or whose label was given up.

        Returns
        -------
        JobsResult
            Prints as a table; ``to_frame()`` is one of pandas.
        """
        from al_charge.fw.jobs import jobs_document, jobs_of
        from al_charge.fw.launchpad import connect_launchpad

        launchpad = connect_launchpad(self._database)
        with launchpad.connection:
            found = jobs_of(launchpad, self._campaign, failed=failed)
        return JobsResult(self.name, jobs_document(self._campaign, found))

    def cost(self) -> CostResult:
        """Return what the campaign has cost, and what it may still cost.

        Returns
        -------
        CostResult
            Prints as tables; ``to_frame()`` has the core hours of each round.
        """
        from al_charge.report.cost import cost_document

        return CostResult(self.name, cost_document(self._campaign))

    def report(self, path: Path | str) -> None:
        """Write the report of the campaign: one HTML file that opens without a network.

        Parameters
        ----------
        path
            File to write; an existing one is replaced.
        """
        from al_charge.api.report import write_report

        jobs = self.jobs(failed=True).rows()
        write_report(Path(path), self._campaign, self.status().document, jobs)

    def committee(self, round: int | None = None) -> Committee:
        """Return the potentials that a round trained.

        Parameters
        ----------
        round
            Its number; the last assessed round when None.

        Returns
        -------
        Committee
            Its mean is the prediction, its calibrated spread the uncertainty.

        Raises
        ------
        AlChargeError
            If the round has no committee, or no round has been assessed yet.
        """
        if round is None:
            round = assessed_round(self._campaign)[0].number
        return load_committee(self._campaign, round)

    def atoms(self, label: str | Entry) -> Atoms:
        """Return the last geometry of a label.

        Parameters
        ----------
        label
            Which one; see `label`.

        Returns
        -------
        ase.Atoms
            With an array ``species`` of tokens such as ``Fe3+``, as they were found; positions in
            angstrom.

        Raises
        ------
        InputError
            If there is no such label, or its charge states are ambiguous.
        """
        return self.label(label).atoms

    def close(self) -> None:
        """Close the connection to the database."""
        self._campaign.store.close()

    def __enter__(self) -> Self:
        """Return the campaign itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def __repr__(self) -> str:
        """Return the name and the state."""
        return f"<Campaign '{self.name}': {self.state}>"
