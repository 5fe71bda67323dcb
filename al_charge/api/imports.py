"""Labels of exports, and results of other programs, go into a database."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al_charge.api.results import Result
from al_charge.crystal import compressed
from al_charge.crystal.prepare import parent_structure
from al_charge.crystal.supercells import Supercells, hosts_of
from al_charge.crystal.valence import Windows
from al_charge.errors import InputError
from al_charge.labelers.method import unlike_default_windows
from al_charge.labelers.plugin import method_of
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.spec import CampaignSpec, load_spec
from al_charge.loop.submit import document_of
from al_charge.report.audit_again import Disagreement
from al_charge.report.exported import Exported
from al_charge.store.connection import connect
from al_charge.store.documents import LabelDoc
from al_charge.store.labels import SUMMARY
from al_charge.store.migrations import stored_version
from al_charge.store.mongo import Store
from al_charge.store.settings import settings_from_environment, settings_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from al_charge.report.foreign.find import Found
    from al_charge.report.foreign.judge import Verdict

ENERGY_TOLERANCE = 1e-6
"""eV per cell by which two results of one label may differ and still be the same."""


@dataclass(frozen=True)
class ImportResult(Result):
    """What an import has brought into a database.

    Attributes
    ----------
    imported
        Keys of the labels that are new in the database.
    known
        Keys of those that were there already; they were not changed.
    left_out
        Why a label was not imported, by its key: its audit does not find what the file says.
    document
        What ``al-charge labels import --json`` prints.
    """

    imported: tuple[str, ...]
    known: tuple[str, ...]
    left_out: dict[str, str]
    document: dict[str, Any] = field(repr=False)

    def table(self) -> RenderableType:
        """Return what `al-charge labels import` prints.

        Returns
        -------
        rich renderable
            A line with the numbers, and one for each label that is not as the file says; of runs
            of other programs a table.
        """
        from rich.console import Group
        from rich.text import Text

        lines = Text("\n".join(self._lines()))
        if "runs" not in self.document:
            return lines
        from al_charge.report.tables import imported_table

        return Group(imported_table(self.document), lines)

    def __str__(self) -> str:
        """Return a line with the numbers, and one for each label that is not as the file says."""
        if "runs" in self.document:
            return super().__str__()
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        found = self.document
        lines = [
            f"labels of campaign '{found['campaign']}', settings {found['settings_hash']}: "
            f"{len(self.imported)} imported, {len(self.known)} there already, "
            f"{len(self.left_out)} left out"
        ]
        kept = [f"kept {key}: {reason}" for key, reason in found["kept"].items()]
        if "runs" in found:
            return lines + kept
        if found["metal"] is not None:
            told = "imported" if found["metal_imported"] else "there already"
            lines.append(f"energy of {found['metal']} metal: {told}")
        lines += [f"left out {key}: {reason}" for key, reason in self.left_out.items()]
        lines += kept
        lines += [f"warning: {warning}" for warning in found["warnings"]]
        return lines


def import_labels(
    file: Path | str,
    database: str | None = None,
    *,
    campaign: str | Path | None = None,
    same_settings: bool = False,
) -> ImportResult:
    """Import labels that `al-charge export` wrote, or results of other programs, each audited.

    Every campaign of the same host and settings takes them over when it selects its next labels.

    Parameters
    ----------
    file
        The extended XYZ file, its JSON file beside it; ``mongodb://HOST/NAME`` for another database
        of al-charge; a store of jobflow, see `al_charge.report.foreign.jobflow_store.store_at`; or
        what other programs have left, see `al_charge.report.foreign.find.find_runs`.
    database
        ``mongodb://HOST/NAME``, without a password; by default the one that the environment
        variable AL_CHARGE_DATABASE names, else the embedded one.
    campaign
        Name or file of the campaign whose labels they shall be: of other programs' results, of
        another database, and of exports of version 0.2, which do not tell the host.
    same_settings
        Whether results of other programs have the campaign's settings as far as they do not tell.

    Returns
    -------
    ImportResult
        Prints as a line with the numbers, and one for each label that is not as the file says.

    Raises
    ------
    InputError
        If a file is not as it was written, or is of another host; nothing was imported then.

    Examples
    --------
    >>> import al_charge as ac
    >>> found = ac.import_labels("labels.extxyz")
    >>> len(found.imported), found.left_out
    (50, {})
    """
    settings = settings_from_environment() if database is None else settings_of(database, "import")
    store = Store(connect(settings))
    try:
        store.ensure_schema()
        return import_into(store, file, campaign, same_settings=same_settings)
    finally:
        store.close()


def import_into(
    store: Store,
    file: Path | str,
    campaign: str | Path | None = None,
    *,
    same_settings: bool = False,
) -> ImportResult:
    """Import labels into an open store; see `import_labels`.

    Parameters
    ----------
    store
        The database.
    file
        See `import_labels`.
    campaign
        See `import_labels`.
    same_settings
        See `import_labels`.

    Returns
    -------
    ImportResult
        What was imported.
    """
    from al_charge.report.foreign.jobflow_store import SCHEMES, is_jobflow

    path = Path(file)
    if is_jobflow(str(file)):
        return _foreign(store, str(file), campaign, same_settings=same_settings)
    if str(file).startswith(SCHEMES):
        return _from_database(store, str(file), campaign)
    if _is_foreign(path):
        return _foreign(store, str(path), campaign, same_settings=same_settings)
    return _exported(store, path, campaign)


def _is_foreign(path: Path) -> bool:
    """Tell whether a path is anything but an export of al-charge, or a broken one."""
    if path.suffix != ".extxyz":
        return path.suffix != ".json" or not path.with_suffix(".extxyz").is_file()
    beside = path.with_suffix(".json")
    return path.is_file() and not beside.is_file() and not _has_labels(path)


def _has_labels(path: Path) -> bool:
    """Tell whether an extended XYZ file names labels of al-charge in its first frame."""
    _, head = [*islice(compressed.lines(path), 2), "", ""][:2]
    return bool(re.search(r"\blabel=", head))


def _from_database(store: Store, address: str, campaign: str | Path | None) -> ImportResult:
    """Import the labels of a campaign of another database, as its export."""
    from al_charge.report.export import export

    if campaign is None:
        raise InputError(
            "it does not say of which campaign", where=address, remedy="name it with --campaign"
        )
    other = Store(connect(settings_of(address, "import")))
    try:
        if stored_version(other.database) == 0:
            raise InputError("there is no database of al-charge", where=address)
        other.ensure_schema()
        with tempfile.TemporaryDirectory(prefix="al-charge-") as folder:
            file = Path(folder) / f"{campaign}.extxyz"
            opened = open_campaign(other, str(campaign))
            export(opened, file, last=False, usable_only=False, force=False)
            found = _exported(store, file, None)
    finally:
        other.close()
    return replace(found, document=found.document | {"file": address})


def _foreign(
    store: Store, path: str, campaign: str | Path | None, *, same_settings: bool
) -> ImportResult:
    """Import results of other programs as labels of a campaign."""
    from al_charge.report.foreign.find import find_runs
    from al_charge.report.foreign.jobflow_store import is_jobflow, store_at, stored_tasks
    from al_charge.report.foreign.judge import Judge

    if campaign is None:
        raise InputError(
            "it does not say which campaign's labels they are",
            where=path,
            remedy="give its name or file with --campaign",
        )
    opened = _opened(store, str(campaign))
    runs: Iterable[Found]
    if is_jobflow(path):
        runs = stored_tasks(store_at(path), set(opened.host.elements), opened.host.working_ion)
    else:
        runs = find_runs(Path(path))
    # Everything is read and judged before anything is written.
    verdicts = Judge(opened, same_settings=same_settings).verdicts(runs)
    labels = [one.label for one in verdicts if one.label is not None]
    energies = {label.key: label.energy for label in labels}
    known = {one.key: one.energy for one in store.labels.read(SUMMARY, keys=energies)}
    imported = {label.key for label in labels if label.key not in known and store.labels.put(label)}
    document = {
        "file": path,
        "campaign": opened.name,
        "host_fingerprint": opened.host.fingerprint,
        "settings_hash": opened.settings_hash,
        "imported": sorted(imported),
        "known": sorted(known),
        "left_out": {one.found.source: one.reason for one in verdicts if one.reason},
        "kept": _kept(known, energies),
        "metal": None,
        "metal_imported": False,
        "warnings": [],
        "runs": [_of_run(opened, one, imported) for one in verdicts],
    }
    left_out: dict[str, str] = document["left_out"]  # type: ignore[assignment]
    return ImportResult(tuple(sorted(imported)), tuple(sorted(known)), left_out, document)


def _of_run(campaign: Campaign, one: Verdict, imported: Collection[str]) -> dict[str, Any]:
    """Return what is told of one run."""
    label, told = one.label, {"source": one.found.source, "reason": one.reason}
    if label is None:
        empty: dict[str, Any] = dict.fromkeys(("label", "x", "energy_per_formula")) | {
            "species": {}
        }
        return {**told, "outcome": "refused", **empty}
    redox = campaign.host.redox_species
    return {
        **told,
        "outcome": "imported" if label.key in imported else "there already",
        "label": label.key,
        "x": label.composition,
        "energy_per_formula": campaign.cells.energy_of(label),
        "species": dict(sorted(Counter(s for s in label.resolved or () if s in redox).items())),
    }


def _opened(store: Store, campaign: str) -> Campaign:
    """Return a campaign, given its name or its file; it need not be in the database."""
    if not campaign.endswith((".yaml", ".yml")):
        return open_campaign(store, campaign)
    return open_campaign(store, campaign, document_of(load_spec(Path(campaign)))[0])


def _exported(store: Store, file: Path, campaign: str | Path | None) -> ImportResult:
    """Import the labels that `al-charge export` wrote."""
    told = () if campaign is None else _cells_and_fmax(store, str(campaign))
    exported = Exported(file, *told)
    left_out, energies = {}, {}
    # Once through the whole file, before anything is written.
    for label in exported.labels():
        if isinstance(label, Disagreement):
            left_out[label.key] = label.reason
        else:
            energies[label.key] = label.energy
    metal = exported.metal()
    known = {one.key: one.energy for one in store.labels.read(SUMMARY, keys=energies)}
    imported = [
        label.key
        for label in exported.labels()
        if isinstance(label, LabelDoc) and label.key not in known and store.labels.put(label)
    ]
    metal_imported = metal is not None and store.references.put(metal)
    document = {
        "file": str(file),
        "campaign": exported.source.campaign,
        "host_fingerprint": exported.host.fingerprint,
        "settings_hash": exported.settings_hash,
        "imported": sorted(imported),
        "known": sorted(known),
        "left_out": left_out,
        "kept": _kept(known, energies),
        "metal": None if metal is None else metal.ion,
        "metal_imported": metal_imported,
        "warnings": _warnings(exported),
    }
    return ImportResult(tuple(sorted(imported)), tuple(sorted(known)), left_out, document)


def _kept(known: Mapping[str, float], energies: Mapping[str, float]) -> dict[str, str]:
    """Say of which labels the database has another energy than what is imported."""
    return {
        key: f"it was there with {energy:.6f} eV, the file has {energies[key]:.6f}"
        for key, energy in sorted(known.items())
        if abs(energy - energies[key]) > ENERGY_TOLERANCE
    }


def _warnings(exported: Exported) -> list[str]:
    """Say where labels are judged by windows of another functional or U than theirs."""
    engine: dict[str, Any] = exported.document.get("engine_windows", {})
    ranges = {**engine.get("ranges", {}), **exported.document["moment_windows"]}
    species = exported.host.redox_species - engine.get("users", {}).keys()
    windows = Windows({token: (low, high) for token, (low, high) in ranges.items()})
    line = unlike_default_windows(method_of(exported.settings), species, windows)
    return [line] if line else []


def _cells_and_fmax(store: Store, campaign: str) -> tuple[Supercells, float | None]:
    """Return supercells and force limit of a campaign, given its name or its file."""
    spec: CampaignSpec
    cells: Supercells
    if campaign.endswith((".yaml", ".yml")):
        spec = load_spec(Path(campaign))
        cells = hosts_of(spec.host, parent_structure(spec.host))
    else:
        opened = open_campaign(store, campaign)
        spec, cells = opened.spec, opened.cells
    return cells, getattr(spec.labeler, "fmax", None)
