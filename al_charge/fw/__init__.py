"""FireWorks: the only room that imports it."""

import os
from pathlib import Path

# FireWorks reads its configuration once, when it is first imported, and only from a file. A user's
# own file takes precedence.
if not any(
    (folder / "FW_config.yaml").is_file() for folder in (Path.cwd(), Path.home() / ".fireworks")
):
    os.environ.setdefault("FW_CONFIG_FILE", str(Path(__file__).with_name("FW_config.yaml")))
