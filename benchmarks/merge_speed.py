"""How near the engine comes to plain copies, and how far it is ahead of mergekit.

    python benchmarks/merge_speed.py [--scale 1b] [--methods linear,task_arithmetic,ties,dare_ties]
        [--peer mergekit==0.1.5 | --peer-python PATH | --no-peer] [--repeats 5] [--folder DIR]
        [--link-last]

Three random Llama-shaped bf16 checkpoints are written to local disk and merged, warm (inputs in
the page cache). Compared in one run, in process after imports, each with its whole-process time
beside it:

- copy: every input read once and as many bytes as the output written and brought to the disk, with
  plain reads and writes of 8 MiB;
- mergekit, in a virtual environment of its own that this script makes (`pip install` of --peer).

Ratios are times: copy / ours, mergekit / ours. The last line is JSON.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SCALES: Mapping[str, tuple[int, int, int, int]] = {
    "tiny": (256, 4, 704, 4000),
    "small": (1024, 8, 2816, 32_000),
    "1b": (2048, 16, 5632 + 1408, 32_000),
    "7b": (4096, 32, 11_008, 32_000),
}
"""Hidden size, blocks, MLP size, vocabulary."""
METHODS = ("linear", "task_arithmetic", "ties", "dare_ties")
WEIGHTS = (0.4, 0.3, 0.3)
DENSITY = 0.5
CHUNK_BYTES = 8 << 20
POOL_ELEMENTS = 1 << 24
SHARD_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of the merge alone and of its process, and its peak resident memory."""

    merge_s: float
    process_s: float
    peak_rss_gib: float


def shapes(scale: str) -> dict[str, tuple[int, ...]]:
    """Tensors of a Llama without grouped attention, in file order."""
    hidden, blocks, inner, vocabulary = SCALES[scale]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for block in range(blocks):
        prefix = f"model.layers.{block}"
        found |= {f"{prefix}.self_attn.{name}_proj.weight": (hidden, hidden) for name in "qkvo"}
        found |= {f"{prefix}.mlp.{name}_proj.weight": (inner, hidden) for name in ("gate", "up")}
        found[f"{prefix}.mlp.down_proj.weight"] = (hidden, inner)
        found[f"{prefix}.input_layernorm.weight"] = (hidden,)
        found[f"{prefix}.post_attention_layernorm.weight"] = (hidden,)
    return found | {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}


def write_models(folder: Path, scale: str, *, link_last: bool = False) -> list[Path]:
    """m0 random, m1 and m2 = m0 + small noise; written by our own layout, tensor by tensor.

    With `link_last` m2 is m1 once more, for a disk without room for both.
    """
    import torch

    from omnicompose.tensors.layout import make_layout
    from omnicompose.tensors.source import TensorInfo

    infos = [TensorInfo(name=n, dtype=torch.bfloat16, shape=s) for n, s in shapes(scale).items()]
    layout = make_layout(infos, SHARD_BYTES)
    sizes = {info.name: info.num_bytes for info in infos}
    paths = [folder / f"m{number}" for number in range(3)]
    for path, pool in zip(paths, pools(), strict=True):
        if link_last and path == paths[-1]:
            shutil.copytree(paths[-2], path, copy_function=os.link)
            continue
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json").write_text(json.dumps(config(scale)))
        if layout.index is not None:
            (path / "model.safetensors.index.json").write_text(layout.index)
        for file in layout.files:
            with (path / file.name).open("wb") as output:
                output.write(file.header)
                for name in file.offsets:
                    write_repeated(output, pool, sizes[name])
    return paths


def pools() -> list[memoryview]:
    """Numbers of each model, enough for a large tensor; drawing all of them would take minutes."""
    import torch

    from omnicompose.tensors.source import tensor_bytes

    base = torch.randn(POOL_ELEMENTS) * 0.02
    tuned = [base + torch.randn_like(base) * 0.002 for _ in range(2)]
    return [tensor_bytes(numbers.bfloat16()) for numbers in (base, *tuned)]


def write_repeated(output: BinaryIO, pool: memoryview, num_bytes: int) -> None:
    """So many bytes of a pool, from its start again and again."""
    for start in range(0, num_bytes, len(pool)):
        output.write(pool[: min(len(pool), num_bytes - start)])


def config(scale: str) -> dict[str, object]:
    """What mergekit needs to know of the models."""
    hidden, blocks, inner, vocabulary = SCALES[scale]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": blocks,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 64,
        "vocab_size": vocabulary,
        "dtype": "bfloat16",
        "tie_word_embeddings": False,
    }


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
    moved = 4 * sum(file.stat().st_size for file in paths[0].glob("*.safetensors")) / 1e9
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
        copied, ours = time_in_turn(method, paths, folder, arguments.repeats)
        peaks.append(ours.peak_rss_gib)
        ratio = copied / ours.merge_s
        print(f"{'copy':16} {copied:9.2f} {'':10} {moved / copied:6.2f}")
        print_timing(method, ours, moved, f"{ratio:10.2f}")
        row = {
            "copy_ratio": round(ratio, 2),
            "seconds": round(ours.merge_s, 2),
            "copy_seconds": round(copied, 2),
        }
        if peer is not None:
            theirs = time_peer(method, paths, folder, Path(peer))
            row["mergekit_ratio"] = round(theirs.merge_s / ours.merge_s, 1)
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


def time_in_turn(
    method: str, paths: list[Path], folder: Path, repeats: int
) -> tuple[float, Timing]:
    """The best of several copies and of as many merges of ours, one after the other in turn.

    What disturbs a run only ever makes it longer; in turn, so that a disturbance hits both.
    """
    copies, runs = [], []
    out = folder / "ours"
    command = [sys.executable, __file__, "--child", method, *map(str, (out, *paths))]
    for _ in range(repeats):
        shutil.rmtree(folder / "copy", ignore_errors=True)
        os.sync()
        copies.append(copy_seconds(paths, folder / "copy"))
        shutil.rmtree(folder / "copy")
        runs.append(run_child(command, out))
    return min(copies), min(runs, key=lambda timing: timing.merge_s)


def time_peer(method: str, paths: list[Path], folder: Path, python: Path) -> Timing:
    """One run of mergekit."""
    recipe, script = folder / "recipe.yaml", folder / "peer.py"
    recipe.write_text(peer_recipe(method, paths))
    script.write_text(PEER_SCRIPT)
    out = folder / "theirs"
    return run_child([str(python), str(script), str(recipe), str(out)], out)


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
