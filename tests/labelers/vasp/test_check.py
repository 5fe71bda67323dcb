"""The campaign file for VASP on a machine with POTCARs, and on one without."""

from __future__ import annotations

from pathlib import Path

import pytest

from al_charge.cli.main import main
from al_charge.errors import NotInstalledError
from al_charge.loop.spec import load_spec
from al_charge.loop.submit import check_spec

FILE = Path(__file__).parents[3] / "workflows" / "nafepo4_vasp.yaml"


def check(capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run ``al-charge check`` on the file."""
    with pytest.raises(SystemExit) as exit_:
        main(["check", str(FILE)])
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


def test_the_file_is_right_without_potcars(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pymatgen.core import SETTINGS

    monkeypatch.delitem(SETTINGS, "PMG_VASP_PSP_DIR", raising=False)
    code, out, err = check(capsys)
    assert code == 0
    assert "campaign 'nafepo4-vasp' is valid" in out
    assert "not ready to submit on this machine: VASP: PMG_VASP_PSP_DIR is not set" in out
    assert err == ""
    with pytest.raises(NotInstalledError, match="PMG_VASP_PSP_DIR"):
        check_spec(load_spec(FILE))  # as it is done when a campaign is submitted


def test_potcars_that_are_others_are_refused(
    potcars: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = check(capsys)
    assert code == 2
    assert "not those of" in err


def test_it_holds_the_superstructure_of_two_thirds() -> None:
    from fractions import Fraction

    from al_charge.crystal.host import Host

    host = Host.from_spec(load_spec(FILE).host)
    assert host.n_ions(Fraction(2, 3)) == 8
    assert host.n_ions(Fraction(5, 6)) == 10
