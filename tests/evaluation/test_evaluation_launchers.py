"""The launchers that users start several processes with: torchrun and accelerate, on CPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from evaluation_tiny import write_tiny

TORCHRUN = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29617"]
# Without MPI accelerate starts several processes the way that it does for several GPUs alone.
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
ACCELERATE += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
ACCELERATE += ["--main_process_port", "29618"]


def launch(launcher: list[str], *words: str) -> str:
    """Start `omnicompose` twice by a launcher; what both printed."""
    command = [sys.executable, "-m", *launcher, "-m", "omnicompose", *words]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_processes_of_a_launcher_share_the_work(tmp_path: Path, launcher: list[str]) -> None:
    folder = write_tiny(tmp_path / "omni", modalities=("image",))
    words = ["evaluate", str(folder), "--tasks", "zoo/image", "--limit", "70"]
    said = launch(launcher, *words, "--score", "letter", "--out", str(tmp_path / "out"))
    assert "worker" in said
    journals = sorted((tmp_path / "out/journal").iterdir())
    assert [path.name for path in journals] == [f"zoo_image.rank{r}.jsonl" for r in range(2)]
    lines = [path.read_bytes().count(b"\n") for path in journals]
    assert sorted(lines) == [6, 64]
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["tasks"]["zoo/image"]["questions"] == 70
