"""Set up al-charge in a virtual environment inside this clone, and run it.

    python3 bootstrap.py demo [ARGS]   install, then run `al-charge demo ARGS`
    python3 bootstrap.py test [ARGS]   install with GPAW, test tools and Slurm, then run pytest ARGS
    python3 bootstrap.py check         check style, types, imports, docstrings and the documentation
    python3 bootstrap.py docs          build the documentation: build/docs/index.html
    python3 bootstrap.py audit         ask for known vulnerabilities of what constraints.txt pins
    python3 bootstrap.py gpaw          build GPAW (again), with the libraries that are there

The standard library is all it needs. What is installed already is not installed again.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python should get a sentence, not a traceback
    sys.exit("bootstrap: Python 3.11 or newer is needed; this is " + sys.version.split()[0])

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PIP = (PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "-c", "constraints.txt")
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
SLURM = VENV / "slurm"
DOCSTRINGS = "python tests/house/docstrings.py"
DOCS = "sphinx-build -q -n -W --keep-going docs build/docs"
CHECKS = ("ruff check", "ruff format --check", "mypy", "lint-imports", DOCSTRINGS, DOCS)
COMPILED_ONCE = ("torch", "scipy.stats, pymatgen.analysis.phase_diagram, ase.io, fireworks")
WITHOUT_LIBRARIES = """\
noblas = True
nolibxc = True
mpi = False
fftw = False
scalapack = False
compiler = 'g++'
"""
WITH_LIBRARIES = """\
mpi = True
fftw = {fftw}
scalapack = False
libraries = {libraries}
compiler = 'mpicxx'
"""


def main(command: str = "", *arguments: str) -> int:
    """Run one command and return its exit code."""
    if command in ("demo", "test"):
        # Python keeps the bytecode of what they import, so that pip need not compile everything.
        os.environ.pop(NO_BYTECODE, None)
    if command == "demo":
        asked = os.dup(1)
        os.dup2(2, 1)  # what pip says is no part of the demo's JSON
        install("embedded")
        os.dup2(asked, 1)
        os.execv(VENV / "bin" / "al-charge", ["al-charge", "demo", *arguments])
    if command == "test":
        # For newer Pythons torch-sim comes with neighbour lists as CUDA code, which no test needs.
        batched = ["gpu"] if sys.version_info < (3, 12) else []
        install("embedded", "dev", *batched, *(["gpaw"] if can_build() else []))
        unpack_slurm()
        return test(*arguments)
    if command in ("check", "docs"):
        install("embedded", "docs", *(["dev"] if command == "check" else []))
        wanted = CHECKS if command == "check" else [DOCS]
        return max([run(VENV / "bin" / tool, *words) for tool, *words in map(str.split, wanted)])
    if command == "audit":
        install("embedded", "dev")
        return run(PYTHON, "-m", "pytest", "-q", "tests/house/test_pins.py") or audit()
    if command == "gpaw":
        if not can_build():
            return 1
        build_gpaw()
        install("embedded", "gpaw")
        return 0
    print(__doc__)
    return 0 if command in ("-h", "--help") else 2


def test(*arguments: str) -> int:
    """Run the tests: one process more than cores, since some wait; one thread each."""
    os.environ["OMP_NUM_THREADS"] = "1"
    processes = str(min(8, (os.cpu_count() or 1) + 1))
    options = ["-n", processes, "--dist", "loadfile", "--no-loadscope-reorder"]
    return run(PYTHON, "-m", "pytest", *options, *arguments)


def audit(pins: str = "constraints.txt") -> int:
    """Print known vulnerabilities of what is pinned, and of how much the database knows."""
    tool = VENV / "audit" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        asked = ("-r", pins, "--no-deps", "--disable-pip", "-f", "json", "-o", answer)
        if not run(sys.executable, "-m", "venv", VENV / "audit"):
            run(tool / "pip", "install", "-q", "pip-audit>=2.10,<3") or run(
                tool / "pip-audit", *asked
            )
        packages = json.loads(answer.read_text())["dependencies"] if answer.exists() else []
    known = [one for one in packages if "vulns" in one]
    bad = [f"{one['name']} {one['version']}: {v['id']}" for one in known for v in one["vulns"]]
    say(f"vulnerabilities: {len(bad)}; asked for {len(known)} packages")
    sys.stdout.writelines(f"{line}\n" for line in bad)
    return min(len(bad), 1)


def install(*extras: str) -> None:
    """Install the clone, editable, unless these extras are there and nothing has changed."""
    stamp = VENV / "installed.txt"
    files = (ROOT / "pyproject.toml", ROOT / "constraints.txt")
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    known = stamp.read_text().split() if stamp.exists() and PYTHON.exists() else [""]
    if known[0] == digest and set(known).issuperset(extras):
        return
    create_environment()
    stamp.unlink(missing_ok=True)
    wanted = sorted({*known[1:], *extras})
    say(f"installing al-charge [{', '.join(wanted)}] into {VENV}; at first this takes minutes")
    if "gpaw" in wanted and not any(VENV.glob("lib/python*/site-packages/gpaw/__init__.py")):
        with ThreadPoolExecutor() as threads:
            built = threads.submit(build_gpaw)
            pip_install([extra for extra in wanted if extra != "gpaw"])
        built.result()
    pip_install(wanted)
    list(ThreadPoolExecutor().map(lambda one: run(PYTHON, "-c", f"import {one}"), COMPILED_ONCE))
    stamp.write_text("\n".join([digest, *wanted]))


def pip_install(extras: list[str]) -> None:
    """Install the clone, editable, with these extras."""
    options = [] if os.environ.get(NO_BYTECODE) else ["--no-compile"]
    if run(*PIP, *options, "--editable", f".[{','.join(extras)}]"):
        sys.exit("bootstrap: pip failed, see above; the same command carries on from there")


def create_environment() -> None:
    """Create the virtual environment, unless it is there and whole."""
    if PYTHON.exists() and run(PYTHON, "-m", "pip", "--version", quiet=True) == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    if run(sys.executable, "-m", "venv", VENV):
        shutil.rmtree(VENV, ignore_errors=True)
        sys.exit("bootstrap: there is no way to make .venv, see above (Debian: python3-venv)")


def can_build() -> bool:
    """Tell whether GPAW can be compiled here; if not, say why."""
    header = Path(sysconfig.get_path("include"), "Python.h")
    if shutil.which("g++") is None:
        say("GPAW is left out: there is no g++ (Debian: apt install g++)")
    elif not header.exists():
        say(f"GPAW is left out: there is no {header} (Debian: apt install python3-dev)")
    else:
        return True
    return False


def unpack_slurm() -> None:
    """Unpack Slurm inside .venv for its test, from Debian's packages; nothing is installed.

    Where that is not possible the test is left out, and this says why.
    """
    if SLURM.exists() or shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin"):
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        say("the test with Slurm is left out: there is no apt-get to fetch it with")
        return
    with tempfile.TemporaryDirectory(dir=VENV) as name:
        folder, tree = Path(name), Path(name, "tree")
        # What apt-get knows of its servers may be old, or nothing at all.
        fetched = download_slurm(folder)
        if not fetched and os.geteuid() == 0 and run("apt-get", "update", quiet=True) == 0:
            fetched = download_slurm(folder)
        if not fetched:
            say("the test with Slurm is left out: apt-get cannot fetch slurm-wlm")
        elif any([run("dpkg", "-x", file, tree) for file in folder.glob("*.deb")]):
            say("the test with Slurm is left out: its packages do not unpack")
        else:
            tree.replace(SLURM)


def download_slurm(folder: Path) -> bool:
    """Download Slurm's packages and those that they need, apart from what is installed."""
    command = ["apt-get", "-s", "--no-install-recommends", "install", "slurm-wlm", "munge"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    packages = re.findall(r"^Inst (\S+)", done.stdout, re.MULTILINE)
    download = ("apt-get", "-qq", "download", *packages)
    return bool(packages) and run(*download, quiet=True, folder=folder) == 0


def build_gpaw() -> None:
    """Compile GPAW with libxc, BLAS and MPI where all three are there, else with g++ alone."""
    create_environment()
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        if "GPAW_CONFIG" not in environment:
            configuration = Path(folder, "siteconfig.py")
            configuration.write_text(site_configuration(Path(folder)))
            environment["GPAW_CONFIG"] = str(configuration)
        say("building GPAW; this takes a minute or more")
        # Not from pip's cache, where a build may be one without the libraries.
        options = ("--no-deps", "--force-reinstall", "--no-cache-dir", "--no-binary", "gpaw")
        if run(*PIP, *options, "gpaw", environment=environment):
            sys.exit("bootstrap: GPAW does not build, see above; the demo needs no GPAW")


def site_configuration(folder: Path) -> str:
    """Return what GPAW is to be built with, of the libraries that are here."""
    for blas in ("openblas", "blas"):
        for fftw in (True, False):
            libraries = ["xc", blas, *(["fftw3"] if fftw else [])]
            if links(folder, libraries):
                say(f"GPAW is built with MPI and {', '.join(libraries)}")
                return WITH_LIBRARIES.format(fftw=fftw, libraries=libraries)
    say("libxc, BLAS and MPI are not all here, so GPAW is built to run without them")
    return WITHOUT_LIBRARIES


def links(folder: Path, libraries: list[str]) -> bool:
    """Tell whether a program with MPI and these libraries compiles and links."""
    if shutil.which("mpicxx") is None:
        return False
    headers = ["mpi.h", "xc.h", *(["fftw3.h"] if "fftw3" in libraries else [])]
    source = folder / "probe.cpp"
    includes = "".join(f"#include <{header}>\n" for header in headers)
    source.write_text(includes + "int main() { return 0; }\n")
    options = [f"-l{library}" for library in libraries]
    return run("mpicxx", source, "-o", folder / "probe", *options, quiet=True) == 0


def run(
    *command: str | Path,
    quiet: bool = False,
    environment: dict[str, str] | None = None,
    folder: Path = ROOT,
) -> int:
    """Run a program in a folder, the clone by default, and return its exit code."""
    output = subprocess.DEVNULL if quiet else None
    words = [str(part) for part in command]
    return subprocess.run(
        words, cwd=folder, env=environment, stdout=output, stderr=output
    ).returncode


def say(line: str) -> None:
    """Print a line about what goes on, apart from what the programs print."""
    print(f"bootstrap: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
