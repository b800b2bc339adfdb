"""A training in a process of its own, for tests that send it signals."""

from __future__ import annotations

__all__ = ["PROGRAM"]

#: For ``python -c``: its words are the config as JSON and the run folder.
PROGRAM = """
import json, sys
from attnbuild.training.fit import train
from attnbuild.training.run import RunFolder
try:
    train(json.loads(sys.argv[1]), RunFolder(sys.argv[2]), [])
except KeyboardInterrupt:
    sys.exit(130)
"""
