"""Paths of a campaign file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from al_charge.errors import InputError
from al_charge.loop.spec import _PATHS, CampaignSpec, load_labeler_settings, parse_spec

SPEC: dict[str, Any] = {
    "name": "here",
    "host": {
        "structure": "~/host.cif",
        "working_ion": "Na",
        "redox": {"Fe": [2, 3]},
        "fixed": {"P": 5, "O": -2},
    },
    "labeler": {"kind": "born"},
    "potential": {"kind": "painn"},
    "database": {"uri": "mongodb://localhost/x", "credentials_file": "~/x.json"},
}


def paths_in(annotation: Any, steps: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the place of every field that holds a path."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from paths_in(field.annotation, (*steps, name))
    elif annotation is Path:
        yield steps
    else:
        for inner in get_args(annotation):
            yield from paths_in(inner, steps)


def test_every_path_is_made_whole() -> None:
    assert set(paths_in(CampaignSpec)) <= set(_PATHS)


def test_a_tilde_is_the_home_folder_and_all_else_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    spec = parse_spec(SPEC, source=tmp_path / "c.yaml")
    assert spec.host.structure == tmp_path / "home" / "host.cif"
    assert spec.database is not None
    assert spec.database.credentials_file == tmp_path / "home" / "x.json"
    beside = SPEC | {"database": SPEC["database"] | {"credentials_file": "a/~x.json"}}
    spec = parse_spec(beside, source=tmp_path / "c.yaml")
    assert spec.database is not None
    assert spec.database.credentials_file == tmp_path / "a" / "~x.json"
    nobody = SPEC | {"host": SPEC["host"] | {"structure": "~nobody-here/host.cif"}}
    with pytest.raises(InputError, match=r"c.yaml: host.structure: .* home folder for '~nobody-h"):
        parse_spec(nobody, source=tmp_path / "c.yaml")
    (tmp_path / "labeler.yaml").write_text("kind: model\nmodel: ~/m\nspecies: []\n")
    with pytest.raises(InputError) as refused:
        load_labeler_settings(tmp_path / "labeler.yaml")
    assert "~" not in str(refused.value)
