"""Foundation models: a MACE trained elsewhere as the start of a campaign's potentials.

MACE's own files are pickled torch modules, which run code when they are read. Nothing here reads
them: a model that a user has loaded is converted to a blind potential (``from_mace``) and written
as configuration and weights, and only such files are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from torch import Tensor, nn

from al_charge.errors import AlChargeError, InputError, NotInstalledError
from al_charge.potentials.baseline.fit import Baseline
from al_charge.potentials.checkpoint import write_checkpoint
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.mace.network import Mace, copy_weights, import_mace
from al_charge.potentials.model_file import read_members
from al_charge.potentials.networks.neighbours import find_neighbours
from al_charge.potentials.potential import Potential
from al_charge.potentials.vocabulary import Vocabulary

_SHAPE = (
    "cutoff",
    "channels",
    "layers",
    "max_ell",
    "max_l",
    "correlation",
    "radial",
    "interaction",
    "distance_transform",
    "pair_repulsion",
    "long_range",
)
"""Settings that a campaign must share with its foundation model."""

_FIELD = "potential.foundation"


def read_foundation(path: Path, settings: MaceSettings, species: Iterable[str]) -> Potential:
    """Return the potential that training starts from.

    Parameters
    ----------
    path
        File that ``write_foundation`` wrote.
    settings
        Of the campaign's potential.
    species
        Tokens that it must know; all charge states of an element start from the element's row.

    Returns
    -------
    Potential
        With the campaign's species.

    Raises
    ------
    InputError
        If the file is not a foundation model, has another shape than the settings, or lacks an
        element.
    """
    try:
        (parent,) = read_members(path)[0]
    except NotInstalledError:
        raise
    except (InputError, ValueError) as error:
        raise InputError(
            f"no foundation model in {path}: {getattr(error, 'what', 'it is a committee')}",
            where=_FIELD,
            remedy="convert one with examples/convert_mace_foundation.py",
        ) from error
    for name in _SHAPE:
        theirs, ours = (getattr(s, name, None) for s in (parent.settings, settings))
        if theirs != ours:
            raise InputError(
                f"the foundation model has {name} {theirs}, not {ours}",
                where=f"potential.{name}",
                remedy=f"set {name} to {theirs}",
            )
    vocabulary = Vocabulary.of(species, charge_aware=settings.charge_aware)
    rows = vocabulary.parents(parent.vocabulary)
    if lacking := [t for t, row in zip(vocabulary.tokens, rows, strict=True) if row is None]:
        raise InputError(f"the foundation model does not know {', '.join(lacking)}", where=_FIELD)
    return parent.with_vocabulary(vocabulary)


def write_foundation(path: Path, potential: Potential) -> None:
    """Write a potential as a file that ``read_foundation`` reads.

    Parameters
    ----------
    path
        Replaced in one step if it is there.
    potential
        The potential.
    """
    config, weights = potential.state()
    write_checkpoint(path, weights, config)


def from_mace(model: nn.Module) -> Potential:
    """Return a loaded MACE model as a blind potential that knows the model's elements.

    Parameters
    ----------
    model
        A ``mace.modules.ScaleShiftMACE``.

    Returns
    -------
    Potential
        With the same energies, in the model's precision.

    Raises
    ------
    AlChargeError
        If the model has parts that potentials here do not have.
    """
    import_mace()
    net: Any = model
    if type(model).__name__ != "ScaleShiftMACE" or len(net.heads) != 1:
        raise AlChargeError("not a ScaleShiftMACE with one head", where="foundation")
    energies = net.atomic_energies_fn.atomic_energies.detach().double().cpu().numpy().ravel()
    potential = Potential.fresh(
        _settings(net),
        Vocabulary(tuple(chemical_symbols[z] for z in net.atomic_numbers.tolist()), False),
        mean_neighbours=float(net.interactions[0].avg_num_neighbors),
        seed=0,
        baseline=Baseline(energies + float(net.scale_shift.shift)),
        scale=float(net.scale_shift.scale),
    )
    potential.module.to(next(model.parameters()).dtype)
    _copy(model, potential.module)
    _compare(model, potential)
    return potential


def _settings(net: Any) -> MaceSettings:
    hidden = net.products[0].linear.irreps_out
    transform = type(getattr(net.radial_embedding, "distance_transform", None)).__name__
    return MaceSettings.model_validate(
        {
            "charge_aware": False,
            "cutoff": f"{float(net.r_max)!r} A",
            "channels": net.node_embedding.linear.irreps_out.dim,
            "layers": len(net.interactions),
            "max_ell": net.spherical_harmonics.irreps_out.lmax,
            "max_l": hidden.lmax,
            "correlation": len(net.products[0].symmetric_contractions.contractions[0].weights) + 1,
            "radial": net.radial_embedding.out_dim,
            "interaction": "density" if hasattr(net.interactions[0], "density_fn") else "residual",
            "distance_transform": "agnesi" if transform == "AgnesiTransform" else "none",
            "pair_repulsion": hasattr(net, "pair_repulsion_fn"),
        }
    )


def _copy(model: nn.Module, module: nn.Module) -> None:
    assert isinstance(module, Mace)
    theirs, ours = (
        # Whether the radial functions are trained makes them a parameter or a buffer.
        {n: p.shape for n, p in net.named_parameters() if "bessel" not in n}
        for net in (model, module.network)
    )
    if odd := sorted({name for name, _ in theirs.items() ^ ours.items()}):
        raise AlChargeError(
            f"the model's '{odd[0]}' is not that of potentials here", where="foundation"
        )
    copy_weights(model, module.network, range(len(model.get_buffer("atomic_numbers"))))


def _compare(model: nn.Module, potential: Potential) -> None:
    """Refuse a model whose energies differ: it has a part that does not show in its weights."""
    symbols = potential.vocabulary.tokens
    atoms = Atoms(
        [symbols[i * len(symbols) // 8] for i in range(8)],
        positions=2.2 * np.stack(np.meshgrid(*[[0, 1]] * 3), axis=-1).reshape(-1, 3),
        cell=np.full(3, 4.4),
        pbc=True,
    )
    atoms.rattle(0.1, seed=0)
    tokens = np.array([f"{symbol}0+" for symbol in atoms.symbols])
    atoms.set_array("species", tokens)
    theirs = model(mace_input(atoms, potential), compute_force=False)["energy"].item()
    ours = potential.predict([atoms])[0].energy
    tolerance = 1e-4 if potential.dtype == torch.float32 else 1e-9
    if abs(theirs - ours) > tolerance * max(1.0, abs(theirs)):
        raise AlChargeError(
            f"converted, the model would give {ours:.6f} eV for a test structure, not "
            f"{theirs:.6f} eV",
            where="foundation",
        )


def mace_input(atoms: Atoms, potential: Potential) -> dict[str, Tensor]:
    """Return one structure as MACE's own models take it.

    Parameters
    ----------
    atoms
        Structure with a ``species`` array.
    potential
        Gives cutoff, rows and precision.

    Returns
    -------
    dict of Tensor
        By the names that MACE uses.
    """
    pairs = find_neighbours(atoms, potential.cutoff)
    rows = torch.as_tensor(potential.vocabulary.index(atoms.arrays["species"]))
    real = {
        "positions": atoms.positions,
        "cell": np.asarray(atoms.cell),
        "unit_shifts": pairs.shifts,
        "shifts": pairs.shifts @ np.asarray(atoms.cell),
        "node_attrs": nn.functional.one_hot(rows, len(potential.vocabulary)),
    }
    return {name: torch.as_tensor(value, dtype=potential.dtype) for name, value in real.items()} | {
        "edge_index": torch.as_tensor(np.stack([pairs.centres, pairs.neighbours])),
        "batch": torch.zeros(len(atoms), dtype=torch.int64),
        "ptr": torch.tensor([0, len(atoms)]),
    }
