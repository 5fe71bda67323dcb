"""Become `al-charge worker`, in a process that was forked from one that has done the imports.

Run by its path, with the global ``given``: its arguments, environment and log. The worker forks
its own processes as well.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from pathlib import Path
from typing import Any

given = globals()["given"]
os.setsid()
with Path(given["log"]).open("ab") as file:
    for stream in (1, 2):
        os.dup2(file.fileno(), stream)
os.environ.clear()
os.environ.update(given["environment"])
_forks: Any = multiprocessing.get_context("fork")
multiprocessing.get_context = lambda _: _forks
sys.argv = ["al-charge", *given["arguments"]]
runpy.run_module("al_charge", run_name="__main__")
