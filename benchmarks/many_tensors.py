"""Bookkeeping of the engine: 20,000 small tensors, two models, linear.

    python benchmarks/many_tensors.py [--num-tensors 20000]

Bookkeeping is all that a merge costs beyond its bytes: the time of merging many small tensors less
that of merging the same bytes as one tensor. The limit is 5 s; it must also grow linearly. The
last line is JSON.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from omnicompose.merging.engine import run_merge
from omnicompose.merging.job import Merge, TensorRef
from omnicompose.merging.registry import METHODS
from omnicompose.tensors.checkpoint import open_safetensors

LIMIT_SECONDS = 5.0
ELEMENTS = 64


def write_models(folder: Path, num_tensors: int, elements: int) -> list[Path]:
    """Two checkpoints with so many tensors of so many elements."""
    paths = [folder / f"m{number}" for number in range(2)]
    for number, path in enumerate(paths):
        path.mkdir(parents=True)
        names = (f"model.layers.{i // 9}.tensor{i % 9}.weight" for i in range(num_tensors))
        tensors = {name: torch.full((elements,), float(number)) for name in names}
        save_file(tensors, path / "model.safetensors")
    return paths


def merge_seconds(paths: list[Path], out: Path) -> float:
    """Wall time from headers to the finished folder."""
    started = time.perf_counter()
    sources = [open_safetensors(path) for path in paths]
    jobs = [
        Merge(
            output=info,
            method=METHODS["linear"],
            parameters={"normalize": True},
            experts=tuple(TensorRef(source=source, name=name) for source in sources),
            expert_names=("m0", "m1"),
            weights=(0.5, 0.5),
        )
        for name, info in sources[0].infos().items()
    ]
    run_merge(jobs, out)
    return time.perf_counter() - started


def measure(folder: Path, num_tensors: int) -> float:
    """Seconds of bookkeeping for so many tensors."""
    small = write_models(folder / f"small{num_tensors}", num_tensors, ELEMENTS)
    large = write_models(folder / f"large{num_tensors}", 1, num_tensors * ELEMENTS)
    merged = merge_seconds(small, folder / f"out-small{num_tensors}")
    alone = merge_seconds(large, folder / f"out-large{num_tensors}")
    print(f"{num_tensors:>8} tensors {merged:8.2f} s   the same bytes as one {alone:6.2f} s")
    return merged - alone


def main() -> None:
    """Measure, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-tensors", type=int, default=20_000)
    num_tensors = parser.parse_args().num_tensors
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder) / "warm-up", 100)
        half = measure(Path(folder), num_tensors // 2)
        whole = measure(Path(folder), num_tensors)
    figures = {
        "num_tensors": num_tensors,
        "bookkeeping_s": round(whole, 3),
        "limit_s": LIMIT_SECONDS,
        "ratio_to_limit": round(whole / LIMIT_SECONDS, 3),
        "growth_from_half": round(whole / half, 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
