"""`al-charge audit`: what it tells of an output, its exit status, and how it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from al_charge.crystal.species import charge_of
from al_charge.loop.campaign import Campaign

Run = Callable[..., tuple[int, str, str]]

DATA = Path(__file__).parents[3] / "shared" / "data"
published = pytest.mark.skipif(not DATA.exists(), reason="published VASP results are not here")


def gpaw_log(folder: Path, iron: tuple[float, float], ion: str = "Na") -> str:
    """Write a text log of GPAW for NaFe2O3 with these moments of iron; return its path."""
    symbols = [*([ion] if ion else []), "Fe", "Fe", "O", "O", "O"]
    rows = [f"| {i} | {s} | {float(i)} | 0.0 | 0.0 | start |" for i, s in enumerate(symbols)]
    axes = [f"| yes | {x} | {y} | {z} | 9.0 | 90.0 |" for x, y, z in 9 * np.eye(3)]
    moments = [*([0.0] if ion else []), *iron, 0.1, 0.1, 0.1]
    lines = [
        " | _ |_)|_||  |\n |__||  | ||/\\| - 26.7.0\n\n  mode=PW(ecut=500.0),",
        "\nAtoms  # Å, Bohr magnetons", *rows, "\n\nUnit cell  # Å", *axes,
        "\n  Extrapolated:   -31.250000\n\nLocal magnetic moments",
        *[f"| 0.0 | 0.0 | {moment:.6f} |  # X" for moment in moments], "",
    ]  # fmt: skip
    path = folder / "gpaw.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def test_states_that_are_certain(tmp_path: Path, run: Run) -> None:
    path = gpaw_log(tmp_path, (3.68, 4.30))
    code, out, err = run("audit", path)
    assert (code, err) == (0, "")
    assert "GPAW 26.7.0, pw mode" in out
    assert "energy: -31.250000 eV" in out
    assert out.splitlines()[-1] == "1 Fe3+, 1 Fe2+; neutral"
    assert "Bader" not in out
    assert "Na+" not in out
    assert "Na+" in run("audit", path, "--all")[1]
    document = json.loads(run("audit", path, "--json")[1])
    assert document["certain"] is True
    assert document["reasons"] == []
    assert document["states"] == {"Fe3+": 1, "Fe2+": 1}
    assert document["fixed"] == {"Na": 1, "O": -2}
    assert (document["energy"], document["charge"]) == (-31.25, 0)
    assert [site["state"] for site in document["sites"]][:3] == ["Na+", "Fe2+", "Fe3+"]
    assert document["sites"][1] == {
        "site": 1, "element": "Fe", "moment": 3.68, "bader": None, "state": "Fe2+", "told": True,
        "note": "",
    }  # fmt: skip


def with_method(path: str, functional: str, u: str) -> str:
    """Write functional and U into a log, as GPAW does."""
    hubbard = f"    Hubbard: {{U: {u},  # eV\n              l: 2,\n" if u else ""
    about = (
        f"\nspecies:\n  Fe:\n    name:    Iron\n{hubbard}\nxc functional:\n  name: {functional} x\n"
    )
    log = Path(path)
    log.write_text(log.read_text().replace("\nAtoms  #", f"{about}\nAtoms  #", 1))
    return path


@pytest.mark.parametrize(
    ("functional", "u", "line", "warned"),
    [
        ("PBE", "5.3", "PBE; U: Fe 5.3 eV", ""),
        ("PBE", "4.0", "PBE; U: Fe 4 eV", "U = 4 instead of 5.3 eV on Fe"),
        ("LDA", "5.3", "LDA; U: Fe 5.3 eV", "LDA instead of PBE"),
        ("PBE", "", "PBE; U: none", "U = 0 instead of 5.3 eV on Fe"),
    ],
)
def test_functional_and_u_that_are_not_those_of_the_windows(
    functional: str, u: str, line: str, warned: str, tmp_path: Path, run: Run
) -> None:
    path = with_method(gpaw_log(tmp_path, (3.68, 4.30)), functional, u)
    code, out, _ = run("audit", path)
    assert code == 0  # the charge states are as certain as before
    assert f"\n{line}\n" in out
    document = json.loads(run("audit", path, "--json")[1])
    assert document["functional"] == functional
    assert document["hubbard_u"] == ({"Fe": float(u)} if u else {})
    unlike = [one for one in document["warnings"] if "default moment windows" in one]
    assert len(unlike) == bool(warned)
    if warned:
        assert f"warning: computed with {warned}; the default" in out
    bare = any("Fe without U in an oxide" in one for one in document["warnings"])
    assert bare is (u == "")
    # The user's own windows are the user's business.
    given = ("--window", "Fe2+=3.6:3.9", "--window", "Fe3+=4.1:4.5")
    assert "default moment windows" not in run("audit", path, *given)[1]


def test_an_end_member_of_another_u(tmp_path: Path, run: Run) -> None:
    folders = [tmp_path / name for name in ("low", "high", "mixed")]
    for folder in folders:
        folder.mkdir()
    low = with_method(gpaw_log(folders[0], (3.50, 3.51), ion="Ca"), "PBE", "4.0")
    high = with_method(gpaw_log(folders[1], (4.08, 4.09), ion=""), "PBE", "5.3")
    mixed = with_method(gpaw_log(folders[2], (3.50, 4.10)), "PBE", "4.0")
    members = ("--end-member", low, "--end-member", high)
    _, out, _ = run("audit", mixed, *members, "--charge", "Na=1", "--json")
    assert json.loads(out)["warnings"] == [
        f"computed with U = 4 instead of 5.3 eV on Fe, which the end member {high} has"
    ]


def test_an_output_that_does_not_tell_its_u(tmp_path: Path, run: Run) -> None:
    document = json.loads(run("audit", gpaw_log(tmp_path, (3.68, 4.30)), "--json")[1])
    assert document["functional"] is document["hubbard_u"] is None
    assert document["warnings"] == []


def test_a_shared_hole_is_shown_with_its_reason(tmp_path: Path, run: Run) -> None:
    path = gpaw_log(tmp_path, (3.97, 3.96))
    code, out, _ = run("audit", path)
    assert code == 1
    assert "2 Fe ambiguous" in out
    assert "not certain: the moments of Fe 1, Fe 2 fit no charge state" in out
    notes = [site["note"] for site in json.loads(run("audit", path, "--json")[1])["sites"]]
    assert notes[1] == "between Fe2+ (to 3.78) and Fe3+ (from 4.18)"
    for moment, note in ((3.2, "below Fe2+ (from 3.57)"), (4.9, "above Fe3+ (to 4.42)")):
        document = json.loads(run("audit", gpaw_log(tmp_path, (moment, 4.30)), "--json")[1])
        assert document["sites"][1]["note"] == note
        assert document["summary"] == "1 Fe3+, 1 Fe ambiguous"
        assert document["charge"] is None


def test_windows_and_charges_that_are_given(tmp_path: Path, run: Run) -> None:
    path = gpaw_log(tmp_path, (3.97, 4.30))
    assert run("audit", path)[0] == 1
    assert run("audit", path, "--window", "Fe2+=3.6:4.0")[0] == 0
    code, out, _ = run("audit", path, "--charge", "Fe=3")
    assert code == 1
    assert "no site whose moment determines a charge state; charge +1 e" in out
    assert "the charges sum to +1 e" in out
    assert run("audit", path, "--charge", "Fe=3", "--charge", "Na=0")[0] == 0


def test_windows_of_end_members(tmp_path: Path, run: Run) -> None:
    """Moments that no default window holds, as with another U."""
    folders = [tmp_path / name for name in ("low", "high", "mixed")]
    for folder in folders:
        folder.mkdir()
    low = gpaw_log(folders[0], (3.50, 3.51), ion="Ca")
    high = gpaw_log(folders[1], (4.08, 4.09), ion="")
    mixed = gpaw_log(folders[2], (3.50, 4.10))
    assert run("audit", mixed)[0] == 1
    code, out, _ = run(
        "audit", mixed, "--end-member", low, "--end-member", high, "--charge", "Na=1", "--json"
    )
    document = json.loads(out)
    assert (code, document["summary"]) == (0, "1 Fe3+, 1 Fe2+; neutral")
    assert document["windows"]["Fe2+"] == pytest.approx([3.4316, 3.5784])
    # One end member alone shows one state; a mixed cell is none.
    assert run("audit", mixed, "--end-member", low)[0] == 1
    code, _, err = run("audit", mixed, "--end-member", mixed)
    assert (code, err.count("\n")) == (2, 1)
    assert "it is not an end member: neutrality gives its 2 Fe +5 e" in err
    shared = gpaw_log(folders[1], (4.08, 3.80), ion="")
    code, _, err = run("audit", mixed, "--end-member", shared)
    assert (code, err.count("\n")) == (2, 1)
    assert "they range from 3.80 to 4.08, so not all of them are Fe3+" in err


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--window", "Fe3+=4"], "'Fe3+=4' is not a window; write it like Fe3+=4.1:4.4"),
        (["--window", "Fe=4:5"], "'Fe' is not a charge state"),
        (["--window", "Fe3+=3.6:4.4"], "overlap"),
        (["--charge", "Fe=high"], "'Fe=high' is not a charge; write it like P=5"),
        (["--charge", "Xx=1"], "'Xx=1' is not a charge"),
        (["--charge", "S=6"], "there is no S in the cell"),
    ],
)
def test_options_that_are_wrong(options: list[str], what: str, tmp_path: Path, run: Run) -> None:
    code, out, err = run("audit", gpaw_log(tmp_path, (3.68, 4.30)), *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert what in err


def test_outputs_that_cannot_be_read(tmp_path: Path, run: Run) -> None:
    (tmp_path / "CHGCAR").touch()
    (tmp_path / "vasprun.xml").write_text("<modeling><generator>")
    (tmp_path / "empty").mkdir()
    for name, what in (
        ("CHGCAR", "a density alone has no moments"),
        ("vasprun.xml", "truncated or damaged"),
        ("empty", "it holds no output"),
        ("missing.xml", "no such file or folder"),
        ("", "vasprun.xml: it is truncated or damaged"),
    ):
        code, out, err = run("audit", str(tmp_path / name))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert what in err


def test_stored_labels(labelled: Campaign, run: Run) -> None:
    label = labelled.store.labels.get("exact")
    assert label is not None
    charges = [0.4 * charge_of(token) for token in label.requested]
    labelled.store.labels.put(label.model_copy(update={"key": "charged", "bader": charges}))
    code, out, _ = run("audit", "charged", "--json")
    document = json.loads(out)
    assert document["source"] == "label charged"
    assert document["certain"] is True
    assert document["engine"] == "gpaw 26.7.0"
    assert document["states"] == {"Fe3+": 2, "Fe2+": 2}
    assert document["windows"] == {"Fe2+": [3.3, 3.5], "Fe3+": [4.2, 4.3]}
    assert code == 0
    # Charges of the other sign are no charges.
    assert "cations negative" in run("audit", "exact")[2]
    assert "Bader charges refused" in run("audit", "whole")[1]
    code, out, err = run("audit", "unheard-of")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no such file, and no label with this key" in err


@pytest.mark.parametrize("moments", [True, False], ids=["engine's windows", "no moments"])
def test_stored_labels_without_windows_say_what_they_are(
    moments: bool, labelled: Campaign, run: Run
) -> None:
    """Those of the Born model, and those audited with the windows of their engine."""
    exact, blurred = (labelled.store.labels.get(key) for key in ("exact", "blurred"))
    assert exact is not None and blurred is not None
    bare = {"windows": {}, "bader": None, "bader_electrons": None}
    bare |= {} if moments else {"moments": None, "engine": "born 1.2"}
    for key, label, changes in (
        ("mixed", exact, {}),
        ("unsure", blurred, {}),
        ("against", exact, {"resolved": None, "audit": "Bader charges of atoms 4 contradict"}),
        ("old", exact, {"resolved": None, "sites": []}),
    ):
        update = bare | changes | {"key": f"{key}-{moments}"}
        labelled.store.labels.put(label.model_copy(update=update))
    code, out, _ = run("audit", f"mixed-{moments}")
    assert (code, out.splitlines()[-1]) == (0, "2 Fe3+, 2 Fe2+; neutral")
    assert "assumed: Na +1, P +5, O -2" in out
    assert out.count("│ Fe2+") == 2
    document = json.loads(run("audit", f"mixed-{moments}", "--json")[1])
    assert document["states"] == {"Fe3+": 2, "Fe2+": 2}
    assert "Fe" not in document["fixed"]
    code, out, _ = run("audit", f"unsure-{moments}")
    assert code == 1
    assert "2 Fe3+, 2 Fe ambiguous" in out
    code, out, _ = run("audit", f"against-{moments}", "--json")
    assert code == 1
    assert json.loads(out)["reasons"] == ["Bader charges of atoms 4 contradict"]
    # Earlier releases did not store what every site is.
    assert run("audit", f"old-{moments}")[0] == 1
    # Windows that are given audit the moments, where there are any.
    windows = ("--window", "Fe2+=3.3:3.5", "--window", "Fe3+=4.2:4.3")
    assert run("audit", f"mixed-{moments}", *windows)[0] == (0 if moments else 1)


@published
def test_published_run_has_one_iron_two(run: Run) -> None:
    code, out, _ = run("audit", str(DATA / "vasp_Na1Fe24P24O96"))
    assert code == 0
    assert out.splitlines()[-1] == "23 Fe3+, 1 Fe2+; neutral"
    assert "assumed: P +5, O -2, Na +1" in out
    iron = [line for line in out.splitlines() if "Fe2+" in line and "14" in line]
    assert len(iron) == 1
    assert "3.785" in iron[0]


@published
def test_published_water_is_refused_with_the_reason(run: Run) -> None:
    code, out, _ = run("audit", str(DATA / "vasp_H2O_bader"), "--json")
    assert code == 1
    (reason,) = json.loads(out)["reasons"]
    assert reason.startswith("Bader charges refused: ")
    assert "electrons instead of 8.000" in reason
    assert "AECCAR0 + AECCAR2" in reason


@published
def test_a_density_of_zero_bytes_beside_a_good_outcar(tmp_path: Path, run: Run) -> None:
    source = DATA / "vasp_Na1Fe24P24O96" / "OUTCAR.gz"
    (tmp_path / "OUTCAR.gz").write_bytes(source.read_bytes())
    for name in ("AECCAR0", "AECCAR2", "CHGCAR"):
        (tmp_path / name).touch()
    code, out, _ = run("audit", str(tmp_path), "--json")
    document = json.loads(out)
    assert (code, document["summary"]) == (1, "23 Fe3+, 1 Fe2+; neutral")
    assert "zero bytes" in document["bader_refused"]
    assert run("audit", str(tmp_path), "--no-bader")[0] == 0
