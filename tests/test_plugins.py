"""Plug-ins: what is found, what does not load, and what a campaign file may choose."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import TypeAdapter, ValidationError, create_model

from al_charge import plugins
from al_charge.errors import InputError, NotInstalledError
from al_charge.labelers.plugin import LABELERS
from al_charge.plugins import ChosenByKind, Plugin, Plugins, PluginSettings, Quantity
from al_charge.potentials.plugin import POTENTIALS


class OneSettings(PluginSettings):
    kind: Literal["one"] = "one"
    size: int = 3


class TwoSettings(PluginSettings):
    kind: Literal["two"] = "two"
    width: float = 0.5


class One(Plugin):
    kind = "one"
    title = "One"
    summary = "the first"
    settings = OneSettings


class Two(Plugin):
    kind: ClassVar[str] = "two"
    title = "Two"
    summary = "the second"
    settings = TwoSettings


class Stranger:
    kind = "stranger"


def points(*values: str) -> EntryPoints:
    return EntryPoints(EntryPoint(v.split("=")[0], v.split("=")[1], "things") for v in values)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes plug-ins of entry points; the first is al-charge's own."""

    def made(*values: str, default: str | None = None) -> Plugins[Plugin]:
        own = "al_charge.plugins:Plugin"
        monkeypatch.setattr(plugins, "entry_points", lambda group: points(f"own={own}", *values))
        return Plugins("things", Plugin, "thing", default)

    return made


HERE = __name__


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "outside", sys.modules[HERE])


def test_what_loads_can_be_had_and_what_does_not_says_why(found: Any) -> None:
    things = found("two=outside:Two", "one=outside:One", "bad=nowhere:Bad", "odd=outside:Stranger")
    assert things.kinds == ["one", "two"]
    assert isinstance(things.get("one"), One)
    assert isinstance(things.of(TwoSettings()), Two)
    with pytest.raises(NotInstalledError, match="does not load: ModuleNotFoundError") as caught:
        things.get("bad")
    assert "'bad'" in str(caught.value)
    with pytest.raises(NotInstalledError, match="not a Plugin of this kind"):
        things.get("odd")
    with pytest.raises(NotInstalledError, match="did you mean 'one'"):
        things.get("on")


def test_a_plugin_under_another_name_than_its_kind_does_not_load(found: Any) -> None:
    things = found("uno=outside:One")
    assert things.kinds == [] and "not a Plugin of this kind" in things.found["uno"].broken


def test_our_own_are_not_replaced_by_a_namesake(monkeypatch: pytest.MonkeyPatch) -> None:
    both = points("born=outside:One", "born=al_charge.labelers.born:BornPlugin")
    monkeypatch.setattr(plugins, "entry_points", lambda group: both)
    things: Plugins[Plugin] = Plugins("things", Plugin, "thing")
    assert things.get("born").title == "Born (analytic ionic model)"


def test_an_installation_without_entry_points_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda group: points("one=outside:One"))
    things: Plugins[Plugin] = Plugins("things", Plugin, "thing")
    with pytest.raises(InputError, match="has no entry points 'things'"):
        things.get("one")


def test_a_field_takes_the_settings_of_any_plugin(found: Any) -> None:
    things = found("one=outside:One", "two=outside:Two")
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[PluginSettings, ChosenByKind(lambda: things)])
    assert adapter.validate_python({"kind": "two", "width": 2}) == TwoSettings(width=2.0)
    for wrong in ({"kind": "two", "size": 2}, {"kind": "three"}, {}):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)

    field = Annotated[PluginSettings, ChosenByKind(lambda: things)]
    Holder: Any = create_model("Holder", thing=(field, ...))  # noqa: N806 - a class
    held = Holder(thing=OneSettings(size=5))
    assert held.model_dump(mode="json") == {"thing": {"kind": "one", "size": 5}}
    assert Holder.model_validate(held.model_dump(mode="json")) == held


def test_a_default_kind_stands_in_for_none(found: Any) -> None:
    things = found("one=outside:One", "two=outside:Two", default="two")
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[PluginSettings, ChosenByKind(lambda: things)])
    assert adapter.validate_python({}) == TwoSettings()
    assert adapter.validate_python({"kind": "one"}) == OneSettings()
    assert adapter.validate_python(OneSettings(size=9)) == OneSettings(size=9)
    with pytest.raises(ValidationError, match="width"):
        adapter.validate_python({"width": "wide"})


def test_fields_that_the_default_lacks_say_which_kind_is_meant(found: Any) -> None:
    things = found("one=outside:One", "two=outside:Two", default="two")
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[PluginSettings, ChosenByKind(lambda: things)])
    assert adapter.validate_python({"size": 5}) == OneSettings(size=5)
    assert adapter.validate_python({"width": 3}) == TwoSettings(width=3.0)
    for wrong in ({"size": 5, "width": 3}, {"kind": "two", "size": 5}):
        with pytest.raises(ValidationError, match="two"):
            adapter.validate_python(wrong)


@pytest.mark.parametrize("group", [LABELERS, POTENTIALS])
def test_our_own_describe_themselves(group: Plugins[Any]) -> None:
    assert len(group.found) >= 3
    for kind, one in group.found.items():
        assert one.broken == "", kind
        plugin = one.plugin
        assert plugin.settings.model_fields["kind"].default == kind
        assert plugin.title and plugin.summary
        assert {Quantity.ENERGY, Quantity.FORCES} <= plugin.gives
