"""A verified hull says so in its documents and its table; another says nothing."""

from __future__ import annotations

from rich.console import Console

from al_charge.report.documents import hull_document, voltage_document
from al_charge.report.tables import hull_table
from al_charge.thermo.hull import Hull
from al_charge.thermo.voltage import voltage_profile


def printed(hull: Hull, *, verified: bool) -> str:
    document = hull_document(hull, campaign="demo", labeler="gpaw", verified=verified)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(hull_table(document))
    return capture.get()


def test_documents_tell_whether_the_hull_is_verified(hull: Hull) -> None:
    profile = voltage_profile(hull)
    for verified in (False, True):
        for document in (
            hull_document(hull, campaign="demo", labeler="gpaw", verified=verified),
            voltage_document(profile, campaign="demo", labeler="gpaw", verified=verified),
        ):
            assert document["verified"] is verified
    assert hull_document(hull, campaign="demo", labeler="gpaw")["verified"] is False


def test_the_table_of_a_verified_hull_says_so(hull: Hull) -> None:
    assert "Verified: the labeler relaxed" in printed(hull, verified=True)
    assert "Verified" not in printed(hull, verified=False)
