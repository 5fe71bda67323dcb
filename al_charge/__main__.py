"""Run the command line as ``python -m al_charge``."""

from al_charge.cli.main import main

main()
