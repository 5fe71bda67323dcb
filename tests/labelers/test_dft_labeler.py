"""What DFT labelers share: which windows moments are read by, where a run starts, and how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from pydantic import ValidationError

from al_charge.crystal.charge_balance import end_member_species
from al_charge.crystal.configuration import configuration, set_species, to_atoms
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.shells import distort_shells
from al_charge.crystal.species import unpaired_electrons
from al_charge.crystal.valence import Windows
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.dft.labeler import DftLabeler, metal_crystal
from al_charge.labelers.dft.steering import start_moments, starts_distorted, total_moment
from al_charge.labelers.gpaw.labeler import GpawLabeler
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.plugin import LABELERS
from al_charge.labelers.protocol import Reading
from al_charge.labelers.vasp.labeler import VaspLabeler
from al_charge.labelers.vasp.settings import VaspSettings
from al_charge.store.from_version_4 import DEFAULTS

HOSTS = Path(__file__).parents[1] / "cases" / "hosts"
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


def read_all(*moments: float) -> Reading:
    """Return the reading of a cell with as many atoms as moments."""
    return replace(read(), moments=np.array(moments))


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
    stored = DEFAULTS["labeler.vasp"]["moment_windows"]
    assert len(stored) == 12
    assert VaspSettings(moment_windows=stored).moment_windows is None
    changed = stored | {"Fe2+": [3.5, 3.9]}
    assert VaspSettings(moment_windows=changed).moment_windows is not None


@pytest.mark.parametrize("kind", ENGINES)
def test_without_moments_nothing_is_told(kind: str) -> None:
    nothing = Reading((), None, None, converged=True, engine="any", wall_time=0.0)
    with pytest.raises(AlChargeError, match="any: the run has no moments"):
        engine(kind).audit(nothing, SPECIES, None)


COBALT = ("Co4+,spin=1", "Co4+,spin=1", "O2-", "O2-", "O2-", "O2-")


@pytest.mark.parametrize("kind", ENGINES)
def test_an_end_member_calibrates_a_state_without_a_window(kind: str) -> None:
    found = engine(kind).audit(read_all(1.02, 1.05, 0.1, 0.1, 0.1, 0.1), COBALT, None)
    assert found.species == COBALT


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize(
    "moments",
    [(1.0, 1.6), (3.1, 3.1), (0.2, 0.2), (1.0, 0.0)],
    ids=["unequal", "intermediate spin", "no spin", "disproportionated"],
)
def test_an_end_member_in_another_spin_state_is_uncertain(
    kind: str, moments: tuple[float, float]
) -> None:
    found = engine(kind).audit(read_all(*moments, 0.1, 0.1, 0.1, 0.1), COBALT, None)
    assert found.species is None


@pytest.mark.parametrize("kind", ENGINES)
def test_a_mixed_cell_calibrates_nothing_on_itself(kind: str) -> None:
    mixed = ("Co3+,spin=0", "Co4+,spin=1", "O2-", "O2-", "O2-", "O2-")
    found = engine(kind).audit(read_all(0.05, 1.0, 0.0, 0.0, 0.0, 0.0), mixed, None)
    assert 1 in found.ambiguous


@pytest.mark.parametrize("kind", ENGINES)
def test_the_users_windows_leave_other_states_to_the_calibrated_and_known_ones(kind: str) -> None:
    given = engine(kind, moment_windows={"Mn3+": [3.4, 3.9]})
    calibrated = Windows({"Mn3+": (1.0, 2.0), "Mn4+": (2.9, 3.1)})
    species = ("Mn3+", "Mn4+", "Fe3+", "O2-", "O2-", "O2-")
    found = given.audit(read_all(3.5, 3.0, 4.3, 0.0, 0.0, 0.0), species, calibrated)
    assert found.sites[:3] == species[:3]


def test_a_state_is_refused_for_which_nothing_tells_the_moment(mixed: Host) -> None:
    """Of Mn2+, Mn3+ and Mn4+ no end member shows Mn3+ alone; GPAW has no windows for manganese."""
    plugin = LABELERS.found["gpaw"].plugin
    assert mixed.redox_species - end_member_species(mixed) >= {"Mn3+"}
    with pytest.raises(InputError, match=r"^labeler.moment_windows: no moment window for Mn") as no:
        plugin.check(mixed, GpawSettings())
    assert "consists of it alone" in str(no.value)
    rest = mixed.redox_species - end_member_species(mixed)
    windows = {token: (0.5 * i, 0.5 * i + 0.4) for i, token in enumerate(sorted(rest))}
    plugin.check(mixed, GpawSettings(moment_windows=windows))


@pytest.mark.parametrize("kind", ENGINES)
def test_there_is_one_try_where_shells_are_not_distorted(kind: str) -> None:
    assert engine(kind, tries=2).tries == 2
    assert engine(kind, tries=2, shell_distortion="0 A").tries == 1


@pytest.fixture
def half(olivine: Host) -> Atoms:
    """Half of the iron in each state, on ideal sites."""
    return to_atoms(olivine, configuration(olivine, [1, 1, -1, -1, 3, 3, 2, 2]))


def test_a_run_starts_distorted_until_the_geometry_holds_the_order(half: Atoms) -> None:
    settings = GpawSettings()
    assert starts_distorted(settings, half, 0)
    held = distort_shells(half, 0.12)
    assert not starts_distorted(settings, held, 0)
    assert starts_distorted(settings, held, 1), "an earlier attempt has lost the order"
    assert not starts_distorted(GpawSettings(shell_distortion="0 A"), half, 1)


def test_a_single_charge_state_needs_no_steering(half: Atoms) -> None:
    uniform = half.copy()
    set_species(uniform, ["Fe3+" if s == "Fe" else t for s, t in zip(
        half.get_chemical_symbols(), map(str, half.arrays["species"]), strict=True
    )])  # fmt: skip
    assert not any(starts_distorted(GpawSettings(), uniform, attempt) for attempt in range(3))


def test_moments_are_those_of_high_spin_with_the_signs_of_the_order(half: Atoms) -> None:
    ferro = start_moments(half, GpawSettings())
    species = list(map(str, half.arrays["species"]))
    assert ferro.tolist() == [unpaired_electrons(token) for token in species]
    assert ferro[species.index("Fe3+")] == 5 and ferro[species.index("Fe2+")] == 4
    assert ferro[species.index("O2-")] == 0
    anti = start_moments(half, GpawSettings(magnetic_order="antiferromagnetic"))
    assert np.abs(anti).tolist() == ferro.tolist()
    assert (anti[ferro > 0] < 0).sum() == 2, "half of the iron is turned over"


@pytest.mark.parametrize("kind", ENGINES)
def test_moments_by_hand_are_started_from_and_leave_the_total_moment(
    half: Atoms, kind: str
) -> None:
    _, settings = ENGINES[kind]
    one = settings.model_validate({"moments": {"Fe3+": 4.2, "Na1+": 0.5}})
    species = half.arrays["species"].astype(str)
    moments = start_moments(half, one)
    assert set(moments[species == "Fe3+"]) == {4.2} and set(moments[species == "Fe2+"]) == {4.0}
    assert set(moments[species == "Na+"]) == {0.5}
    assert total_moment(half, one) == 2 * 5 + 2 * 4
    ferri = settings.model_validate({"moments": {"Fe3+": -4.2}})
    assert set(start_moments(half, ferri)[species == "Fe3+"]) == {-4.2}
    assert total_moment(half, ferri) == 2 * 4 - 2 * 5
    assert total_moment(half, settings(total_moment=3.0)) == 3.0
    assert [settings().holds_moment, settings(total_moment=0.0).holds_moment] == [
        kind == "vasp",
        True,
    ]
    assert ferri.of_elements(["Na", "Mn", "O"]).moments == {}


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"moments": {"Iron": 4}}, "is not a charge state"),
        ({"moments": {"Fe3+": 42}}, "no ion has more than"),
        ({"moments": {"Fe3+": float("nan")}}, "no ion has more than"),
        ({"moments": {"Fe3+": 4, "Fe3+ high": 5}}, "twice in moments"),
        ({"moments": {"Fe3+": -4}, "magnetic_order": "antiferromagnetic"}, "order of their own"),
        ({"total_moment": -1}, "greater than or equal to 0"),
    ],
)
def test_senseless_moments_are_refused(kind: str, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ENGINES[kind][1].model_validate(fields)


def test_moments_of_no_state_of_the_host_are_refused(olivine: Host) -> None:
    for given, remedy in (
        ({"Fe3+,spin=1": 1.0}, "it has Fe2\\+, Fe3\\+"),
        ({"O-": 1.0}, "write 'O2-'"),
    ):
        settings = VaspSettings(moments=given)
        with pytest.raises(InputError, match=remedy):
            LABELERS.of(settings).check(olivine, settings)


@pytest.mark.parametrize(("ion", "volume"), [("Na", 37.7), ("Li", 21.3), ("Mg", 46.4)])
def test_metals_have_their_volume_in_experiment(ion: str, volume: float) -> None:
    assert metal_crystal(ion).get_volume() == pytest.approx(volume, rel=0.03)


def test_a_metal_that_is_not_tabulated_is_refused() -> None:
    with pytest.raises(InputError, match="crystal structure of metallic N "):
        metal_crystal("N")


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("moment", [1.9, 3.1])
def test_a_low_spin_end_member_in_high_spin_is_not_taken_for_low(kind: str, moment: float) -> None:
    asked = ("Co3+,spin=0", "Co3+,spin=0", "O2-", "O2-", "O2-")
    found = engine(kind).audit(read_all(moment, moment, 0.1, 0.1, 0.1), asked, None)
    assert found.species != asked
    assert found.sites[0] != asked[0]
    fitting = engine(kind).audit(read_all(0.0, 0.03, 0.0, 0.0, 0.0), asked, None)
    assert fitting.species == asked


def test_windows_may_be_given_in_the_words_for_spin_states() -> None:
    windows = {"Co3+ low": (0.0, 0.3), "Co4+,spin=1": (0.8, 1.2), "Co3+ high": (2.9, 3.3)}
    given = GpawSettings(moment_windows=windows).moment_windows
    assert given is not None
    assert list(given) == ["Co3+,spin=0", "Co4+,spin=1", "Co3+"]
    with pytest.raises(ValueError, match="a charge state is given twice in windows"):
        GpawSettings(moment_windows={"Co3+ low": (0.0, 0.3), "Co3+,spin=0": (0.0, 0.2)})


def test_windows_of_another_spin_state_than_the_hosts_are_refused() -> None:
    spec = HostSpec(
        structure=HOSTS / "licoo2.cif", working_ion="Li", redox={"Co": (3, 4)}, fixed={"O": -2}
    )
    cobalt = Host.from_spec(spec)
    plugin = LABELERS.found["gpaw"].plugin
    with pytest.raises(InputError, match=r"Co3\+ is not a spin state .* 'Co3\+,spin=0'"):
        plugin.check(cobalt, GpawSettings(moment_windows={"Co3+": (0.0, 0.3)}))
    plugin.check(cobalt, GpawSettings(moment_windows={"Co3+ low": (0.0, 0.3)}))


@pytest.mark.parametrize("kind", ENGINES)
def test_windows_of_no_state_of_the_host_are_refused(kind: str, olivine: Host) -> None:
    plugin = LABELERS.found[kind].plugin
    settings = plugin.settings.model_validate({"moment_windows": {"Mn3+": [4.1, 4.5]}})
    with pytest.raises(InputError, match=r"no window is given for .*; give those of Fe2\+, Fe3\+"):
        plugin.check(olivine, settings)
