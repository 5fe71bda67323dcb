"""Training frames on the local disk: filled once, extended later, read one by one.

A cache is a folder with one SQLite file. If a writer is killed, SQLite rolls its transaction back.
Each frame has a checksum, and a file with any damage is discarded and rebuilt. Processes of one
machine may fill a cache at once: one does, the others wait and find everything there.
"""

from __future__ import annotations

import fcntl
import hashlib
import sqlite3
import uuid
import weakref
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import safetensors.numpy
from ase import Atoms
from numpy.typing import NDArray
from safetensors import SafetensorError

from al_charge.crystal.species import TOKEN_DTYPE
from al_charge.errors import AlChargeError
from al_charge.potentials.data.frames import Subset, TrainingFrame

Fetch = Callable[[Sequence[str]], Iterator[tuple[str, Sequence[TrainingFrame]]]]
"""Given keys of labels, yields each with its frames."""

LAYOUT = 2
"""Version of the file's layout; a file of another layout is rebuilt."""
AT_ONCE = 64
"""Labels written in one transaction."""
WRITE_TIMEOUT = 600.0
"""s to wait for another process that writes."""
# Ids of rows are never reused: a reader of an older row finds it gone, and not another.
_SCHEMA = f"""
BEGIN;
CREATE TABLE labels (key TEXT PRIMARY KEY, stamp TEXT NOT NULL, frames INTEGER NOT NULL);
CREATE TABLE frames (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL,
    number INTEGER NOT NULL, "group" TEXT NOT NULL, checksum BLOB NOT NULL, content BLOB NOT NULL,
    UNIQUE (key, number));
PRAGMA user_version = {LAYOUT};
COMMIT;
"""
_NOT_DAMAGE = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
)
"""Error codes of SQLite that concern the disk and not the contents of a file."""
_PARTS = ("moments", "charges", "stress")
"""What a frame may lack; None there."""


class _DamagedError(Exception):
    """Some content of the file is not as it was written."""


class CachedFrames(Sequence[TrainingFrame]):
    """Frames of a cache, in the order of their labels, read when they are needed.

    Parameters
    ----------
    file
        The SQLite file.
    ids
        Ids of the frames in it.
    groups
        Group of every frame.
    sizes
        Frames of every label, by key.
    """

    def __init__(
        self, file: Path, ids: array[int], groups: Sequence[str], sizes: Mapping[str, int]
    ) -> None:
        self.groups = groups
        self.sizes = sizes
        self._ids = ids
        self._file = file
        self._connection = _connect(file)
        weakref.finalize(self, self._connection.close)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._ids)

    @overload
    def __getitem__(self, place: int) -> TrainingFrame: ...

    @overload
    def __getitem__(self, place: slice) -> Subset: ...

    def __getitem__(self, place: int | slice) -> TrainingFrame | Subset:
        """Return one frame, or some of them.

        Raises
        ------
        AlChargeError
            If the file was damaged since it was filled.
        """
        if isinstance(place, slice):
            return Subset(self, range(len(self))[place])
        try:
            return _read(self._connection, self._ids[place])
        except (_DamagedError, sqlite3.DatabaseError) as error:
            raise AlChargeError(
                "the cache of labels was damaged while it was used",
                where=str(self._file),
                remedy="run it again: the cache will be rebuilt",
            ) from error


def cached_frames(folder: Path, wanted: Mapping[str, str], fetch: Fetch) -> CachedFrames:
    """Return the frames of labels, of which those that a cache lacks are fetched first.

    Parameters
    ----------
    folder
        The cache; made if it is not there.
    wanted
        Stamps of labels by key, in order. A label whose stamp differs from that in the cache is
        fetched again.
    fetch
        Called with the keys that are lacking; read one label at a time.

    Returns
    -------
    CachedFrames
        In the order of ``wanted``, each read and checked once.

    Raises
    ------
    AlChargeError
        If the cache cannot be written, or what was written reads back damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the process ends, however it does
        # Never the name of a discarded file: a process may still read that one.
        for file in [*folder.glob("*.sqlite"), folder / f"{uuid.uuid4().hex}.sqlite"]:
            try:
                return _filled(file, wanted, fetch)
            except (_DamagedError, sqlite3.DatabaseError) as error:
                _refuse_full_disk(error, folder)
            _discard(file)
    raise AlChargeError(
        "data just written to the cache of labels are damaged",
        where=str(folder),
        remedy="check the disk",
    )


def _refuse_full_disk(error: Exception, folder: Path) -> None:
    """Raise an error that rebuilding the cache would not remedy."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in _NOT_DAMAGE:
        raise AlChargeError(
            f"the cache of labels cannot be written: {error}",
            where=str(folder),
            remedy="free some space, or check the permissions",
        ) from error


def _discard(file: Path) -> None:
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink(missing_ok=True)


def _connect(file: Path) -> sqlite3.Connection:
    # Shared by threads: SQLite is compiled for that, and serialises access.
    return sqlite3.connect(
        file, timeout=WRITE_TIMEOUT, isolation_level=None, check_same_thread=False
    )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _filled(file: Path, wanted: Mapping[str, str], fetch: Fetch) -> CachedFrames:
    """Add what a file lacks, and return the wanted frames, all of them checked."""
    with closing(_connect(file)) as connection:
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        if layout == 0:  # a new file
            connection.executescript(_SCHEMA)
        elif layout != LAYOUT:
            raise _DamagedError
        there = dict(connection.execute("SELECT key, stamp FROM labels"))
        lacking = [key for key, stamp in wanted.items() if there.get(key) != stamp]
        fetched = iter(fetch(lacking) if lacking else ())
        # No transaction is open while labels are fetched, so that readers need not wait for that.
        while some := [
            (key, [_packed(f) for f in frames]) for key, frames in islice(fetched, AT_ONCE)
        ]:
            with _transaction(connection):
                for key, rows in some:
                    _put(connection, key, wanted[key], rows)
        ids, sizes = array("q"), {}
        groups: list[str] = []
        for key, stamp in wanted.items():
            checked = _checked(connection, key, stamp)
            sizes[key] = len(checked)
            ids.extend(row for row, _ in checked)
            groups += [group for _, group in checked]
    return CachedFrames(file, ids, groups, sizes)


def _put(
    connection: sqlite3.Connection, key: str, stamp: str, rows: Sequence[tuple[str, bytes]]
) -> None:
    connection.execute("DELETE FROM frames WHERE key = ?", (key,))
    connection.execute("REPLACE INTO labels VALUES (?, ?, ?)", (key, stamp, len(rows)))
    connection.executemany(
        "INSERT INTO frames VALUES (NULL, ?, ?, ?, ?, ?)",
        (
            (key, number, group, _checksum(key, number, group, content), content)
            for number, (group, content) in enumerate(rows)
        ),
    )


def _checked(connection: sqlite3.Connection, key: str, stamp: str) -> list[tuple[int, str]]:
    """Return ids and groups of a label's frames, having read and checked them all."""
    label = connection.execute("SELECT stamp, frames FROM labels WHERE key = ?", (key,)).fetchone()
    rows = connection.execute(
        'SELECT id, key, number, "group", checksum, content FROM frames WHERE key = ? '
        "ORDER BY number",
        (key,),
    ).fetchall()
    if label != (stamp, len(rows)):
        raise _DamagedError
    shared = {row[3]: row[3] for row in rows}  # one text for all frames of a group
    for place, (_, name, number, group, checksum, content) in enumerate(rows):
        if number != place or checksum != _checksum(name, number, group, content):
            raise _DamagedError
    return [(row[0], shared[row[3]]) for row in rows]


def _read(connection: sqlite3.Connection, row: int) -> TrainingFrame:
    found = connection.execute(
        'SELECT key, number, "group", checksum, content FROM frames WHERE id = ?', (row,)
    ).fetchone()
    if found is None:
        raise _DamagedError
    key, number, group, checksum, content = found
    if checksum != _checksum(key, number, group, content):
        raise _DamagedError
    return _unpacked(group, content)


def _checksum(key: str, number: int, group: str, content: bytes) -> bytes:
    if not isinstance(content, bytes):  # a damaged row may hold anything
        raise _DamagedError
    digest = hashlib.blake2b(f"{key}\n{number}\n{group}\n".encode(), digest_size=16)
    digest.update(content)
    return digest.digest()


def _packed(frame: TrainingFrame) -> tuple[str, bytes]:
    """Return a frame's group, and everything else as the bytes of a safetensors file."""
    atoms = frame.atoms
    arrays: dict[str, NDArray[np.generic]] = {
        "cell": np.asarray(atoms.cell),
        "energy": np.array([frame.energy], dtype=np.float64),
        "forces": frame.forces,
        "species": np.frombuffer(" ".join(atoms.arrays["species"]).encode(), dtype=np.uint8),
    }
    arrays |= {name: value for name in _PARTS if (value := getattr(frame, name)) is not None}
    arrays |= {f"atoms.{n}": values for n, values in atoms.arrays.items() if n != "species"}
    plain = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    return frame.group, safetensors.numpy.save(plain)


def _unpacked(group: str, content: bytes) -> TrainingFrame:
    try:
        # Copies: what is read from bytes cannot be written to.
        found = {name: value.copy() for name, value in safetensors.numpy.load(content).items()}
    except SafetensorError as error:
        raise _DamagedError from error
    atoms = Atoms(found["atoms.numbers"], found["atoms.positions"], cell=found["cell"], pbc=True)
    for name, values in found.items():
        if name.startswith("atoms.") and name not in ("atoms.numbers", "atoms.positions"):
            atoms.set_array(name.removeprefix("atoms."), values)
    tokens = found["species"].tobytes().decode().split()
    atoms.set_array("species", np.array(tokens, dtype=TOKEN_DTYPE))
    return TrainingFrame(
        atoms=atoms,
        energy=float(found["energy"][0]),
        forces=found["forces"],
        stress=found.get("stress"),
        group=group,
        moments=found.get("moments"),
        charges=found.get("charges"),
    )
