"""Data files, model files, settings of trainings, credentials and words on the command line."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.torch import save_file

from al_charge.cli.main import COMMANDS
from al_charge.potentials.model_file import write_model
from al_charge.potentials.painn import PainnSettings
from al_charge.testing.labelled import SPECIES, labelled, write_labels
from al_charge.testing.potentials import untrained

Cases = Iterator[tuple[str, bytes | str]]
NO_NUMBERS = ("nan", "inf", "*****", "abc", "1,5", "")


def data_files(folder: Path, dice: random.Random) -> Cases:
    """Yield labels of which a frame lacks what it must have, or has what it cannot have."""
    path = folder / "tmp" / "x.extxyz"

    def written(**changes: Any) -> str:
        text = write_labels(path, [labelled(0), labelled(1, **changes)]).read_text()
        path.unlink()
        return text

    good = written()
    for end in range(40, good.rindex("\n", 0, -1), 40):  # the last row is lost, at least
        if good[:end].count("\n") != 10 or good[end - 1] not in "\n":
            yield f"ends at {end}", good[:end]
    for changes in (
        {"energy": None}, {"forces": None}, {"energy": np.nan}, {"energy": np.inf},
        {"energy": None, "forces": None},
        {"forces": np.full((8, 3), np.nan)}, {"stress": np.full(6, np.nan)},
        {"magmoms": np.full(8, np.inf)},
        {"magmoms": np.zeros((8, 3))}, {"bader_charges": np.full(8, np.nan)},
        {"bader_charges": np.ones(8)},
        {"resolved_species": [*SPECIES[:-1], "O"]}, {"resolved_species": [*SPECIES[:-1], "O3-"]},
        {"resolved_species": SPECIES[::-1]}, {"resolved_species": [*SPECIES[:-1], "Zz2-"]},
        {"resolved_species": [*SPECIES[:-1], "?"]}, {"resolved_species": ["", *SPECIES[1:]]},
    ):  # fmt: skip
        yield str(changes), written(**changes)
    lines = good.splitlines(True)
    for number in range(12, 20):
        words = lines[number].split()
        for place in range(1, len(words)):
            for value in NO_NUMBERS:
                if place == 4 or not any(c.isdigit() for c in words[place]) or "+" in words[place]:
                    continue
                changed = " ".join([*words[:place], value, *words[place + 1 :]]) + "\n"
                if words[place][-1] not in "+-":
                    yield (
                        f"{value} at {place} of {number}",
                        "".join([*lines[:number], changed, *lines[number + 1 :]]),
                    )
    for size in (1, 100, 5000):
        yield f"{size} random bytes", dice.randbytes(size)
        yield f"{size} zeros", bytes(size)


def model_files(folder: Path, dice: random.Random) -> Cases:
    """Yield models that are cut, whose header lies, or whose configuration is another's."""
    path = folder / "tmp" / "m"
    write_model(path, [untrained(PainnSettings(channels=4))])
    good = path.read_bytes()
    (size,) = struct.unpack("<Q", good[:8])
    header, body = json.loads(good[8 : 8 + size]), good[8 + size :]

    def rebuilt(changed: Any) -> bytes:
        text = json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + body

    for end in sorted({*range(0, size, 200), *dice.sample(range(len(good)), 40)}):
        yield f"ends at {end}", good[:end]
    for lie in (0, 1, size - 1, size + 1, 2**31, 2**63, 2**64 - 1):
        yield f"header of {lie}", struct.pack("<Q", lie) + good[8:]
    for name in [name for name in header if name != "__metadata__"][::3]:
        entry = header[name]
        for key, value in (
            ("dtype", "F9"), ("dtype", "I64"), ("dtype", None), ("shape", [2**40]), ("shape",
            [-1]), ("shape", "x"),
            ("data_offsets", [0, 2**60]), ("data_offsets", [8, 0]), ("data_offsets", []), ("shape",
            [0]),
        ):  # fmt: skip
            yield f"{name}: {key} {value}", rebuilt(header | {name: entry | {key: value}})
        yield f"without {name}", rebuilt({k: v for k, v in header.items() if k != name})
    config = json.loads(header["__metadata__"]["al_charge"])
    for key in config:
        for value in (None, "x", [], {}, -1, float("nan"), [["Fe3+"]], 10**400, "\x1b[31m"):
            if (key, value) in (("pair_cutoff", -1), ("mean_neighbours", -1)) or value == config[
                key
            ]:
                continue
            changed = {"al_charge": json.dumps(config | {key: value})}
            yield f"{key} = {value!r:.30}", rebuilt(header | {"__metadata__": changed})
    for text in (
        "",
        "null",
        "[]",
        "{}",
        "5",
        "not JSON",
        '{"members": []}',
        '{"members": [5]}',
        '{"settings": {}}',
    ):
        yield f"metadata {text}", rebuilt(header | {"__metadata__": {"al_charge": text}})
    yield "no metadata", rebuilt({k: v for k, v in header.items() if k != "__metadata__"})
    save_file({}, path)
    yield "nothing in it", path.read_bytes()
    path.unlink()
    yield "a pickle", b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system"
    for size in (0, 1, 7, 8, 9, 100, 5000):
        yield f"{size} random bytes", dice.randbytes(size)


def credentials(dice: random.Random) -> Cases:
    for document in (None, 5, "text", [], {}, {"username": "a"}, {"password": "b"},
    {"username": "", "password": "b"},
                     {"username": "a", "password": ""}, {"username": 5, "password": "b"},
                     {"username": ["a"]},
                     {"username": "a", "password": None},
                     [{"username": "a", "password": "b"}]):  # fmt: skip
        yield repr(document), json.dumps(document)
    for text in (
        "",
        "{",
        "username: a\npassword: b\n",
        "a:b",
        '{"username": "a", "password": "b"',
        "[" * 50000,
        '{"username": "a", "password": "b"}' + " " * 70_000,
    ):
        yield f"{text:.40}", text
    for size in (1, 100, 5000):
        yield f"{size} random bytes", dice.randbytes(size)


def test_data_files(sweep: Any, dice: Any) -> None:
    argv = ("train", "d.extxyz", "m", "--kind", "painn", "--folds", "1")
    assert sweep.each(data_files(sweep.folder, dice), "d.extxyz", *argv) >= 60


def test_model_files(sweep: Any, dice: Any) -> None:
    write_labels(sweep.folder / "d.extxyz", [labelled(0)])
    cases = list(model_files(sweep.folder, dice))
    assert sweep.each(cases, "m", "predict", "m", "d.extxyz", names=("m: ",)) >= 120
    assert sweep.each(cases[::9], "m", "evaluate", "m", "d.extxyz", names=("m: ",))


def test_settings_of_a_training(sweep: Any) -> None:
    write_labels(sweep.folder / "d.extxyz", [labelled(0)])
    cases = [
        (str(document), yaml.safe_dump(document))
        for document in (
            {"potential": {"kind": "none"}}, {"potential": 5},
            {"potential": {"kind": "painn", "layers": True}},
            {"training": {"epochs": 0}}, {"trainning": {}}, {"potential": {"kind": "painn"},
            "training": []},
            {"potential": {"kind": "painn"}, "training": {"learning_rate": "1e999"}},
            {"name": "x"}, [],
        )
    ]  # fmt: skip
    assert sweep.each(cases, "s.yaml", "train", "d.extxyz", "m", "--settings", "s.yaml") == len(
        cases
    )


def test_credentials(sweep: Any, dice: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("AL_CHARGE_DATABASE", "mongodb://localhost:1")
    monkeypatch.setenv("AL_CHARGE_DATABASE_CREDENTIALS", str(sweep.folder / "login.json"))
    path = sweep.folder / "login.json"
    path.touch(0o600)
    assert sweep.each(credentials(dice), "login.json", "campaign", "list") >= 20
    path.write_text('{"username": "a", "password": "b"}')
    path.chmod(0o644)
    assert sweep.refuse("campaign", "list", names=("login.json",)) == ""


@pytest.mark.parametrize(
    "uri",
    [
        "localhost", "http://localhost", "mongodb:/localhost", "mongodb://",
        "mongodb://a:secret@b", "://", " ",
        "mongodb://localhost:99999", "mongodb://localhost:x", "mongodb://localhost:-1",
        "mongodb://[::1", "\x1b[31m",
        "mongodb://localhost/?tls=maybe", "mongodb://localhost/?w=1&w=", "mongodb://localhost/a/b",
        "mongodb+srv://a",
        "mongodb://localhost/?authMechanism=NONE", "mongodb://a,b,:c", "x" * 5000,
        "mongodb://localhost/?nothing",
    ],
)  # fmt: skip
def test_uris(uri: str, sweep: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("AL_CHARGE_DATABASE", uri)
    assert sweep.refuse("campaign", "list", names=("AL_CHARGE_DATABASE", "database ")) == ""
    monkeypatch.undo()


def test_words_on_the_command_line(sweep: Any) -> None:
    """Unknown commands and options, values of the wrong kind, and what is missing."""
    for command in COMMANDS:
        for words in ([f"{command}x"], [command, "--no-such-option"], [command, "--json=5", "x"],
        [command, "-ß"],
                      [command, *"abcdefghi"], [command, "--" + "x" * 3000], [command,
                      "\x1b[31m" * 3, "--y"]):  # fmt: skip
            if not (command == "worker" and words[-1] == "--y"):
                assert sweep.refuse(*words) == "", words
    (sweep.folder / "c.cif").write_text("data_x\n")
    for words in (
        "label c.cif", "label c.cif --engine none", "label c.cif --engine born --relax all",
        "label",
        "label none.cif --engine born", "label c.cif --engine born --settings none.yaml",
        "predict m", "predict",
        "predict none c.cif", "predict none c.cif --fmax 5",
        "predict none c.cif --relax --fmax -1eV/A",
        "predict none c.cif --processes 0", "predict none c.cif --batched",
        "train none.xyz m --kind painn",
        "train none.xyz m", "train none.xyz m --kind none", "train none.xyz no/such/m --kind painn",
        "train none.xyz m --kind painn --members 0", "train none.xyz m --kind painn --folds x",
        "train none.xyz m --kind painn --seed -1", "train none.xyz m --kind painn --device tpu",
        "train db: m --kind painn", "train db:a,b m --kind painn", "train db:x=1 m --kind painn",
        "train db:composition=z m --kind painn", "train none.xyz m --kind painn --plot x.gif",
        "enumerate c.cif --x 1/0", "enumerate none.yaml --x a", "init . --template none", "audit",
        "audit none.xml",
        "audit c.cif --window Fe3+", "audit c.cif --charge Fe", "campaign submit", "campaign none",
        "db none",
        "campaign submit none.yaml --workers 0", "campaign submit none.yaml --workers x",
        "hull none.yaml",
        "worker none.yaml --processes 0", "worker none.yaml --category tpu",
        "export none.yaml x.extxyz",
        "embedding none c.cif -o x.gif", "embedding none c.cif", "launchers new none",
        "launchers check none",
        "launch none.yaml --jobs 0", "launch none.yaml --interval 0", "demo --workers 0",
        "demo --workers x",
    ):  # fmt: skip
        assert sweep.refuse(*words.split()) == "", words
