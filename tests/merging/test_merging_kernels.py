"""Machine code that is kept on disk is as new as every file that it was made from."""

import shutil
import subprocess
import sys
from pathlib import Path

from omnicompose.merging import kernels

ROOM = "omnicompose.merging.kernels"
COUNT = """
import numpy as np
from room.dropping import Drops, add_dropped
drops = Drops(
    keys=np.ones((1, 2), np.uint64),
    limits=np.array([1 << 31], np.uint32),
    keeps_all=np.array([False]),
    divisors=np.ones(1, np.float32),
)
stored = np.array([np.zeros(64), np.ones(64)], np.float32)
out = np.empty(64, np.float32)
add_dropped(0, stored, drops, np.ones(1, np.float32), np.float32(1.0), out)
print(out.astype(int).tolist(), sum(add_dropped.stats.cache_hits.values()))
"""


def ran(folder: Path) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", COUNT], cwd=folder, capture_output=True, text=True, check=True
    )
    kept, hits = done.stdout.rsplit(maxsplit=1)
    return kept, int(hits)


def test_a_function_is_compiled_again_when_one_that_it_calls_has_changed(tmp_path):
    room = tmp_path / "room"
    shutil.copytree(*kernels.__path__, room, ignore=shutil.ignore_patterns("__pycache__"))
    for path in room.glob("*.py"):
        path.write_text(path.read_text().replace(ROOM, "room"))
    first, _ = ran(tmp_path)
    assert ran(tmp_path) == (first, 1)
    draws = room / "draws.py"
    draws.write_text(draws.read_text().replace("NUM_ROUNDS = 10", "NUM_ROUNDS = 9"))
    changed, hits = ran(tmp_path)
    assert hits == 0 and changed != first
