"""Convert a MACE foundation model into a file that a campaign can start from.

    python examples/convert_mace_foundation.py mace.model foundation.safetensors

MACE's files are pickled: READING ONE RUNS WHATEVER CODE IS IN IT. Convert only files whose origin
you trust, once, where you would run a program of the same origin. The file written holds numbers
and settings alone; name it in a campaign file as ``potential.foundation``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from al_charge.potentials.mace.foundation import from_mace, write_foundation
from al_charge.potentials.mace.network import import_mace


def main() -> None:
    """Read the model, convert it, and say which settings go with it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, help="MACE's file, of trusted origin")
    parser.add_argument("output", type=Path, help="file to write")
    arguments = parser.parse_args()
    import_mace()
    model = torch.load(arguments.model, map_location="cpu", weights_only=False)
    potential = from_mace(model)
    write_foundation(arguments.output, potential)
    print(f"{arguments.output}: {len(potential.vocabulary)} elements; set in the campaign file:")
    print(f"  foundation: {arguments.output}")
    skipped = {"charge_aware", "foundation"}
    for name, value in potential.settings.model_dump(mode="json", exclude=skipped).items():
        print(f"  {name}: {value}")


if __name__ == "__main__":
    main()
