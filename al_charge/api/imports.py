"""Labels that al-charge exported go back into a database."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al_charge.api.results import Result
from al_charge.crystal.host import Host
from al_charge.crystal.valence import Windows
from al_charge.labelers.method import unlike_default_windows
from al_charge.labelers.plugin import method_of
from al_charge.loop.campaign import open_campaign
from al_charge.loop.spec import CampaignSpec, load_spec
from al_charge.report.audit_again import Disagreement
from al_charge.report.exported import Exported
from al_charge.store.connection import connect
from al_charge.store.documents import LabelDoc
from al_charge.store.labels import SUMMARY
from al_charge.store.mongo import Store
from al_charge.store.settings import settings_from_environment, settings_of

if TYPE_CHECKING:
    from rich.console import RenderableType

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
            A line with the numbers, and one for each label that is not as the file says.
        """
        from rich.text import Text

        return Text(str(self))

    def __str__(self) -> str:
        """Return a line with the numbers, and one for each label that is not as the file says."""
        found = self.document
        lines = [
            f"labels of campaign '{found['campaign']}', settings {found['settings_hash']}: "
            f"{len(self.imported)} imported, {len(self.known)} there already, "
            f"{len(self.left_out)} left out"
        ]
        if found["metal"] is not None:
            told = "imported" if found["metal_imported"] else "there already"
            lines.append(f"energy of {found['metal']} metal: {told}")
        lines += [f"left out {key}: {reason}" for key, reason in self.left_out.items()]
        lines += [f"kept {key}: {reason}" for key, reason in found["kept"].items()]
        lines += [f"warning: {warning}" for warning in found["warnings"]]
        return "\n".join(lines)


def import_labels(
    file: Path | str, database: str | None = None, *, campaign: str | Path | None = None
) -> ImportResult:
    """Import the labels that `al-charge export` wrote, each audited again.

    Every campaign of the same host and settings takes them over when it selects its next labels.

    Parameters
    ----------
    file
        The extended XYZ file; its JSON file must lie beside it.
    database
        ``mongodb://HOST/NAME``, without a password; by default the one that the environment
        variable AL_CHARGE_DATABASE names, else the embedded one.
    campaign
        Name or file of the campaign that made the labels, for exports of version 0.2, which do
        not tell the host.

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
        return import_into(store, Path(file), campaign)
    finally:
        store.close()


def import_into(store: Store, file: Path, campaign: str | Path | None = None) -> ImportResult:
    """Import the labels that `al-charge export` wrote into an open store; see `import_labels`.

    Parameters
    ----------
    store
        The database.
    file
        The extended XYZ file.
    campaign
        Name or file of the campaign that made the labels; None if the export tells the host.

    Returns
    -------
    ImportResult
        What was imported.
    """
    told = () if campaign is None else _host_and_fmax(store, str(campaign))
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
        "kept": {
            key: f"it was there with {energy:.6f} eV, the file has {energies[key]:.6f}"
            for key, energy in sorted(known.items())
            if abs(energy - energies[key]) > ENERGY_TOLERANCE
        },
        "metal": None if metal is None else metal.ion,
        "metal_imported": metal_imported,
        "warnings": _warnings(exported),
    }
    return ImportResult(tuple(sorted(imported)), tuple(sorted(known)), left_out, document)


def _warnings(exported: Exported) -> list[str]:
    """Say where labels are judged by windows of another functional or U than theirs."""
    engine: dict[str, Any] = exported.document.get("engine_windows", {})
    ranges = {**engine.get("ranges", {}), **exported.document["moment_windows"]}
    species = exported.host.redox_species - engine.get("users", {}).keys()
    windows = Windows({token: (low, high) for token, (low, high) in ranges.items()})
    line = unlike_default_windows(method_of(exported.settings), species, windows)
    return [line] if line else []


def _host_and_fmax(store: Store, campaign: str) -> tuple[Host, float | None]:
    """Return host and force limit of a campaign, given its name or its file."""
    spec: CampaignSpec
    if campaign.endswith((".yaml", ".yml")):
        spec = load_spec(Path(campaign))
        host = Host.from_spec(spec.host)
    else:
        opened = open_campaign(store, campaign)
        spec, host = opened.spec, opened.host
    return host, getattr(spec.labeler, "fmax", None)
