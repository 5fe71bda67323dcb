#!/usr/bin/env bash
# Run one of FireWorks' tools on the database that al-charge uses:
#   launchers/fireworks.sh lpad|qlaunch|rlaunch ARGUMENTS
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tool=${1:?name a tool: lpad, qlaunch or rlaunch}
shift

private=$(mktemp -d) # mode 700
trap 'rm -rf "$private"' EXIT
python - "$here/my_launchpad.yaml" >"$private/my_launchpad.yaml" <<'END'
import json, pathlib, string, sys
from al_charge.store.connection import launchpad_uri
from al_charge.store.settings import settings_from_environment

uri, name = launchpad_uri(settings_from_environment())
template = string.Template(pathlib.Path(sys.argv[1]).read_text())
print(template.substitute(uri=json.dumps(uri), name=json.dumps(name)))
END
"$tool" -l "$private/my_launchpad.yaml" "$@"
