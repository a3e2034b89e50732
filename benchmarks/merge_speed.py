"""How near the engine comes to plain copies, and how far it is ahead of mergekit.

    python benchmarks/merge_speed.py [--scale 1b] [--methods linear,task_arithmetic,ties,dare_ties]
        [--peer mergekit==0.1.5 | --peer-python PATH | --no-peer] [--repeats 5] [--folder DIR]
        [--link-last]

Three random Llama-shaped bf16 checkpoints are written to local disk and merged, warm (inputs in
the page cache). Compared in one run, in process after imports, each with its whole-process time
beside it:

- copy: every input read once and as many bytes as the output written and brought to the disk, with
  plain reads and writes of 8 MiB;
- disk: as many bytes as the output written past the page cache by three threads, nothing read and
  nothing computed;
- mergekit, in a virtual environment of its own that this script makes (`pip install` of --peer).

Ratios are times: disk / ours, copy / ours, mergekit / ours; each is the best of --repeats, but
mergekit has no further turn after a minute. `mergekit_disk_ratio` (mergekit / disk) is what a merge
would reach that nothing but the disk held up. The last line is JSON.
"""

import argparse
import json
import mmap
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from random_llamas import SCALES, write_models

METHODS = ("linear", "task_arithmetic", "ties", "dare_ties")
WEIGHTS = (0.4, 0.3, 0.3)
DENSITY = 0.5
CHUNK_BYTES = 8 << 20
DISK_THREADS = 3
PEER_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of the merge alone and of its process, and its peak resident memory."""

    merge_s: float
    process_s: float
    peak_rss_gib: float


@dataclass(frozen=True, kw_only=True)
class Turns:
    """The best times of one method: writing to the disk alone, plain copies, and our merge."""

    disk_s: float
    copy_s: float
    ours: Timing


def output_bytes(paths: list[Path]) -> int:
    """Size of an output: that of an input."""
    return sum(file.stat().st_size for file in paths[0].glob("*.safetensors"))


def copy_seconds(paths: list[Path], out: Path) -> float:
    """Read all inputs and write one output's worth of bytes, brought to the disk."""
    buffer = bytearray(CHUNK_BYTES)
    out.mkdir()
    started = time.perf_counter()
    for number, path in enumerate(paths):
        for file in sorted(path.glob("*.safetensors")):
            with file.open("rb", buffering=0) as source:
                target = (out / file.name).open("wb", buffering=0) if number == 0 else None
                while count := source.readinto(buffer):
                    if target is not None:
                        target.write(memoryview(buffer)[:count])
                if target is not None:
                    os.fsync(target.fileno())
                    target.close()
    return time.perf_counter() - started


def disk_seconds(num_bytes: int, path: Path) -> float:
    """Write so many bytes straight to the disk, by a few threads from one aligned buffer."""
    buffer = mmap.mmap(-1, CHUNK_BYTES)
    buffer.write(random.Random(0).randbytes(CHUNK_BYTES))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)

    def write(offset: int) -> None:
        assert os.pwrite(descriptor, buffer, offset) == CHUNK_BYTES

    try:
        os.posix_fallocate(descriptor, 0, num_bytes)
        os.sync()
        started = time.perf_counter()
        with ThreadPoolExecutor(DISK_THREADS) as pool:
            list(pool.map(write, range(0, num_bytes - CHUNK_BYTES + 1, CHUNK_BYTES)))
        os.fdatasync(descriptor)
        return time.perf_counter() - started
    finally:
        os.close(descriptor)
        path.unlink()


def merge_here(method_name: str, paths: list[Path], out: Path) -> None:
    """The child process: merge, and print the time and the memory as JSON."""
    from omnicompose.merging.engine import run_merge
    from omnicompose.merging.job import Merge, TensorRef
    from omnicompose.merging.options import EngineOptions
    from omnicompose.merging.registry import METHODS as REGISTRY
    from omnicompose.tensors.checkpoint import open_safetensors

    method = REGISTRY[method_name]
    parameters = {p.name: p.default for p in method.spec.parameters}
    parameters |= {"density": DENSITY} if "density" in parameters else {}

    def merge(paths: list[Path], out: Path, options: EngineOptions) -> float:
        started = time.perf_counter()
        sources = [open_safetensors(path) for path in paths]
        jobs = []
        for name, info in sources[0].infos().items():
            refs = [TensorRef(source=source, name=name) for source in sources]
            base = refs.pop(0) if method.spec.needs_base else None
            job = Merge(
                output=info,
                method=method,
                parameters=parameters,
                base=base,
                experts=tuple(refs),
                expert_names=tuple(f"m{i}" for i in range(3 - len(refs), 3)),
                weights=WEIGHTS[3 - len(refs) :],
            )
            jobs.append(job)
        run_merge(jobs, out, options)
        return time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder:
        # Imports what the compiled loops need, as mergekit's side imports what it needs.
        merge(write_models(Path(folder), "tiny"), Path(folder) / "out", EngineOptions(fuse=True))
    seconds = merge(paths, out, EngineOptions())
    print(json.dumps({"seconds": seconds, "peak_rss_gib": peak_rss_gib()}))


def peak_rss_gib() -> float:
    """Most resident memory of this process so far.

    Not from `getrusage`: that counts what the parent held when it started this process.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / (1 << 20)


PEER_SCRIPT = """
import json, sys, time
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
config = MergeConfiguration.model_validate(yaml.safe_load(open(sys.argv[1])))
options = MergeOptions(copy_tokenizer=False, write_model_card=False)
started = time.perf_counter()
run_merge(config, sys.argv[2], options)
import os
os.sync()
(line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
peak = int(line.split()[1]) / (1 << 20)
print(json.dumps({"seconds": time.perf_counter() - started, "peak_rss_gib": peak}))
"""


def peer_recipe(method: str, paths: list[Path]) -> str:
    """The same merge for mergekit (JSON is YAML)."""
    based = method != "linear"
    density = {"density": DENSITY} if "ties" in method else {}
    models = [
        {"model": str(path), "parameters": {"weight": weight} | density}
        for path, weight in list(zip(paths, WEIGHTS, strict=True))[based:]
    ]
    recipe: dict[str, object] = {"merge_method": method, "models": models, "dtype": "bfloat16"}
    return json.dumps(recipe | ({"base_model": str(paths[0])} if based else {}))


def run_child(command: list[str], out: Path) -> Timing:
    """Run a merge in a process of its own, on a quiet disk."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    started = time.perf_counter()
    # Each side chooses its threads by itself.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    process_s = time.perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    figures = json.loads(done.stdout.splitlines()[-1])
    shutil.rmtree(out)
    return Timing(
        merge_s=figures["seconds"], process_s=process_s, peak_rss_gib=figures["peak_rss_gib"]
    )


def make_peer(folder: Path, requirement: str) -> Path:
    """A virtual environment with mergekit; the path of its Python."""
    environment = folder / "peer"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", requirement]
    if subprocess.run(command).returncode != 0:
        raise SystemExit(f"{requirement} cannot be installed; give --peer-python or --no-peer.")
    return python


def measure_all(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Every figure of the table, printed as it comes."""
    paths = write_models(folder, arguments.scale, link_last=arguments.link_last)
    moved = 4 * output_bytes(paths) / 1e9
    peer = arguments.peer_python
    if peer is None and not arguments.no_peer:
        peer = make_peer(folder, arguments.peer)
    # What has just been written is slow to read and to write beside for a while.
    for _ in range(2):
        copy_seconds(paths, folder / "copy")
        shutil.rmtree(folder / "copy")
        os.sync()
    print(f"{'':16} {'merge s':>9} {'process s':>10} {'GB/s':>6} {'GiB':>6} {'ratio':>10}")
    figures: dict[str, object] = {"scale": arguments.scale}
    peaks = []
    for method in arguments.methods.split(","):
        turns = time_in_turn(method, paths, folder, arguments.repeats)
        ours = turns.ours
        peaks.append(ours.peak_rss_gib)
        ratio = turns.copy_s / ours.merge_s
        print(f"{'disk':16} {turns.disk_s:9.2f} {'':10} {moved / 4 / turns.disk_s:6.2f}")
        print(f"{'copy':16} {turns.copy_s:9.2f} {'':10} {moved / turns.copy_s:6.2f}")
        print_timing(method, ours, moved, f"{ratio:10.2f}")
        row = {
            "copy_ratio": round(ratio, 2),
            "disk_ratio": round(turns.disk_s / ours.merge_s, 2),
            "seconds": round(ours.merge_s, 2),
            "copy_seconds": round(turns.copy_s, 2),
            "disk_seconds": round(turns.disk_s, 2),
        }
        if peer is not None:
            theirs = time_peer(method, paths, folder, Path(peer), arguments.repeats)
            row["mergekit_seconds"] = round(theirs.merge_s, 2)
            row["mergekit_ratio"] = round(theirs.merge_s / ours.merge_s, 1)
            row["mergekit_disk_ratio"] = round(theirs.merge_s / turns.disk_s, 1)
            row["mergekit_process_ratio"] = round(theirs.process_s / ours.process_s, 1)
            print_timing("  mergekit", theirs, moved, f"{row['mergekit_ratio']:9.1f}x")
        figures[method] = row
    return figures | {"peak_rss_gib": round(max(peaks), 3)}


def print_timing(name: str, timing: Timing, moved: float, ratio: str) -> None:
    """One line of the table."""
    print(
        f"{name:16} {timing.merge_s:9.2f} {timing.process_s:10.2f} {moved / timing.merge_s:6.2f} "
        f"{timing.peak_rss_gib:6.2f} {ratio}",
        flush=True,
    )


def time_in_turn(method: str, paths: list[Path], folder: Path, repeats: int) -> Turns:
    """The best of several writes, copies and merges of ours, one after the other in turn.

    What disturbs a run only ever makes it longer; in turn, so that a disturbance hits all.
    """
    writes, copies, runs = [], [], []
    num_bytes = output_bytes(paths)
    out = folder / "ours"
    command = [sys.executable, __file__, "--child", method, *map(str, (out, *paths))]
    for _ in range(repeats):
        shutil.rmtree(folder / "copy", ignore_errors=True)
        os.sync()
        copies.append(copy_seconds(paths, folder / "copy"))
        shutil.rmtree(folder / "copy")
        writes.append(disk_seconds(num_bytes, folder / "disk"))
        runs.append(run_child(command, out))
    return Turns(
        disk_s=min(writes), copy_s=min(copies), ours=min(runs, key=lambda timing: timing.merge_s)
    )


def time_peer(method: str, paths: list[Path], folder: Path, python: Path, repeats: int) -> Timing:
    """The best run of mergekit; after a minute there is no further one."""
    recipe, script = folder / "recipe.yaml", folder / "peer.py"
    recipe.write_text(peer_recipe(method, paths))
    script.write_text(PEER_SCRIPT)
    out, runs = folder / "theirs", list[Timing]()
    while len(runs) < repeats and sum(run.merge_s for run in runs) < PEER_SECONDS:
        runs.append(run_child([str(python), str(script), str(recipe), str(out)], out))
    return min(runs, key=lambda timing: timing.merge_s)


def main() -> None:
    """Measure, print, and end with JSON."""
    if sys.argv[1:2] == ["--child"]:
        method, out, *paths = sys.argv[2:]
        merge_here(method, [Path(path) for path in paths], Path(out))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="1b")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--peer", default="mergekit==0.1.5")
    parser.add_argument("--peer-python", help="a Python that has mergekit already")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--link-last", action="store_true", help="two models, one of them twice")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", help="where to make the models (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(json.dumps(measure_all(arguments, Path(folder))))


if __name__ == "__main__":
    main()
