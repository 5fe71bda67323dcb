"""MACE on the species vocabulary: every charge state is an element of its own to the network."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from io import StringIO
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.mace.long_range import ARGUMENTS, ewald_energies, require_les
from al_charge.potentials.mace.messages import Convolution, interact, pad_edges
from al_charge.potentials.networks.architecture import Architecture, AtomOutput
from al_charge.potentials.networks.graph import Graph
from al_charge.potentials.networks.spin import SpinInput
from al_charge.potentials.vocabulary import Vocabulary

CUTOFF_POWER = 5
"""Power p of the polynomial that takes messages smoothly to zero at the cutoff."""
READOUT_CHANNELS = 16
RADIAL_LAYERS = (64, 64, 64)
"""Hidden features of the networks that weigh messages by distance."""

_INTERACTIONS = {
    "residual": ("RealAgnosticResidualInteractionBlock",) * 2,
    "density": (
        "RealAgnosticDensityInteractionBlock",
        "RealAgnosticDensityResidualInteractionBlock",
    ),
}
_TRANSFORMS = {"none": "None", "agnesi": "Agnesi"}


class Mace(Architecture):
    """MACE without reference energies and scale, which every potential has around its network.

    Parameters
    ----------
    network
        A ``mace.modules.ScaleShiftMACE`` with zero atomic energies, unit scale and no shift, or
        a ``MACELES``, which also has latent charges.
    spin
        Features of moments for the atoms to start with; None where moments are not an input.
    """

    def __init__(self, network: nn.Module, spin: SpinInput | None = None) -> None:
        super().__init__()
        self.network = network
        self.spin = spin
        blocks = cast(Any, network).interactions
        self.convolutions = [Convolution(block.conv_tp) for block in blocks]

    @classmethod
    @override
    def build(cls, settings: MaceSettings, vocabulary: Vocabulary, mean_neighbours: float) -> Self:
        latent = settings.long_range == "les"
        if latent:
            require_les()
        modules = import_mace()
        from e3nn import o3

        first, others = _INTERACTIONS[settings.interaction]
        irreps = "+".join(
            f"{settings.channels}x{degree}{'eo'[degree % 2]}"
            for degree in range(settings.max_l + 1)
        )
        with _building():
            network = (modules.extensions.MACELES if latent else modules.ScaleShiftMACE)(
                atomic_inter_scale=1.0,
                atomic_inter_shift=0.0,
                atomic_energies=np.zeros((1, len(vocabulary))),
                # Pair repulsion and distance transforms read physical numbers; rows of one
                # element may repeat, since nothing here looks a row up by its number.
                atomic_numbers=vocabulary.numbers.tolist(),
                num_elements=len(vocabulary),
                avg_num_neighbors=mean_neighbours,
                r_max=float(settings.cutoff),
                num_bessel=settings.radial,
                num_polynomial_cutoff=CUTOFF_POWER,
                max_ell=settings.max_ell,
                interaction_cls=modules.interaction_classes[others],
                interaction_cls_first=modules.interaction_classes[first],
                num_interactions=settings.layers,
                hidden_irreps=o3.Irreps(irreps),
                MLP_irreps=o3.Irreps(f"{READOUT_CHANNELS}x0e"),
                correlation=settings.correlation,
                gate=nn.functional.silu,
                radial_MLP=list(RADIAL_LAYERS),
                distance_transform=_TRANSFORMS[settings.distance_transform],
                pair_repulsion=settings.pair_repulsion,
                **({"les_arguments": ARGUMENTS} if latent else {}),
            )
        spin = SpinInput(settings.channels, float(settings.cutoff)) if settings.spin else None
        return cls(network, spin)

    @override
    def forward(self, graph: Graph) -> AtomOutput:
        """Return the energy of every atom.

        This is the energy part of MACE's own forward pass, on the graph's edge vectors. MACE's own
        goes on to forces by way of positions, which would repeat what all networks share.
        """
        energies, layers = self._pass(graph)
        net = cast(Any, self.network)
        if not hasattr(net, "les"):
            return AtomOutput(energies)
        readouts = zip(net.les_readouts, layers[1:], strict=True)
        charges = sum(readout(features, None).squeeze(-1) for readout, features in readouts)
        return AtomOutput(energies, structures=ewald_energies(net.les, charges, graph))

    @override
    def features(self, graph: Graph) -> list[Tensor]:
        _, layers = self._pass(graph)
        channels = layers[0].shape[1]
        return [features[:, :channels] for features in layers]  # scalars come first

    def _pass(self, graph: Graph) -> tuple[Tensor, list[Tensor]]:
        """Return energies of atoms, and their features before the first layer and after each."""
        net = cast(Any, self.network)
        graph = graph.within(float(net.r_max))  # others would only cost time
        # MACE's vectors run from the sender of a message to its receiver.
        edges = torch.stack([graph.neighbours, graph.centres])
        vectors = -graph.vectors
        rows = nn.functional.one_hot(graph.species, len(net.atomic_numbers)).to(vectors.dtype)
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        padded = pad_edges(graph)
        angular = net.spherical_harmonics(vectors)[padded.edges] * padded.mask
        radial, _ = net.radial_embedding(
            lengths[padded.first], rows, edges[:, padded.first], net.atomic_numbers
        )
        features = net.node_embedding(rows)
        if self.spin is not None:
            features = features + self.spin(graph)
        layers = [features]
        energies = vectors.new_zeros(graph.n_atoms)
        if hasattr(net, "pair_repulsion_fn"):
            energies = net.pair_repulsion_fn(lengths, rows, edges, net.atomic_numbers)
        for block, convolution, product, readout in zip(
            net.interactions, self.convolutions, net.products, net.readouts, strict=True
        ):
            messages, skipped = interact(
                block, convolution, rows, features, graph, padded, angular, radial
            )
            features = product(node_feats=messages, sc=skipped, node_attrs=rows)
            layers.append(features)
            energies = energies + readout(features, None).squeeze(-1)
        return energies, layers

    @override
    def copy_rows(self, parent: Self, rows: Sequence[int | None]) -> None:
        copy_weights(parent.network, self.network, rows)
        if self.spin is not None and parent.spin is not None:
            self.spin.load_state_dict(parent.spin.state_dict())


def copy_weights(parent: nn.Module, child: nn.Module, rows: Sequence[int | None]) -> None:
    """Copy a MACE network's weights into another of the same shape but with other species.

    Parameters
    ----------
    parent
        A ``mace.modules.MACE`` network.
    child
        The same; its own weights stay where it has no parent row.
    rows
        For each species of the child the parent's row, or None.
    """
    source, target = parent.state_dict(), child.state_dict()
    old, new = len(source["atomic_numbers"]), len(target["atomic_numbers"])
    children = [row for row, origin in enumerate(rows) if origin is not None]
    parents = [origin for origin in rows if origin is not None]
    channels = target[_EMBEDDING].numel() // new
    for name, values in source.items():
        if name in _NOT_COPIED:
            continue
        if name == _EMBEDDING or _SKIP.search(name):
            # Blocks of (inputs, species, channels), flat; e3nn divides sums over inputs by the
            # root of their number, and species count among the inputs.
            blocks = values.view(-1, old, channels)[:, parents] * (new / old) ** 0.5
            target[name].view(-1, new, channels)[:, children] = blocks
        elif _CONTRACTION.search(name):
            target[name][children] = values[parents]
        else:
            target[name].copy_(values)


_NOT_COPIED = {
    "atomic_numbers",
    "atomic_energies_fn.atomic_energies",
    "scale_shift.scale",
    "scale_shift.shift",
}
_EMBEDDING = "node_embedding.linear.weight"
_SKIP = re.compile(r"\.skip_tp\.weight$")
_CONTRACTION = re.compile(r"\.contractions\.\d+\.weights(_max|\.\d+)$")


def import_mace() -> Any:
    """Return ``mace.modules``, without the side effects of its import on the process.

    Importing mace prints a line and switches off, for this process and all that it starts, torch's
    restriction of what ``torch.load`` may unpickle, because e3nn reads a table of its own when it
    is imported. Here that table is read first, within the restriction, and the switch is set back.

    Returns
    -------
    module
        ``mace.modules``.
    """
    before = os.environ.get(_UNRESTRICTED)
    try:
        with (
            redirect_stdout(StringIO()),
            torch.serialization.safe_globals([slice]),
            warnings.catch_warnings(action="ignore", category=DeprecationWarning),
        ):
            import_module("e3nn.o3")
            return import_module("mace.modules")
    finally:
        os.environ.pop(_UNRESTRICTED, None)
        if before is not None:
            os.environ[_UNRESTRICTED] = before


_UNRESTRICTED = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextmanager
def _building() -> Iterator[None]:
    """Build in single precision, and without compiling e3nn's layers.

    Compiled layers are not faster here, and they change in the last digits while they warm up,
    so that a resumed training would differ from an undisturbed one.
    """
    from e3nn import get_optimization_defaults, set_optimization_defaults

    precision = torch.get_default_dtype()
    compiled = get_optimization_defaults()["jit_script_fx"]
    torch.set_default_dtype(torch.float32)
    set_optimization_defaults(jit_script_fx=False)
    try:
        yield
    finally:
        torch.set_default_dtype(precision)
        set_optimization_defaults(jit_script_fx=compiled)
