"""What an engine says of itself, and all engines that are installed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from al_charge.crystal.host import Host
from al_charge.crystal.valence import Windows
from al_charge.labelers.convergence import ConvergenceParameter
from al_charge.labelers.foreign import ALL_UNTOLD, Comparison, ForeignRun
from al_charge.labelers.method import Method
from al_charge.labelers.output import Output
from al_charge.labelers.protocol import Labeler, Relax
from al_charge.plugins import ChosenByKind, Plugin, Plugins, PluginSettings
from al_charge.units import Force

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import ArrayLike


class EngineSettings(PluginSettings):
    """What the settings of every labeler have.

    Attributes
    ----------
    relax
        What the engine moves before it gives a label.
    fmax
        Largest force after a relaxation, eV/angstrom.
    """

    relax: Relax
    fmax: Force

    @property
    def input_file(self) -> Path | None:
        """A file that the engine reads; the database keeps it, so that workers have it.

        None for an engine that needs none of the user's.
        """
        return None

    def pinned(self) -> Self:
        """Return these settings as they are stored: a file by its name and its checksum.

        Returns
        -------
        EngineSettings
            The settings themselves for an engine without an `input_file`.
        """
        return self

    def reading_from(self, path: Path) -> Self:
        """Return these settings with their `input_file` elsewhere.

        Parameters
        ----------
        path
            The same file on this machine.

        Returns
        -------
        EngineSettings
            The settings themselves for an engine without an `input_file`.
        """
        return self

    def with_defaults_for(self, elements: Collection[str]) -> Self:
        """Return these settings with the defaults that depend on what the material is made of.

        Parameters
        ----------
        elements
            Every element of a campaign, the working ion included.

        Returns
        -------
        EngineSettings
            The settings themselves for an engine without such defaults.
        """
        return self

    @property
    def spin_runs(self) -> int:
        """Runs in other spin states and magnetic orders of each end member, at most.

        None for an engine without moments.
        """
        return 0

    def magnetic_orders(self) -> dict[str, Self]:
        """Return these settings for runs in other spin states, by magnetic order.

        Returns
        -------
        dict
            First their own order, then the others that the engine has; empty for an engine without
            moments.
        """
        return {}

    def of_elements(self, elements: Collection[str]) -> Self:
        """Return these settings without entries of tables that are about other elements.

        Parameters
        ----------
        elements
            Every element of a campaign, the working ion included.

        Returns
        -------
        EngineSettings
            The settings themselves for an engine without tables by element.
        """
        return self


class LabelerPlugin(Plugin):
    """An engine that makes labels.

    Attributes
    ----------
    settings
        Model of its section of a campaign file.
    output_files
        Which outputs of runs outside al-charge are read, such as ``OUTCAR, vasprun.xml``; empty if
        none.
    densities
        Names of its files that hold densities on a grid. They are needed until a job has
        ``bader.json``.
    """

    settings: ClassVar[type[EngineSettings]]
    output_files: ClassVar[str] = ""
    densities: ClassVar[Set[str]] = frozenset()

    @abstractmethod
    def make(self, settings: Any) -> Labeler:
        """Return the engine, importing it only now.

        Parameters
        ----------
        settings
            Of this plug-in's own model.

        Returns
        -------
        Labeler
            Ready to label.
        """

    def remark(self, settings: Any) -> str:
        """Return what is told wherever results of the engine are shown.

        Parameters
        ----------
        settings
            Of this plug-in's own model.

        Returns
        -------
        str
            One line; empty if there is nothing to tell.
        """
        return ""

    def disposable(self, settings: Any) -> Set[str]:
        """Return the names of files that only a run that goes on needs, such as wave functions.

        Parameters
        ----------
        settings
            Of this plug-in's own model.

        Returns
        -------
        set of str
            None of them is needed for a label that is stored, nor to read its run again.
        """
        return frozenset()

    def windows(self, settings: Any) -> Windows | None:
        """Return the moments by which the engine tells charge states, where none are calibrated.

        Parameters
        ----------
        settings
            Of this plug-in's own model.

        Returns
        -------
        Windows or None
            None for an engine without spin.
        """
        return None

    def convergence_parameters(self, settings: Any) -> Sequence[ConvergenceParameter]:
        """Return the settings that results converge with, to be tried by `al-charge converge`.

        Parameters
        ----------
        settings
            Of this plug-in's own model; the steps lie around its values.

        Returns
        -------
        sequence of ConvergenceParameter
            None at all for an engine with nothing to converge.
        """
        return ()

    def method(self, physical: Mapping[str, Any]) -> Method | None:
        """Return the functional and U of a label.

        Parameters
        ----------
        physical
            Settings of the label, as `Labeler.settings` returned them.

        Returns
        -------
        Method or None
            None for an engine without electrons, or one that does not say.
        """
        return None

    def find_output(self, path: Path) -> Path | None:
        """Return the output of this engine that a path stands for.

        Parameters
        ----------
        path
            A file or a folder.

        Returns
        -------
        Path or None
            The file to read, which may be ``path`` itself; None if there is none of this engine.
        """
        return None

    def read_output(self, file: Path, *, bader: bool) -> Output:
        """Read the output of any run of this engine.

        Parameters
        ----------
        file
            As `find_output` returned it.
        bader
            Whether to analyse the densities beside it.

        Returns
        -------
        Output
            The last geometry, with what was found there.

        Raises
        ------
        NotImplementedError
            If the engine's outputs are not read; `find_output` finds none then.
        """
        raise NotImplementedError(self.kind)

    def find_foreign(self, folder: Path) -> list[Path]:
        """Return the runs of this engine in a folder that may become labels.

        Parameters
        ----------
        folder
            Not those in it.

        Returns
        -------
        list of Path
            What `read_foreign` reads; empty for an engine whose runs are not read.
        """
        return []

    def read_foreign(self, path: Path) -> ForeignRun:
        """Read a run that al-charge has not made.

        Parameters
        ----------
        path
            As `find_foreign` returned it.

        Returns
        -------
        ForeignRun
            Of this plug-in's kind.

        Raises
        ------
        NotImplementedError
            If the engine's runs are not read; `find_foreign` finds none then.
        """
        raise NotImplementedError(self.kind)

    def compare(
        self, settings: Any, run: ForeignRun, atoms: Atoms, vectors: ArrayLike
    ) -> Comparison:
        """Compare the settings of a run that al-charge has not made with those of a campaign.

        Parameters
        ----------
        settings
            Of this plug-in's own model.
        run
            The run.
        atoms
            Its geometry in the campaign's vectors, with the charge states that were found.
        vectors
            Those vectors in units of the run's own, shape (3, 3).

        Returns
        -------
        Comparison
            By default that nothing is known.
        """
        return Comparison(untold=ALL_UNTOLD)

    def check(self, host: Host, settings: Any) -> None:
        """Refuse what could not be labelled, before anything is paid for.

        Parameters
        ----------
        host
            Of the campaign.
        settings
            Of this plug-in's own model.

        Raises
        ------
        InputError
            If the engine lacks parameters for a species of the host, or the settings do not suit
            it.
        NotInstalledError
            If a program or dataset is not installed on this machine.
        """
        self.make(settings).check(host.species, host.working_ion)

    def check_machine(self, settings: Any) -> None:
        """Refuse a machine that cannot run the engine, as a worker would when it runs a label.

        Campaigns are submitted from login nodes, so `check` leaves out what these often lack.

        Parameters
        ----------
        settings
            Of this plug-in's own model.

        Raises
        ------
        NotInstalledError
            If the engine's program is not there.
        """


LABELERS: Plugins[LabelerPlugin] = Plugins("al_charge.labelers", LabelerPlugin, "labeler")
"""All labelers that are installed."""

LabelerSettings = Annotated[EngineSettings, ChosenByKind(lambda: LABELERS)]
"""The settings of any installed labeler; ``kind`` says which."""


def method_of(physical: Mapping[str, Any]) -> Method | None:
    """Return the functional and U of a label of any engine.

    Parameters
    ----------
    physical
        Settings of the label, as `Labeler.settings` returned them.

    Returns
    -------
    Method or None
        None where the engine is not installed, has none, or the settings are not as it writes them.
    """
    kind = str(physical.get("engine"))
    try:
        return LABELERS.get(kind).method(physical) if kind in LABELERS.kinds else None
    except KeyError:
        return None
