"""Print which small changes to a room's code its tests notice (mutation testing, by mutmut).

mutmut changes one operator, number, argument, keyword or string of a function at a time. Mutants of
each room are drawn with a seed. Each is tested with those of the room's tests, except slow and gpaw
ones, that call the changed function; a survivor is tested with all of them. A table has the scores;
survivors are printed as the lines they change. Changes of nothing but a message's wording are not
drawn; mutmut leaves out decorated functions and code outside functions. Results are kept in a
folder: run again, it continues where it ended, and tests earlier survivors once more.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import json
import os
import random
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import Any

from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name
from rich.console import Console
from rich.table import Table

from al_charge.store.embedded import EmbeddedServer

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "al_charge"
ROOMS: dict[str, tuple[list[str], list[str]]] = {
    "crystal": (["al_charge/crystal/*.py"], ["tests/crystal"]),
    "thermo": (["al_charge/thermo/*.py"], ["tests/thermo"]),
    "labelers": (
        [
            "al_charge/labelers/bader.py",
            "al_charge/labelers/basins.py",
            "al_charge/labelers/labelling.py",
            "al_charge/labelers/outputs/*.py",
            "al_charge/loop/label_document.py",
        ],
        [
            "tests/labelers/test_bader.py",
            "tests/labelers/test_basins.py",
            "tests/labelers/test_labelling.py",
            "tests/labelers/test_outputs.py",
            "tests/cli/test_audit.py",
            "tests/loop/test_request_ledger.py",
            "tests/loop/test_label_faults.py",
            "tests/loop/test_verify.py",
        ],
    ),
    "store": (["al_charge/store/**/*.py"], ["tests/store", "tests/house/test_db.py"]),
    "acquisition": (["al_charge/acquisition/*.py"], ["tests/acquisition"]),
    "search": (["al_charge/search/*.py"], ["tests/search"]),
    "surrogate": (["al_charge/surrogate/*.py"], ["tests/surrogate"]),
    "committee": (["al_charge/potentials/committee.py"], ["tests/potentials/test_committee.py"]),
    "loop": (["al_charge/loop/*.py"], ["tests/loop"]),
}
"""What is changed and which tests should notice; of the labelers, the audit and moment windows."""
COPIED = ("db", "docs", "examples", "launchers", "workflows", "README.md", "constraints.txt")
CONFTEST = "conftest.py"
HOME = "home"
"""In the folder: where the MongoDB lives that all mutants share."""
MARKED = "not slow and not gpaw"
KILLED = {1, 3, -11}
"""What mutmut keeps of mutants that a test failed on, or that crashed."""
TIME_LIMIT = 300
"""Seconds for each test of a room on a mutant; one that hangs is killed."""


def only_wording(before: str, after: str) -> bool:
    """Tell whether two sources differ in nothing but one string of several words."""
    old, new = (
        [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.string.strip()]
        for text in ("if 1:\n" + before, "if 1:\n" + after)
    )
    if len(old) != len(new):
        return False
    changed = [a for a, b in zip(old, new, strict=True) if a.string != b.string]
    return len(changed) == 1 and changed[0].type == tokenize.STRING and " " in changed[0].string


class Room:
    """The part of a room that is changed, in a folder of its own, where mutmut runs."""

    def __init__(self, name: str, folder: Path) -> None:
        patterns, self.tests = ROOMS[name]
        self.sources = sorted(path for pattern in patterns for path in ROOT.glob(pattern))
        self.folder = folder / name
        # Python does not look again into a folder of its path that was missing when it began.
        (self.folder / "mutants").mkdir(parents=True, exist_ok=True)
        linked = {entry: ROOT / entry for entry in (PACKAGE, "tests", *COPIED)}
        linked[CONFTEST] = ROOT / "benchmarks" / "mutation_conftest.py"
        linked["shared"] = ROOT.parent / "shared"  # published data, beside the tests' folder
        for entry, path in linked.items():
            link = self.folder / entry
            link.unlink(missing_ok=True)
            link.symlink_to(path)
        settings = {
            "source_paths": [PACKAGE],
            "only_mutate": [str(path.relative_to(ROOT)) for path in self.sources],
            "also_copy": [*COPIED, CONFTEST],
            "pytest_add_cli_args": ["-p", "no:cacheprovider", "-m", MARKED],
            "pytest_add_cli_args_test_selection": self.tests,
            # A process that has run tests has cached results of what a mutant changes.
            "process_isolation": "forkserver",
            "use_git_change_detection": False,
            # Also on a busy machine it is a mutant that takes longer, at least 150 s of wall time.
            "timeout_constant": 10.0,
        }
        lines = (f"{key} = {json.dumps(value)}" for key, value in settings.items())
        project = (ROOT / "pyproject.toml").read_text() + "\n[tool.mutmut]\n" + "\n".join(lines)
        file = self.folder / "pyproject.toml"
        if not file.exists() or file.read_text() != project:
            file.write_text(project)
        self.environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "AL_CHARGE_TEST_HOME": str(folder / HOME),
            # Also processes that a test starts run the mutants.
            "PYTHONPATH": str(self.folder / "mutants"),
        }

    def mutants(self) -> dict[str, list[str]]:
        """Return the changed lines of each mutant by its name, without changes of wording."""
        found = {}
        for path in self.sources:
            relative = path.relative_to(ROOT)
            with contextlib.chdir(self.folder):
                file = mutate_file_contents(str(relative), path.read_text())
            lines = file.code.splitlines()
            functions = {
                name: lines[span.start - 1 : span.end]
                for name, span in file.line_span_by_function_name.items()
            }
            for name in file.mutant_names:
                origin = name.rpartition("__mutmut_")[0] + "__mutmut_orig"
                before, after = functions[origin], functions[name]
                after = [line.replace(name, origin) for line in after]
                if not only_wording("\n".join(before), "\n".join(after)):
                    diff = list(difflib.unified_diff(before, after, lineterm="", n=0))[2:]
                    found[get_mutant_name(relative, name)] = [x for x in diff if x[:2] != "@@"]
        return found

    def exit_codes(self) -> dict[str, int | None]:
        """Return what mutmut keeps of each mutant."""
        found: dict[str, int | None] = {}
        for path in (self.folder / "mutants" / PACKAGE).rglob("*.meta"):
            found |= json.loads(path.read_text())["exit_code_by_key"]
        return found

    def run(self, names: list[str]) -> dict[str, bool]:
        """Test mutants that are not known to be killed; tell of each whether it is now."""
        known = self.exit_codes()
        left = [name for name in names if known.get(name) not in KILLED]
        tool = Path(sys.executable).with_name("mutmut")
        if left:
            subprocess.run(
                [tool, "run", "--max-children", "1", *left],
                cwd=self.folder,
                env=self.environment,
                check=True,
            )
        codes = self.exit_codes()
        return {name: codes[name] in KILLED or self.killed_by_all(name) for name in names}

    def killed_by_all(self, name: str) -> bool:
        """Tell whether any of the room's tests fails on a mutant, or hangs.

        What a fixture of several tests calls, or a cache keeps, mutmut takes for a matter of the
        first of them; and it tells no hanging from a busy machine.
        """
        here = self.folder / "mutants"
        pytest = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "--rootdir=.",
            "-p",
            "no:cacheprovider",
        ]
        done = subprocess.run(
            [*pytest, f"--timeout={TIME_LIMIT}", "-m", MARKED, *self.tests],
            cwd=here,
            env=self.environment | {"MUTANT_UNDER_TEST": name},
            capture_output=True,
            check=False,
        )
        return done.returncode != 0


def main() -> None:
    """Test the mutants, print the table and the survivors, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rooms", nargs="*", default=ROOMS, help="by default " + ", ".join(ROOMS))
    parser.add_argument("--mutants", type=int, default=300, help="how many are drawn per room")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "mutation")
    parser.add_argument("--json", type=Path, default=Path("mutation.json"))
    arguments = parser.parse_args()

    console = Console()
    table = Table("room", "mutants", "drawn", "killed", "score")
    documents: dict[str, Any] = {}
    folder = arguments.folder.resolve()
    server = EmbeddedServer(folder / HOME)
    server.start()
    for name in arguments.rooms:
        room = Room(name, folder)
        mutants = room.mutants()
        drawn = sorted(mutants)
        if len(drawn) > arguments.mutants:
            drawn = sorted(random.Random(arguments.seed).sample(drawn, arguments.mutants))
        killed = room.run(drawn)
        score = sum(killed.values()) / len(drawn)
        table.add_row(
            name, str(len(mutants)), str(len(drawn)), str(sum(killed.values())), f"{score:.1%}"
        )
        survivors = {mutant: mutants[mutant] for mutant in drawn if not killed[mutant]}
        for mutant, lines in survivors.items():
            print(mutant, *lines, sep="\n")
        documents[name] = {
            "mutants": len(mutants),
            "drawn": len(drawn),
            "seed": arguments.seed,
            "score": score,
            "survivors": survivors,
        }
        arguments.json.write_text(json.dumps(documents, indent=1))
    server.stop()
    console.print(table)


if __name__ == "__main__":
    main()
