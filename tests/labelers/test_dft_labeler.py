"""What DFT labelers share: which windows moments are read by, where a run starts, and how."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms

from al_charge.crystal.configuration import configuration, set_species, to_atoms
from al_charge.crystal.host import Host
from al_charge.crystal.shells import distort_shells
from al_charge.crystal.species import high_spin_moment
from al_charge.crystal.valence import VASP_WINDOWS, Windows
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.dft.labeler import DftLabeler, metal_crystal
from al_charge.labelers.dft.steering import high_spin_moments, starts_distorted
from al_charge.labelers.gpaw.labeler import GpawLabeler
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.plugin import LABELERS
from al_charge.labelers.protocol import Reading
from al_charge.labelers.vasp.labeler import VaspLabeler
from al_charge.labelers.vasp.settings import VaspSettings

ENGINES = {"gpaw": (GpawLabeler, GpawSettings), "vasp": (VaspLabeler, VaspSettings)}
GIVEN = {"Fe2+": (3.0, 3.2), "Fe3+": (3.3, 3.5)}
CALIBRATED = Windows({"Fe2+": (3.3, 3.5), "Fe3+": (3.0, 3.2)})
"""The states the other way round, so that either shows which was used."""
SPECIES = ("Fe3+", "Fe2+", "Fe3+", "O2-", "O2-", "O2-", "O2-")


def read(*moments: float) -> Reading:
    return Reading(
        frames=(),
        moments=np.array([*moments, *(0.0,) * (len(SPECIES) - len(moments))]),
        bader=None,
        converged=True,
        engine="any",
        wall_time=0.0,
    )


def engine(kind: str, **fields: Any) -> DftLabeler:
    labeler, settings = ENGINES[kind]
    made: DftLabeler = labeler(settings(**fields))
    return made


@pytest.mark.parametrize("kind", ENGINES)
def test_windows_of_the_user_come_first_then_calibrated_then_known_ones(kind: str) -> None:
    found = read(3.4, 3.1, 3.4)
    given = engine(kind, moment_windows=GIVEN)
    assert given.audit(found, SPECIES, CALIBRATED).species == SPECIES
    assert given.audit(found, SPECIES, None).species == SPECIES
    other_way = engine(kind).audit(found, SPECIES, CALIBRATED)
    assert other_way.sites[:3] == ("Fe2+", "Fe3+", "Fe2+")
    assert engine(kind).audit(found, SPECIES, None).ambiguous == (0, 1, 2)
    plugin = LABELERS.get(kind)
    known = plugin.windows(plugin.settings())
    assert known is not None
    middle = {state: sum(window) / 2 for state, window in known.ranges.items()}
    as_known = read(*(middle[token] for token in SPECIES[:3]))
    assert engine(kind).audit(as_known, SPECIES, None).species == SPECIES


def test_known_windows_that_an_earlier_release_has_stored_are_not_the_users() -> None:
    stored = {state: list(window) for state, window in VASP_WINDOWS.ranges.items()}
    assert VaspSettings(moment_windows=stored).moment_windows is None
    changed = stored | {"Fe2+": [3.5, 3.9]}
    assert VaspSettings(moment_windows=changed).moment_windows is not None


@pytest.mark.parametrize("kind", ENGINES)
def test_without_moments_nothing_is_told(kind: str) -> None:
    nothing = Reading((), None, None, converged=True, engine="any", wall_time=0.0)
    with pytest.raises(AlChargeError, match="any: the run has no moments"):
        engine(kind).audit(nothing, SPECIES, None)


@pytest.mark.parametrize("kind", ENGINES)
def test_species_are_checked_by_the_users_windows(kind: str) -> None:
    engine(kind, moment_windows=GIVEN).check_species(["Fe2+", "Fe3+", "Na+", "O2-"])
    with pytest.raises(InputError, match="Ti"):
        engine(kind, moment_windows=GIVEN).check_species(["Ti3+", "Ti4+"])


@pytest.mark.parametrize("kind", ENGINES)
def test_there_is_one_try_where_shells_are_not_distorted(kind: str) -> None:
    assert engine(kind, tries=2).tries == 2
    assert engine(kind, tries=2, shell_distortion="0 A").tries == 1


@pytest.fixture
def mixed(olivine: Host) -> Atoms:
    """Half of the iron in each state, on ideal sites."""
    return to_atoms(olivine, configuration(olivine, [1, 1, -1, -1, 3, 3, 2, 2]))


def test_a_run_starts_distorted_until_the_geometry_holds_the_order(mixed: Atoms) -> None:
    settings = GpawSettings()
    assert starts_distorted(settings, mixed, 0)
    held = distort_shells(mixed, 0.12)
    assert not starts_distorted(settings, held, 0)
    assert starts_distorted(settings, held, 1), "an earlier attempt has lost the order"
    assert not starts_distorted(GpawSettings(shell_distortion="0 A"), mixed, 1)


def test_a_single_charge_state_needs_no_steering(mixed: Atoms) -> None:
    uniform = mixed.copy()
    set_species(uniform, ["Fe3+" if s == "Fe" else t for s, t in zip(
        mixed.get_chemical_symbols(), map(str, mixed.arrays["species"]), strict=True
    )])  # fmt: skip
    assert not any(starts_distorted(GpawSettings(), uniform, attempt) for attempt in range(3))


def test_moments_are_those_of_high_spin_with_the_signs_of_the_order(mixed: Atoms) -> None:
    ferro = high_spin_moments(mixed, "ferromagnetic")
    species = list(map(str, mixed.arrays["species"]))
    assert ferro.tolist() == [high_spin_moment(token) for token in species]
    assert ferro[species.index("Fe3+")] == 5 and ferro[species.index("Fe2+")] == 4
    assert ferro[species.index("O2-")] == 0
    anti = high_spin_moments(mixed, "antiferromagnetic")
    assert np.abs(anti).tolist() == ferro.tolist()
    assert (anti[ferro > 0] < 0).sum() == 2, "half of the iron is turned over"


@pytest.mark.parametrize(("ion", "volume"), [("Na", 37.7), ("Li", 21.3), ("Mg", 46.4)])
def test_metals_have_their_volume_in_experiment(ion: str, volume: float) -> None:
    assert metal_crystal(ion).get_volume() == pytest.approx(volume, rel=0.03)


def test_a_metal_that_is_not_tabulated_is_refused() -> None:
    with pytest.raises(InputError, match="crystal structure of metallic N "):
        metal_crystal("N")
