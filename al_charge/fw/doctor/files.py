"""Findings about files in GridFS without a document."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from al_charge.fw.doctor.finding import Finding, Scene


def leftover_files(scene: Scene) -> Iterator[Finding]:
    """Find files that no document names: a task was killed between the two.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each bucket of GridFS that has any.
    """
    if scene.campaign is not None:
        return  # files do not name their campaign
    sizes: dict[str, list[int]] = defaultdict(list)
    for file in scene.store.files.unused():
        sizes[file.bucket].append(file.size)
    for bucket, found in sizes.items():
        what = f"{len(found)} files, {sum(found) / 1e6:.1f} MB, that no document refers to"
        cure = "nothing to do: they only take up space"
        yield Finding("leftover file", f"GridFS '{bucket}'", what, cure, note=True)
