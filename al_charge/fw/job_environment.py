"""What a job would find, told by the Python that it would run: `python -m` this module."""

from __future__ import annotations

import importlib
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

MARK = "al-charge-environment:"
"""Stands before the one line of JSON; modules and profiles may print as well."""
_PACKAGES = ("fireworks", "pymongo", "ase", "pymatgen", "torch")


def environment(campaign: Path | None) -> dict[str, Any]:
    """Return what is there: version, packages that do not import, GPUs, and the labeler's lack.

    Parameters
    ----------
    campaign
        File of the campaign whose labeler is looked for; None for no labeler.
    """
    found: dict[str, Any] = {
        "version": version("al-charge"),
        "missing": [],
        "gpus": 0,
        "gpu_build": False,
        "labeler": None if campaign is None else _lack(campaign),
    }
    for name in _PACKAGES:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # whatever a broken installation raises
            line = " ".join(f"{name}: {type(error).__name__}: {error}".split())
            found["missing"].append(line[:200])
            continue
        if name == "torch":
            found["gpus"] = module.cuda.device_count() if module.cuda.is_available() else 0
            found["gpu_build"] = bool(module.version.cuda or module.version.hip)
    return found


def _lack(campaign: Path) -> str:
    """Return what the labeler of a campaign lacks here, an empty string for nothing."""
    from al_charge.errors import AlChargeError
    from al_charge.labelers import make_labeler
    from al_charge.loop.rounds import check_spec
    from al_charge.loop.spec import load_spec

    try:
        spec = load_spec(campaign)
        check_spec(spec)
        labeler = make_labeler(spec.labeler)
        if (command := getattr(labeler, "command", None)) is not None:
            command()
    except AlChargeError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    print(MARK + json.dumps(environment(Path(sys.argv[1]) if len(sys.argv) > 1 else None)))
