"""Two campaigns on one hull: against pymatgen, what is printed, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from pymatgen.analysis.phase_diagram import CompoundPhaseDiagram, PDEntry
from pymatgen.core.composition import Composition
from pymatgen.core.structure import Structure

import al_charge as ac
from al_charge.api.campaign import Campaign as Opened
from al_charge.api.common_hull import CommonHullResult
from al_charge.cli.main import main
from al_charge.crystal.configuration import composition, ion_count, to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.symmetry import canonical_hash
from al_charge.errors import AlChargeError, InputError
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.spec import parse_spec
from al_charge.loop.submit import new_document
from al_charge.rehearsal.settings import ModelSettings
from al_charge.report.common_hull import common_hull, common_hull_chart
from al_charge.store.documents import FrameDoc, LabelDoc
from al_charge.store.labels import LAST_FRAME

DOCS = Path(__file__).parents[2] / "docs"
HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
METAL = -1.25


def polymorph(
    labelled: Campaign, folder: Path, name: str = "maricite", **changes: dict[str, Any]
) -> Campaign:
    """A campaign of the same elements in another crystal, without labels."""
    structure = Structure.from_file(HOST)
    structure.scale_lattice(1.1 * structure.volume)
    structure.relabel_sites()
    path = folder / f"{name}.cif"
    path.write_text(structure.to(fmt="cif"))
    spec: dict[str, Any] = {
        "name": name,
        "host": {
            "structure": str(path),
            "working_ion": "Na",
            "redox": {"Fe": [2, 3]},
            "fixed": {"P": 5, "O": -2},
            **changes.get("host", {}),
        },
        "labeler": changes.get("labeler", {"kind": "born"}),
        "potential": {"kind": "painn"},
    }
    labelled.store.campaigns.add(new_document(parse_spec(spec, source=path)))
    return open_campaign(labelled.store, name)


def put(campaign: Campaign, template: LabelDoc, key: str, config: Any, energy: float) -> None:
    """Store a label of a configuration, with an energy in eV per cell."""
    host = campaign.host
    atoms = to_atoms(host, config)
    species = [str(token) for token in atoms.arrays["species"]]
    one = canonical_hash(host, config)
    place = {"energy": energy, "positions": atoms.positions, "cell": atoms.cell.array}
    frame = FrameDoc(**(dict(template.frames[-1]) | place))
    campaign.store.labels.put(
        LabelDoc(
            **dict(template) | {
                "key": key, "config_hash": one, "requested_hash": one, "energy": energy,
                "colours": config.as_array(), "composition": composition(host, config),
                "n_ions": ion_count(host, config), "host_fingerprint": host.fingerprint,
                "settings_hash": campaign.settings_hash, "numbers": atoms.numbers,
                "requested": species, "resolved": species, "sites": species,
                "host_site": atoms.arrays["host_site"], "frames": [frame], "bader": None,
                "bader_electrons": None, "moments": atoms.get_initial_magnetic_moments(),
                "relax": "none", "campaign": campaign.name,
            }
        )
    )  # fmt: skip
    campaign.store.labels.link(campaign.name, 0, key)


def template_of(labelled: Campaign) -> LabelDoc:
    return next(
        one
        for one in labelled.store.labels.read(LAST_FRAME, campaign="labelled")
        if one.key == "exact"
    )


@pytest.fixture
def maricite(labelled: Campaign, tmp_path: Path) -> Iterator[Campaign]:
    """x = 0 higher, x = 1/2 and 1 lower than in the campaign ``labelled``; eV per cell of four."""
    campaign = polymorph(labelled, tmp_path)
    for n_ions, energy in ((0, -191.0), (2, -194.0), (4, -195.0)):
        config = enumerate_distinct(campaign.host, n_ions)[0]
        put(campaign, template_of(labelled), f"{n_ions:x}" * 24, config, energy)
    yield campaign


def run(arguments: list[str]) -> Any:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def joined(*campaigns: Campaign) -> CommonHullResult:
    return ac.hull([Opened(one, None) for one in campaigns])


def refused(*campaigns: Campaign, by: type[AlChargeError] = InputError) -> str:
    with pytest.raises(by) as caught:
        common_hull(campaigns)
    assert type(caught.value) is by
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("seed", "per_formula"), [(1, 1), (2, 2), (3, 4)])
def test_random_labels_of_two_hosts_stand_on_the_hull_of_pymatgen(
    labelled: Campaign, tmp_path: Path, seed: int, per_formula: int
) -> None:
    rng = np.random.default_rng(seed)
    first = polymorph(labelled, tmp_path, "first")
    second = polymorph(labelled, tmp_path, "second", host={"redox_sites_per_formula": per_formula})
    template = template_of(labelled)
    points: dict[str, PDEntry] = {}
    for place, campaign in enumerate((first, second)):
        for n_ions in range(5):
            for number, config in enumerate(enumerate_distinct(campaign.host, n_ions)[:2]):
                key = f"{place}{n_ions}{number}".ljust(24, "a")
                energy = -750.0 - 4.0 * n_ions - float(rng.uniform(0.0, 1.0))
                put(campaign, template, key, config, energy)
                cell = Composition({"Na": n_ions, "Fe": 4, "P": 4, "O": 16})
                points[key] = PDEntry(cell / 4, energy / 4)
    found = joined(first, second)
    ends = [Composition("FePO4"), Composition("NaFePO4")]
    diagram = CompoundPhaseDiagram(
        list(points.values()), ends, normalize_terminal_compositions=False
    )
    above = {
        id(one.original_entry): diagram.get_e_above_hull(one)
        for one in diagram.all_entries  # type: ignore[union-attr]
    }
    assert {entry.key for entry in found.entries} == set(points)
    for entry in found.entries:
        n_ions = int(entry.key[1])
        assert entry.x == Fraction(n_ions, 4)
        assert found.of[entry.key] == ("first", "second")[int(entry.key[0])]
        expected = above[id(points[entry.key])]
        assert found.hull.distance(entry) == pytest.approx(expected, abs=1e-9)
    stable = {id(one.original_entry) for one in diagram.stable_entries}  # type: ignore[union-attr]
    assert {id(points[vertex.key]) for vertex in found.vertices} == stable
    assert {found.of[one.key] for one in found.entries} == {"first", "second"}
    # The other way round all is per formula unit of the other.
    other = joined(second, first)
    assert [one.key for one in other.vertices] == [one.key for one in found.vertices]
    assert [one.x for one in other.vertices] == [per_formula * one.x for one in found.vertices]
    assert other.document["mean_voltage"] == pytest.approx(found.document["mean_voltage"])
    assert other.document["campaigns"][1]["formula_units"] == str(per_formula)
    assert found.document["campaigns"][1]["formula_units"] == str(Fraction(1, per_formula))
    told = " ".join(str(found).split())
    assert (f"1/{per_formula} of" in told) == (per_formula > 1)


def test_ends_vertices_and_voltages_by_hand(labelled: Campaign, maricite: Campaign) -> None:
    document = joined(labelled, maricite).document
    charged, discharged = document["ends"]
    assert (charged["campaign"], charged["x"]) == ("labelled", "0")
    assert (discharged["campaign"], discharged["x"]) == ("maricite", "1")
    low, half, high = -192.123456789012 / 4, -194.0 / 4, -195.0 / 4
    assert [one["x"] for one in document["vertices"]] == ["0", "1/2", "1"]
    assert [one["campaign"] for one in document["vertices"]] == ["labelled", "maricite", "maricite"]
    assert document["vertices"][1]["formation_energy"] == pytest.approx(half - (low + high) / 2)
    voltages = [METAL - (half - low) / 0.5, METAL - (high - half) / 0.5]
    assert [one["voltage"] for one in document["steps"]] == pytest.approx(voltages)
    assert document["mean_voltage"] == pytest.approx(METAL - (high - low))
    by_label = {one["label"]: one for one in document["entries"]}
    assert by_label["0" * 24]["formation_energy"] == pytest.approx(-191.0 / 4 - low)
    assert by_label["exact"]["distance_to_hull"] == pytest.approx(
        (-190.123456789012 - 2) / 4 - half
    )
    assert not {"blurred", "changed"} & set(by_label)  # no hull may hold them
    counts = [(one["entries"], one["vertices"]) for one in document["campaigns"]]
    assert counts == [(3, 1), (3, 2)]


def test_command(
    labelled: Campaign, maricite: Campaign, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, page = tmp_path / "hull.png", tmp_path / "hull.html"
    assert run(["hull", "labelled", "maricite", "--json", "--plot", str(page)]) == 0
    document = json.loads(capsys.readouterr().out)
    schema = json.loads((DOCS / "json.schema.json").read_text())
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    assert [one.message for one in validator.iter_errors(document)] == []
    of = {
        "common hull": document["vertices"],
        "labelled": [one for one in document["entries"] if one["campaign"] == "labelled"],
        "maricite": [one for one in document["entries"] if one["campaign"] == "maricite"],
    }
    lines = common_hull_chart(document).panels[0].series
    assert [(one.name, one.kind) for one in lines] == list(
        zip(of, ("line", "points", "points"), strict=True)
    )
    for line in lines:
        assert line.x == [float(Fraction(one["x"])) for one in of[line.name]]
        assert line.y == pytest.approx([1e3 * one["formation_energy"] for one in of[line.name]])
    for missing in ("ends", "steps"):
        assert list(validator.iter_errors({k: v for k, v in document.items() if k != missing}))
    del document["entries"][0]["campaign"]
    assert list(validator.iter_errors(document))
    drawn = page.read_text()
    assert all(f'"name":"{name}"' in drawn for name in ("common hull", "labelled", "maricite"))
    assert '"symbol":"square"' in drawn and '"symbol":"triangle-up"' in drawn

    assert run(["hull", "labelled", "maricite", "--plot", str(image)]) == 0
    table = " ".join(capsys.readouterr().out.split())
    assert image.stat().st_size > 10_000
    assert "against x = 0 of labelled and x = 1 of maricite" in table
    assert "Sampled bands of single campaigns do not hold" in table
    assert "labelled and maricite" in table  # the plateau between the two

    assert run(["hull", "labelled", "maricite", "--csv"]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.startswith("campaign,x,formula,")
    assert [row.split(",")[0] for row in rows].count("maricite") == 3
    for option in (["--round", "0"], ["--predicted"]):
        assert run(["hull", "labelled", "maricite", *option]) == 2
        assert option[0] in capsys.readouterr().err


def test_a_label_of_several_campaigns_is_of_the_first(
    labelled: Campaign, maricite: Campaign, tmp_path: Path
) -> None:
    again = polymorph(labelled, tmp_path, "again")
    again.store.labels.link("again", 0, "0" * 24)
    found = joined(maricite, again)
    assert [found.of[one.key] for one in found.entries] == ["maricite"] * 3


def test_an_end_member_may_be_of_any_campaign(
    labelled: Campaign, maricite: Campaign, tmp_path: Path
) -> None:
    window = polymorph(labelled, tmp_path, "window")
    config = enumerate_distinct(window.host, 2)[0]
    put(window, template_of(labelled), "c" * 24, config, -200.0)
    assert [str(vertex.x) for vertex in joined(window, maricite).vertices] == ["0", "1/2", "1"]
    empty = polymorph(labelled, tmp_path, "empty")
    assert "end member x = 0" in refused(empty, window, by=AlChargeError)
    put(empty, template_of(labelled), "d" * 24, enumerate_distinct(empty.host, 0)[0], -190.0)
    assert "end member x = 1" in refused(empty, window, by=AlChargeError)


def test_what_cannot_stand_together_is_refused_before_labels_are_read(
    labelled: Campaign, maricite: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("labels were read")

    monkeypatch.setattr(type(labelled.store.labels), "read", never)
    assert "two or more" in refused(labelled)
    assert "'labelled' is given twice" in refused(labelled, maricite, labelled)

    def other(campaign: Campaign, **attributes: Any) -> Campaign:
        changed = replace(campaign)
        vars(changed).update(attributes)
        return changed

    host = replace(maricite.host, working_ion_charge=2)
    assert "Na (+1) and Na (+2)" in refused(labelled, other(maricite, cells=_Only(host)))
    assert "FePO4 and MnPO4" in refused(labelled, other(maricite, framework="MnPO4"))
    assert "FePO4 and FeP2O7" in refused(labelled, other(maricite, framework="FeP2O7"))
    assert "FePO4 and FePO4F" in refused(labelled, other(maricite, framework="FePO4F"))
    assert "FePO4F and FePO4" in refused(other(maricite, framework="FePO4F"), labelled)
    lithium = maricite.spec.host.model_copy(update={"working_ion": "Li"})
    spec = maricite.spec.model_copy(update={"host": lithium})
    assert "Na (+1) and Li (+1)" in refused(
        labelled, other(replace(maricite, spec=spec), cells=_Only(maricite.host))
    )

    metal = "Na metal has -1.2500 and -1.2600 eV"
    assert metal in refused(labelled, other(maricite, metal_energy=-1.26))
    settings = (_Labeler(520, 5.3), _Labeler(600, 4.0))
    vasp = [
        other(one, settings_hash=str(id(made)), metal_energy=METAL, _hashed_labeler=made)
        for one, made in zip((labelled, maricite), settings, strict=True)
    ]
    message = refused(*vasp)
    assert "incar.ENCUT is 520 and 600" in message and "hubbard_u.Fe is 5.3 and 4.0" in message
    assert "PBE" not in message

    model = ModelSettings.model_construct(kind="model")
    spec = maricite.spec.model_copy(update={"labeler": model})
    rehearsal = other(replace(maricite, spec=spec), metal_energy=METAL)
    assert "'maricite' is a rehearsal" in refused(labelled, rehearsal)
    assert "'maricite' is a rehearsal" in refused(rehearsal, labelled)


def test_one_grid_of_kpoints_in_cells_of_two_sizes_is_refused(
    labelled: Campaign, maricite: Campaign, tmp_path: Path
) -> None:
    host = {"supercell": [1, 2, 1], "redox_sites_per_formula": 1}
    large = polymorph(labelled, tmp_path, "large", host=host)

    def with_kpoints(campaign: Campaign, told: Any) -> Campaign:
        changed, made = replace(campaign), _Labeler(520, 5.3)
        made.settings()["kpoints"] = told
        vars(changed).update(settings_hash="one", metal_energy=METAL, _hashed_labeler=made)
        return changed

    first, alike, other = (with_kpoints(one, [2, 2, 2]) for one in (labelled, maricite, large))
    message = "k-points 2x2x2 do not mean the same in their cells, of 28 and 56 sites"
    assert message in refused(first, other)
    assert message.replace("28 and 56", "56 and 28") in refused(other, first)
    assert common_hull([first, alike]).hull.vertices
    spaced = [with_kpoints(one, {"spacing": 0.3}) for one in (labelled, large)]
    assert common_hull(spaced).hull.vertices


class _Only:
    """Cells that are one host."""

    def __init__(self, host: Any) -> None:
        self.widest = host


class _Labeler:
    def __init__(self, cutoff: int, u: float) -> None:
        self._told = {"incar": {"ENCUT": cutoff}, "hubbard_u": {"Fe": u}, "xc": "PBE"}

    def settings(self) -> dict[str, Any]:
        return self._told
