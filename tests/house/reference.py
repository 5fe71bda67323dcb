"""The pages of the reference that are made of the code: campaign files, commands, the data model.

python tests/house/reference.py     writes them into docs/
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import get_args

import click
from pydantic import BaseModel, PlainSerializer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from al_charge.cli.main import COMMANDS, cli
from al_charge.loop.spec import PLUGIN_SECTIONS, CampaignSpec, plugins_of
from al_charge.store.documents import DOCUMENTS

DOCS = Path(__file__).parents[2] / "docs"
END = "This page is generated from the code by `tests/house/reference.py`.\n"
"""The last line that is written by hand."""


def data_model() -> str:
    """Return the page about the database."""
    parts = []
    for document in sorted(DOCUMENTS, key=lambda one: one.collection):
        parts += [f"## {document.collection}\n", _document(document)]
    parts.append("## Parts of documents\n")
    for part in _parts(list(DOCUMENTS)):
        parts += [f"### {part.__name__}\n", _document(part)]
    return "\n".join(parts)


def _document(model: type[BaseModel]) -> str:
    text, _, attributes = inspect.getdoc(model).partition("\nAttributes\n----------\n")  # type: ignore[union-attr]
    entries = re.findall(r"^(\w[\w, ]*)\n((?:    .*\n?|\n(?=    ))+)", attributes, re.MULTILINE)
    meaning = {name: _cell(about).strip() for names, about in entries for name in names.split(", ")}
    rows = [
        f"| `{name}` | {_type(model, name)} | {meaning.get(name, field.description or '')} |"
        for name, field in model.model_fields.items()
        if name != "schema_version"
    ]
    body = "\n".join(["| field | type | meaning |", "|---|---|---|", *rows])
    return f"{text.strip().replace('``', '`')}\n\n{body.replace('``', '`')}\n"


def _type(model: type[BaseModel], name: str) -> str:
    """Return the type of a field as the source has it."""
    owner = next(one for one in model.__mro__ if name in vars(one).get("__annotations__", {}))
    return f"`{_cell(vars(owner)['__annotations__'][name])}`"


def _parts(todo: list[type[BaseModel]]) -> list[type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    while todo:
        for field in todo.pop().model_fields.values():
            for one in _inside(field.annotation):
                if one.__name__ not in found:
                    found[one.__name__] = one
                    todo.append(one)
    return [found[name] for name in sorted(found)]


def _inside(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for part in get_args(annotation) for one in _inside(part)]


def campaign_file() -> str:
    """Return the page about campaign files."""
    plain = {
        name: field
        for name, field in CampaignSpec.model_fields.items()
        if not _model(field) and name not in PLUGIN_SECTIONS
    }
    parts = ["## At the top\n", _keys(plain)]
    for name, field in CampaignSpec.model_fields.items():
        if name in PLUGIN_SECTIONS:
            plugins = plugins_of(name)
            for kind in sorted(plugins.kinds):
                plugin = plugins.get(kind)
                if type(plugin).__module__.startswith("al_charge."):
                    title = plugin.title
                    if title.partition(" ")[0].islower():  # cPaiNN keeps its letters
                        title = title[0].upper() + title[1:]
                    parts.append(f"## `{name}`, `kind: {kind}`\n\n{title}.\n")
                    parts.append(_keys(plugin.settings.model_fields))
        elif model := _model(field):
            parts.append(f"## `{name}`\n\n{inspect.cleandoc(model.__doc__ or '')}\n")
            parts.append(_keys(model.model_fields))
    return "\n".join(parts)


def _model(field: FieldInfo) -> type[BaseModel] | None:
    for one in (field.annotation, *get_args(field.annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _keys(fields: dict[str, FieldInfo]) -> str:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    nested = ""
    for name, field in fields.items():
        meaning = _cell(field.description or ("the plug-in" if name == "kind" else ""))
        rows.append(f"| `{name}` | {_default(field)} | {meaning} |")
        model = _model(field)
        if model and not nested:
            nested = "\nEach of these may have\n\n" if name == "cpu" else f"\nUnder `{name}`:\n\n"
            nested += _keys(model.model_fields)
    return "\n".join(rows) + "\n" + nested


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined or value is None or isinstance(value, BaseModel):
        return ""
    writers = [one.func for one in field.metadata if isinstance(one, PlainSerializer)]
    shown = writers[0](value) if writers else to_jsonable_python(value)  # type: ignore[call-arg]
    text = shown if isinstance(shown, str) else json.dumps(shown)
    text = re.sub(r"^(-?[0-9]+)[.]0(?= )", r"\1", text)
    return f"`{text}`" if text else ""


def commands() -> str:
    """Return the page about commands."""
    parts = []
    context = click.Context(cli, info_name="al-charge")
    parts.append("## al-charge\n\nOptions of all commands, before the name of one.\n")
    parts.append(_options(cli))
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command
        parts += _command(f"al-charge {name}", command)
    return "\n".join(parts)


def _command(name: str, command: click.Command) -> list[str]:
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    words = " ".join(one.make_metavar(click.Context(command)) for one in arguments)
    usage = f"{name} {words}".strip()
    if isinstance(command, click.Group):
        usage += " COMMAND"
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    level = "#" * (name.count(" ") + 1)
    parts = [f"{level} {name}\n\n    {usage}\n\n{text}\n", _options(command)]
    if isinstance(command, click.Group):
        for word, one in command.commands.items():
            parts += _command(f"{name} {word}", one)
    return parts


def _options(command: click.Command) -> str:
    rows = [
        f"| `{', '.join([*one.opts, *one.secondary_opts])}` | {_cell(one.help or '')} |"
        for one in command.params
        if isinstance(one, click.Option) and not one.hidden
    ]
    return "\n".join(["| option | meaning |", "|---|---|", *rows]) + "\n" if rows else ""


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")


PAGES = {"campaign-file.md": campaign_file, "commands.md": commands, "data-model.md": data_model}


def page_of(file: str) -> str:
    """Return a page: what is written by hand, and what is made of the code."""
    by_hand, end, _ = (DOCS / file).read_text().partition(END)
    return f"{by_hand}{end}\n{PAGES[file]()}"


if __name__ == "__main__":
    for file in PAGES:
        (DOCS / file).write_text(page_of(file))
