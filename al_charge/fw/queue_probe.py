"""The environment of a job, tried in a shell of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 300.0
"""s; loading modules and importing torch may take long on a cold network file system."""

_MARK = "al-charge-probe:"
_IMPORTS = r"""
import importlib, json
found = {"missing": [], "gpus": 0, "gpu_build": False, "version": ""}
for name in ("al_charge", "fireworks", "pymongo", "ase", "pymatgen", "torch"):
    try:
        module = importlib.import_module(name)
    except Exception as error:
        found["missing"].append(f"{name}: {type(error).__name__}: {error}"[:200])
        continue
    if name == "al_charge":
        found["version"] = module.__version__
    if name == "torch":
        found["gpus"] = module.cuda.device_count() if module.cuda.is_available() else 0
        found["gpu_build"] = bool(module.version.cuda or module.version.hip)
print("al-charge-probe:" + json.dumps(found))
"""
_SCRIPT = """
{pre_rocket}
loaded=$?
program=$(command -v al-charge) || {{ echo 'there is no al-charge' >&2; exit 3; }}
python="$(dirname "$program")/python"
[ -x "$python" ] || python=python
"$python" -W ignore -c "$AL_CHARGE_PROBE" || exit 4
{campaign}
exit $((loaded ? 5 : 0))
"""
_FAILURES = {
    3: "there is no al-charge; load what it needs, such as: source /path/to/.venv/bin/activate",
    4: "its Python does not start",
    5: "its last command fails",
}

Found = tuple[Any, str, str]


def probe(pre_rocket: str, categories: Sequence[str], campaign: Path | None) -> Iterator[Found]:
    """Yield level, subject and finding of what jobs with these first lines would have.

    Parameters
    ----------
    pre_rocket
        What the jobs run first.
    categories
        Of the jobs; a GPU is looked for where `gpu` is among them, an engine where `dft` is.
    campaign
        File whose labeler has to be there.
    """
    what = f"environment of {', '.join(categories)}"
    label = campaign is not None and "dft" in categories
    check = 'al-charge check "$AL_CHARGE_PROBED" --json 2>&1' if label else ""
    environment = os.environ | {"AL_CHARGE_PROBE": _IMPORTS, "AL_CHARGE_PROBED": str(campaign)}
    try:
        done = subprocess.run(
            ["bash", "-c", _SCRIPT.format(pre_rocket=pre_rocket, campaign=check)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield "error", what, f"pre_rocket and imports take longer than {PATIENCE:.0f} s"
        return
    complaint = (done.stderr.strip().splitlines() or [""])[-1][:200]
    if done.returncode in _FAILURES:
        said = f" ({complaint})" if complaint and done.returncode != 3 else ""
        yield "error", what, f"pre_rocket: {_FAILURES[done.returncode]}{said}"
    elif complaint:
        yield "warning", what, f"pre_rocket says: {complaint}"
    _, mark, rest = done.stdout.rpartition(_MARK)
    if not mark:
        return
    line, _, checked = rest.partition("\n")
    yield from _imports(what, json.loads(line), "gpu" in categories)
    if label:
        yield from _engine(checked)


def _imports(what: str, found: dict[str, Any], gpu: bool) -> Iterator[Found]:
    for missing in found["missing"]:
        yield "error", what, f"cannot import {missing}"
    if not found["missing"]:
        yield "ok", what, f"al-charge {found['version']} and its packages import"
    if not gpu:
        return
    if found["gpus"]:
        yield "ok", "gpu", f"torch sees {found['gpus']}"
    elif found["gpu_build"]:
        yield "ok", "gpu", "torch sees none here, as is usual on a login node"
    else:
        yield "warning", "gpu", "this torch is built without GPUs; training will use the cores"


def _engine(checked: str) -> Iterator[Found]:
    """Judge what `al-charge check` says about a campaign in the environment of a job."""
    try:
        missing = json.loads(checked)["missing"]
    except (ValueError, KeyError):
        yield "error", "labeler", " ".join(checked.split())[:300]
        return
    if missing:
        yield "error", "labeler", missing
    else:
        yield "ok", "labeler", "what it needs is there"
