"""A potential: a network with its vocabulary, energy baseline and scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from al_charge.potentials.baseline.fit import Baseline
from al_charge.potentials.baseline.prior import load_prior
from al_charge.potentials.networks.architecture import Architecture, evaluate
from al_charge.potentials.networks.graph import Graph, build_graph, chunks, collate
from al_charge.potentials.networks.neighbours import Neighbours, find_neighbours
from al_charge.potentials.plugin import POTENTIALS
from al_charge.potentials.prediction import Prediction
from al_charge.potentials.settings import PotentialSettings
from al_charge.potentials.state import SiteMeans, load_network, parts_of, state_of
from al_charge.potentials.vocabulary import Vocabulary

if TYPE_CHECKING:
    from al_charge.potentials.calculator import PotentialCalculator

Array = NDArray[np.float64]


class Potential:
    """A network together with everything that turns its output into energies.

    The energy of a cell is that of the prior, if there is one, plus the baseline's (reference
    energies of the atoms' species, pair terms), plus the sum of the network's outputs times
    ``scale``.

    Parameters
    ----------
    settings
        Of the architecture.
    vocabulary
        Species it knows.
    module
        The network.
    mean_neighbours
        Pairs per atom within the cutoff, which the network was built with.
    baseline
        Reference energies and pair terms.
    scale
        eV per unit of the network's output.
    typical_moments
        Site moment of every species in Bohr magnetons, shape (n_species,), which a spin-aware
        network uses for structures without an array ``moments``. Zeros if None.
    site_means
        Mean moments and charges of every charge state in the training labels, also of a blind
        potential; see `al_charge.potentials.state.SiteMeans`. Empty if None.
    """

    def __init__(
        self,
        settings: PotentialSettings,
        vocabulary: Vocabulary,
        module: Architecture,
        *,
        mean_neighbours: float,
        baseline: Baseline,
        scale: float,
        typical_moments: Array | None = None,
        site_means: SiteMeans | None = None,
    ) -> None:
        self.settings = settings
        self.vocabulary = vocabulary
        self.module = module
        self.mean_neighbours = mean_neighbours
        self.baseline = baseline
        self.scale = float(scale)
        if typical_moments is None:
            typical_moments = np.zeros(len(vocabulary))
        self.typical_moments = typical_moments
        self.site_means = site_means or {}

    @classmethod
    def fresh(
        cls,
        settings: PotentialSettings,
        vocabulary: Vocabulary,
        *,
        mean_neighbours: float,
        seed: int,
        baseline: Baseline | None = None,
        scale: float = 1.0,
        typical_moments: Array | None = None,
        site_means: SiteMeans | None = None,
    ) -> Potential:
        """Return an untrained potential; torch's own random state is left as it is.

        Parameters
        ----------
        settings
            Of the architecture.
        vocabulary
            Species it knows.
        mean_neighbours
            Pairs per atom within the cutoff, to normalise sums over neighbours.
        seed
            Of the weights.
        baseline
            Reference energies and pair terms; zero references alone if None.
        scale
            eV per unit of the network's output.
        typical_moments
            As for the class.
        site_means
            As for the class.

        Returns
        -------
        Potential
            On the CPU, in single precision.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs, too
            module = (
                POTENTIALS.of(settings).architecture().build(settings, vocabulary, mean_neighbours)
            )
        return cls(
            settings,
            vocabulary,
            module,
            mean_neighbours=mean_neighbours,
            baseline=baseline or Baseline(np.zeros(len(vocabulary))),
            scale=scale,
            typical_moments=typical_moments,
            site_means=site_means,
        )

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network."""
        return next(self.module.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.module.parameters()).device

    @property
    def cutoff(self) -> float:
        """Cutoff radius of one layer in angstrom."""
        return float(self.settings.cutoff)

    @property
    def spin_aware(self) -> bool:
        """Whether site moments are an input."""
        return POTENTIALS.of(self.settings).reads_moments(self.settings)

    @property
    def long_range(self) -> bool:
        """Whether energies depend on more than the neighbours of atoms."""
        return POTENTIALS.of(self.settings).reads_positions(self.settings)

    @property
    def neighbour_cutoff(self) -> float:
        """Distance in angstrom up to which all pairs of atoms are needed."""
        return max(self.cutoff, self.baseline.cutoff)

    def predict(
        self, structures: Sequence[Atoms], neighbours: Sequence[Neighbours] | None = None
    ) -> list[Prediction]:
        """Return energy, forces and stress of every structure, computed where the network is.

        Parameters
        ----------
        structures
            With ``species`` arrays.
        neighbours
            Pairs found before, one set per structure, at least to ``neighbour_cutoff``; found here
            if None.

        Returns
        -------
        list of Prediction
            One per structure.

        Raises
        ------
        AlChargeError
            If a structure has no species, or one that the potential does not know.
        """
        return list(self.predict_each(structures, neighbours))

    def predict_each(
        self, structures: Iterable[Atoms], neighbours: Sequence[Neighbours] | None = None
    ) -> Iterator[Prediction]:
        """Yield what ``predict`` returns, with one batch at a time in memory.

        Parameters
        ----------
        structures
            With ``species`` arrays; read as they are needed.
        neighbours
            As for ``predict``.

        Yields
        ------
        Prediction
            One per structure, in their order.
        """
        pairs: Iterator[Neighbours | None] = (
            repeat(None) if neighbours is None else iter(neighbours)
        )
        for chunk in chunks(structures):
            yield from self._predict(chunk, list(islice(pairs, len(chunk))))

    def _predict(
        self, structures: Sequence[Atoms], neighbours: Sequence[Neighbours | None]
    ) -> list[Prediction]:
        known = [
            find_neighbours(atoms, self.neighbour_cutoff) if pairs is None else pairs
            for atoms, pairs in zip(structures, neighbours, strict=True)
        ]
        graph = collate(
            [self.graph(atoms, pairs) for atoms, pairs in zip(structures, known, strict=True)]
        )
        found = evaluate(self.module, graph.to(self.dtype, self.device))
        energies, forces, stress = (
            self.scale * values.double().cpu().numpy()
            for values in (found.energies, found.forces, found.stress)
        )
        moments, charges = (
            None if values is None else values.double().cpu().numpy()
            for values in (found.moments, found.charges)
        )
        ends = np.cumsum([len(atoms) for atoms in structures])
        results = []
        for k, (atoms, pairs) in enumerate(zip(structures, known, strict=True)):
            base = self.predict_baseline(atoms, pairs)
            own = slice(ends[k] - len(atoms), ends[k])
            results.append(
                Prediction(
                    energy=base.energy + float(energies[k]),
                    forces=base.forces + forces[own],
                    stress=base.stress + stress[k],
                    moments=None if moments is None else moments[own],
                    charges=None if charges is None else charges[own],
                )
            )
        return results

    def graph(self, atoms: Atoms, neighbours: Neighbours) -> Graph:
        """Return a structure as the network sees it.

        A spin-aware network sees the array ``moments`` of the structure, in Bohr magnetons, or else
        the typical moments of its species.

        Parameters
        ----------
        atoms
            With a ``species`` array.
        neighbours
            Its pairs, at least to the cutoff.

        Returns
        -------
        Graph
            On the CPU, in the network's precision.
        """
        moments = atoms.arrays.get("moments") if self.spin_aware else None
        if self.spin_aware and moments is None:
            moments = self.typical_moments[self.vocabulary.index(atoms.arrays["species"])]
        return build_graph(
            atoms,
            self.vocabulary,
            self.cutoff,
            dtype=self.dtype,
            neighbours=neighbours,
            moments=moments,
            long_range=self.long_range,
        )

    def predict_baseline(self, atoms: Atoms, neighbours: Neighbours) -> Prediction:
        """Return the part of prior and baseline in a prediction.

        Parameters
        ----------
        atoms
            With a ``species`` array.
        neighbours
            Its pairs, at least to the cutoff of the pair terms.

        Returns
        -------
        Prediction
            Without moments and charges.
        """
        prior = self.predict_prior(atoms)
        species = self.vocabulary.index(atoms.arrays["species"])
        energy = prior.energy + float(self.baseline.references[species].sum())
        if self.baseline.pairs is None:
            return Prediction(energy, prior.forces, prior.stress)
        cell = np.asarray(atoms.cell)
        terms = self.baseline.pairs
        edges = neighbours.within(atoms.positions, cell, terms.cutoff, single=True)
        of_pairs = terms.evaluate(edges, species, float(abs(np.linalg.det(cell))))
        return Prediction(
            energy + of_pairs[0], prior.forces + of_pairs[1], prior.stress + of_pairs[2]
        )

    def predict_prior(self, atoms: Atoms) -> Prediction:
        """Return the part of the prior in a prediction.

        Parameters
        ----------
        atoms
            The structure.

        Returns
        -------
        Prediction
            Without moments and charges; zeros if there is no prior.
        """
        if self.settings.prior == "none":
            return Prediction(0.0, np.zeros((len(atoms), 3)), np.zeros((3, 3)))
        return load_prior(self.settings.prior).predict(atoms)

    def with_vocabulary(self, vocabulary: Vocabulary) -> Potential:
        """Return a potential with other species, each starting from its parent's rows.

        A species' parent is the same token, or else the nearest charge of the same element, so that
        energies of structures that this potential knows do not change, even if the new vocabulary
        is charge-aware and this one is blind.

        Parameters
        ----------
        vocabulary
            The new species.

        Returns
        -------
        Potential
            With this one's precision, on its device.
        """
        rows = vocabulary.parents(self.vocabulary)
        child = Potential.fresh(
            self.settings.model_copy(update={"charge_aware": vocabulary.charge_aware}),
            vocabulary,
            mean_neighbours=self.mean_neighbours,
            seed=0,
            baseline=self.baseline.with_rows(rows),
            scale=self.scale,
            typical_moments=np.array(
                [0.0 if row is None else self.typical_moments[row] for row in rows]
            ),
            site_means=self.site_means,
        )
        child.module.to(device=self.device, dtype=self.dtype)
        child.module.copy_rows(self.module, rows)
        return child

    def extend(self, species: Iterable[str]) -> Potential:
        """Return a potential that knows further species; energies of the old ones do not change.

        Parameters
        ----------
        species
            Tokens, known ones among them.

        Returns
        -------
        Potential
            Whose vocabulary begins with this one's.
        """
        return self.with_vocabulary(self.vocabulary.extended(species))

    def to(self, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Potential:
        """Return the same potential in another precision, on another device, or both.

        Parameters
        ----------
        dtype
            As it is if None.
        device
            As it is if None.

        Returns
        -------
        Potential
            A copy.
        """
        config, weights = self.state()
        other = Potential.from_state(config, weights)
        other.module.to(device=device or self.device, dtype=dtype or self.dtype)
        return other

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the potential as it is stored.

        Returns
        -------
        config : dict
            Configuration, JSON-serialisable.
        weights : dict of Tensor
            By name, on the CPU.
        """
        return state_of(
            self.module,
            {
                "settings": self.settings,
                "vocabulary": self.vocabulary,
                "mean_neighbours": self.mean_neighbours,
                "baseline": self.baseline,
                "scale": self.scale,
                "typical_moments": self.typical_moments if self.spin_aware else None,
                "site_means": self.site_means,
            },
        )

    @classmethod
    def from_state(cls, config: dict[str, Any], weights: dict[str, Tensor]) -> Potential:
        """Return the potential that ``state`` was called on, bit for bit.

        Parameters
        ----------
        config
            Configuration that ``state`` returned.
        weights
            Tensors that it returned.

        Returns
        -------
        Potential
            On the CPU.

        Raises
        ------
        AlChargeError
            If the state is of another version, or its weights do not fit.
        ValueError
            If the configuration or a tensor is malformed.
        """
        potential = cls.fresh(**parts_of(config, weights), seed=0)
        load_network(potential.module, config, weights)
        return potential

    def calculator(self) -> PotentialCalculator:
        """Return an ASE calculator.

        Returns
        -------
        PotentialCalculator
            It needs charge states if the potential is charge-aware.
        """
        from al_charge.potentials.calculator import PotentialCalculator

        return PotentialCalculator(self, charge_aware=self.vocabulary.charge_aware)
