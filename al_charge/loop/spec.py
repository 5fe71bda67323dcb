"""The campaign file: what a user writes, checked to the last field before anything is stored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from al_charge.acquisition.plugin import ACQUISITIONS, AcquisitionSettings
from al_charge.crystal.host_spec import HostSpec
from al_charge.errors import InputError, did_you_mean
from al_charge.labelers.plugin import LABELERS, EngineSettings, LabelerSettings
from al_charge.loop.packed_folder import Keep
from al_charge.loop.resources import ResourcesSettings
from al_charge.loop.strict_yaml import read_mapping, refuse_false_numbers
from al_charge.plugins import ChosenByKind, Plugins
from al_charge.potentials.settings import PotentialSettings, RelaxationSettings, TrainingSettings
from al_charge.search.plugin import SEARCHES, SearchSettings
from al_charge.store.settings import DatabaseSettings
from al_charge.units import Energy

_PATHS = (
    ("host", "structure"),
    ("host", "empty_structure"),
    ("labeler", "model"),
    ("potential", "foundation"),
    ("database", "credentials_file"),
    ("database", "tls_ca_file"),
    ("database", "tls_certificate_key_file"),
    ("database", "tls_key_password_file"),
)
_KINDS = {"tuple_type": "a list", "bool_type": "true or false"} | dict.fromkeys(
    ("dict_type", "model_type", "model_attributes_type"), "fields of its own, such as 'kind: ...'"
)


_LABELER: TypeAdapter[EngineSettings] = TypeAdapter(LabelerSettings)


class CommitteeSettings(BaseModel):
    """How many potentials are trained side by side."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(default=3, ge=2, le=16, description="number of potentials")


class ConvergenceSettings(BaseModel):
    """When a campaign is finished."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: int = Field(
        default=2, ge=1, description="rounds in a row for which every criterion must hold"
    )
    hull_tolerance: Energy = Field(
        default=0.001, gt=0, description="largest movement of the hull, per formula unit"
    )
    max_rounds: int = Field(default=12, ge=1, description="rounds after which the campaign stops")
    max_labels: int = Field(
        default=100,
        ge=2,
        description="labels after which the campaign stops, not counting a verification",
    )
    verify: bool | Literal["auto"] = Field(
        default="auto",
        description="whether a converged hull of static labels is verified: the labeler relaxes "
        "its vertices and their nearest competitors; auto if it can",
    )
    verify_window: Energy = Field(
        default=0.020,
        ge=0,
        description="how far above the hull a competitor may lie, per formula unit",
    )
    verify_competitors: int = Field(
        default=1, ge=0, description="configurations relaxed at each composition beside a vertex"
    )


class CampaignSpec(BaseModel):
    """One campaign: a host, a labeler, a potential, and how far to go."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="letters, digits, '.', '_' and '-'; the campaign's key in the database",
    )
    host: HostSpec
    labeler: LabelerSettings
    potential: PotentialSettings
    training: TrainingSettings = TrainingSettings()
    committee: CommitteeSettings = CommitteeSettings()
    relaxation: RelaxationSettings = RelaxationSettings()
    search: Annotated[SearchSettings, ChosenByKind(lambda: SEARCHES)] = Field(
        default_factory=lambda: SEARCHES.default_settings()
    )
    acquisition: Annotated[AcquisitionSettings, ChosenByKind(lambda: ACQUISITIONS)] = Field(
        default_factory=lambda: ACQUISITIONS.default_settings()
    )
    convergence: ConvergenceSettings = ConvergenceSettings()
    database: DatabaseSettings | None = Field(
        default=None, description="MongoDB to use; by default the embedded server"
    )
    resources: ResourcesSettings = Field(
        default=ResourcesSettings(), description="what jobs of each category request from the queue"
    )
    keep: Keep = Field(
        default=Keep.DENSITIES,
        description="files of a label that 'al-charge runs clean' keeps: everything, all but "
        "wave functions, or outputs without densities",
    )
    seed: int = Field(default=1, ge=0, lt=2**31, description="seed of all random choices")

    @field_validator("name")
    @classmethod
    def _is_no_file_name(cls, name: str) -> str:
        if name.endswith((".yaml", ".yml")):
            raise ValueError("a name that ends like a campaign file would be taken for one")
        return name


class PotentialSpec(BaseModel):
    """The sections of a campaign file by which potentials are trained outside a campaign."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    potential: PotentialSettings
    training: TrainingSettings = TrainingSettings()


PLUGIN_SECTIONS = tuple(
    name
    for name, field in CampaignSpec.model_fields.items()
    if any(isinstance(one, ChosenByKind) for one in field.metadata)
)
"""Sections of a campaign file whose ``kind`` chooses a plug-in."""


def plugins_of(section: str) -> Plugins[Any]:
    """Return the plug-ins that a section of a campaign file chooses from.

    Parameters
    ----------
    section
        One of `PLUGIN_SECTIONS`.

    Returns
    -------
    Plugins
        All that are installed.
    """
    metadata = CampaignSpec.model_fields[section].metadata
    return next(one for one in metadata if isinstance(one, ChosenByKind)).plugins()


def load_potential_spec(path: Path | None, kind: str | None = None) -> PotentialSpec:
    """Read the sections ``potential`` and ``training`` of a file; other sections are ignored.

    Parameters
    ----------
    path
        A campaign file, or one with these sections alone; None for defaults.
    kind
        Kind of the potential, where the file gives none.

    Returns
    -------
    PotentialSpec
        The two sections, with paths relative to the file.

    Raises
    ------
    InputError
        With the field that is wrong; also if the file gives another kind, or nothing gives one.
    """
    source = path or Path("--kind")
    document = {} if path is None else _resolved(read_mapping(path), path)
    if unknown := sorted(set(map(str, document)) - set(CampaignSpec.model_fields)):
        raise InputError(
            f"there is no field '{unknown[0]}'",
            where=f"{source}: {unknown[0]}",
            remedy=did_you_mean(unknown[0], PotentialSpec.model_fields),
        )
    sections = {name: document[name] for name in PotentialSpec.model_fields if name in document}
    section = sections.setdefault("potential", {} if kind is None else {"kind": kind})
    if kind is not None and isinstance(section, dict) and section.get("kind") != kind:
        raise InputError(
            f"its potential is '{section.get('kind')}', not '{kind}'",
            where=str(source),
            remedy="leave --kind out",
        )
    try:
        spec = PotentialSpec.model_validate(sections)
    except ValidationError as error:
        raise _refusal(error, source) from error
    refuse_false_numbers(sections, spec, str(source))
    return spec


def load_labeler_settings(path: Path | None, kind: str | None = None) -> EngineSettings:
    """Read the settings of a labeler.

    Parameters
    ----------
    path
        A campaign file, or one with the fields of its section ``labeler`` alone; None for defaults.
    kind
        Kind of the labeler, where the file gives none.

    Returns
    -------
    EngineSettings
        The labeler's own settings model.

    Raises
    ------
    InputError
        With the field that is wrong; also if the file gives another kind, or nothing gives one.
    """
    section: Any = {"kind": kind}
    if path is not None:
        document = read_mapping(path)
        section = _resolved({"labeler": document.get("labeler", document)}, path)["labeler"]
        if kind is not None and isinstance(section, dict) and section.get("kind") != kind:
            raise InputError(
                f"its labeler is '{section.get('kind')}', not '{kind}'",
                where=str(path),
                remedy="leave --engine out",
            )
    elif kind is None:
        raise InputError(
            "no engine is given",
            where="--engine",
            remedy=f"choose one of {', '.join(LABELERS.kinds)}, or give a file with --settings",
        )
    source = path or Path("--engine")
    try:
        settings = _LABELER.validate_python(section)
    except ValidationError as error:
        raise _refusal(error, source, "labeler") from error
    refuse_false_numbers(section, settings, str(source), "labeler")
    return settings


def load_spec(path: Path) -> CampaignSpec:
    """Read and check a campaign file; paths in it are relative to the file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    CampaignSpec
        The campaign.

    Raises
    ------
    InputError
        With the file and the field that is wrong, and what to write instead.
    """
    return parse_spec(read_mapping(path), source=path)


def parse_spec(document: Mapping[str, Any], *, source: Path) -> CampaignSpec:
    """Check a campaign that was read from a file.

    Parameters
    ----------
    document
        Fields of the file, as plain data.
    source
        The file, which paths are relative to.

    Returns
    -------
    CampaignSpec
        The campaign.

    Raises
    ------
    InputError
        With the field that is wrong, and what to write instead.
    """
    try:
        spec = CampaignSpec.model_validate(_resolved(document, source))
    except ValidationError as error:
        raise _refusal(error, source) from error
    refuse_false_numbers(document, spec, str(source))
    try:
        spec.host.refuse_unknown_charge()
    except InputError as error:
        raise InputError(
            error.what, where=f"{source}: {error.where}", remedy=error.remedy
        ) from error
    return spec


def _resolved(document: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """Return a document with its paths whole: relative to its file, or to a home folder (``~``)."""
    resolved = dict(document)
    for section, field in _PATHS:
        part = resolved.get(section)
        if isinstance(part, dict) and isinstance(part.get(field), str):
            path = source.parent.absolute() / _expanded(part[field], f"{section}.{field}", source)
            resolved[section] = part | {field: str(path)}
    return resolved


def _expanded(text: str, field: str, source: Path) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"there is no home folder for '{text.partition('/')[0]}'", where=f"{source}: {field}"
        ) from error


def _refusal(error: ValidationError, source: Path, *sections: str) -> InputError:
    """Turn the first problem that pydantic found, in a section of a file, into one line."""
    # A default that needs another field is not made if that one is wrong, which is no other fault.
    faults = [
        one
        for one in error.errors(include_url=False)
        if one["type"] != "default_factory_not_called"
    ]
    problem = faults[0]
    # The discriminator of a union appears as a step of the location; the user never wrote it.
    steps = [*sections, *map(str, problem["loc"])]
    field = ".".join(step for i, step in enumerate(steps) if not _is_tag(steps, i))
    what = problem["msg"].removeprefix("Value error, ")
    remedy = f"{len(faults) - 1} more to correct" if len(faults) > 1 else ""
    if problem["type"] == "extra_forbidden":
        what = f"there is no field '{steps[-1]}'"
        remedy = did_you_mean(steps[-1], _fields_beside(steps))
    elif problem["type"] in _KINDS:
        what, remedy = "its value has the wrong type", f"give it {_KINDS[problem['type']]}"
    elif problem["type"] == "string_type":
        # YAML reads Y, N, No, on and off, some of them elements, as true and false.
        field = field.removesuffix(".[key]").rpartition(".")[0] if steps[-1] == "[key]" else field
        found = "this" if steps[0] == "database" else f"'{problem['input']}'"
        what = f"YAML does not read {found} as text"
        remedy = "write it in quotes, such as 'No'"
    elif problem["type"] == "missing":
        what = "this field is required"
        if (lacking := str(steps[-1])) in ("labeler", "potential") and len(steps) == 1:
            kinds = ", ".join(sorted(plugins_of(lacking).kinds))
            remedy = f"write '{lacking}: {{kind: ...}}' with one of {kinds}"
    elif problem["type"] == "union_tag_invalid":
        kind, plugins = str(problem["ctx"]["tag"]), plugins_of(steps[0])
        what = f"unknown kind '{kind}'"
        remedy = did_you_mean(kind, plugins.kinds)
        if kind in plugins.found:
            broken = plugins.found[kind]
            what, remedy = (
                f"'{kind}' of {broken.source} does not load: {broken.broken}",
                "install that package again",
            )
    elif problem["type"] == "union_tag_not_found":
        what = "the field 'kind' is missing"
    return InputError(what, where=f"{source}: {field}", remedy=remedy)


def _is_tag(steps: list[str], place: int) -> bool:
    """Return whether a step is the tag of a union and no field."""
    if steps[:2] == ["host", "supercell"]:
        return place == 2
    return place == 1 and steps[0] in PLUGIN_SECTIONS


def _fields_beside(steps: list[str]) -> list[str]:
    """Return the names that are valid in the place of an unknown one."""
    model: Any = CampaignSpec
    plugins: Plugins[Any] | None = None
    for step in steps[:-1]:
        if plugins is not None:
            model, plugins = plugins.get(step).settings, None
            continue
        in_file = model is CampaignSpec and step in PLUGIN_SECTIONS
        plugins = plugins_of(step) if in_file else None
        fields = getattr(model, "model_fields", {})
        model = fields[step].annotation if step in fields else model
        models = [arg for arg in get_args(model) if hasattr(arg, "model_fields")]
        model = models[0] if len(models) == 1 else model
    return list(getattr(model, "model_fields", {}))
