"""Every method of the registry through the engine: tiles, threads, shards, dtype, device."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from omnicompose.merging.engine import run_merge
from omnicompose.merging.job import Job, Merge, TensorRef
from omnicompose.merging.options import EngineOptions
from omnicompose.merging.registry import METHODS, check_parameters
from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.source import TensorInfo

SHAPES = {
    "model.layers.0.mlp.up_proj.weight": (11, 9),
    "model.layers.1.self_attn.q_proj.weight": (8, 12),
    "model.layers.1.input_layernorm.weight": (33,),
    "model.layers.2.mlp.down_proj.weight": (40, 30),
    "vision.patch.weight": (5, 3, 4, 4),
    "scalar": (),
    "empty": (0, 3),
}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
NAMES = [name for name in METHODS if METHODS[name].spec.measures is None]
"""Without those that need statistics: of these models there are none."""
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base and m0 .. m2 in three dtypes, each whole and in two shards."""
    place = tmp_path_factory.mktemp("methods")
    for number, name in enumerate(("base", "m0", "m1", "m2")):
        generator = torch.Generator().manual_seed(number)
        scale = 1.0 if name == "base" else 0.1
        moved = {n: scale * torch.randn(s, generator=generator) for n, s in SHAPES.items()}
        if name == "base":
            base = moved
        full = {n: t if name == "base" else base[n] + t for n, t in moved.items()}
        for dtype in DTYPES:
            tensors = {n: t.to(dtype) for n, t in full.items()}
            write(place / f"{dtype}" / "whole" / name, [tensors])
            items = list(tensors.items())
            write(place / f"{dtype}" / "shards" / name, [dict(items[:3]), dict(items[3:])])
    return place


def write(folder: Path, parts: list[dict[str, torch.Tensor]]) -> None:
    folder.mkdir(parents=True)
    for number, part in enumerate(parts):
        save_file(part, folder / f"part{number}.safetensors")


def jobs(folder: Path, name: str, dtype: torch.dtype, *, turned: bool = False) -> list[Job]:
    """One merge per tensor; `turned`: tensors in the opposite order."""
    method = METHODS[name]
    least, most = method.spec.arity
    count = max(least, min(3, most or 3))
    base, *experts = (
        open_safetensors(folder / place) for place in ("base", *(f"m{i}" for i in range(count)))
    )
    given = {"density": 0.5} if any(p.name == "density" for p in method.spec.parameters) else {}
    made = [
        Merge(
            output=TensorInfo(name=tensor, dtype=dtype, shape=shape),
            method=method,
            parameters=check_parameters(name, given),
            base=TensorRef(source=base, name=tensor),
            experts=tuple(TensorRef(source=expert, name=tensor) for expert in experts),
            expert_names=tuple(f"m{i}" for i in range(count)),
            weights=(1.0 / count,) * count,
            layer=int(tensor.split(".")[2]) if tensor.startswith("model.layers") else None,
            num_layers=3,
            seed=5,
        )
        for tensor, shape in SHAPES.items()
    ]
    return made[::-1] if turned else made


def merged(out: Path, work: list[Job], **options: object) -> dict[str, torch.Tensor]:
    run_merge(work, out, EngineOptions(**options))
    return {n: t for file in out.glob("*.safetensors") for n, t in load_file(file).items()}


@pytest.mark.parametrize("name", NAMES)
def test_bytes_do_not_depend_on_how_the_engine_runs(
    name: str, folder: Path, tmp_path: Path
) -> None:
    whole, shards = (folder / f"{torch.float32}" / kind for kind in ("whole", "shards"))
    first = merged(tmp_path / "a", jobs(whole, name, torch.float32), num_threads=1)
    second = merged(
        tmp_path / "b",
        jobs(shards, name, torch.float32, turned=True),
        num_threads=4,
        tile_elements=64,
        shard_bytes=2000,
        batch_bytes=1,
    )
    assert first.keys() == second.keys() == SHAPES.keys()
    for tensor, values in first.items():
        assert torch.equal(values, second[tensor]), tensor


@pytest.mark.parametrize("name", NAMES)
def test_the_dtype_is_kept_and_rounded_to_once(name: str, folder: Path, tmp_path: Path) -> None:
    for dtype in DTYPES[1:]:
        place = folder / f"{dtype}" / "whole"
        found = merged(tmp_path / f"{dtype}", jobs(place, name, dtype))
        exact = merged(tmp_path / f"{dtype}-exact", jobs(place, name, torch.float32))
        for tensor, values in found.items():
            assert values.dtype == dtype
            assert torch.equal(values, exact[tensor].to(dtype)), tensor


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NAMES)
def test_a_device_gives_the_same_within_a_rounding_step(
    name: str, device: str, folder: Path, tmp_path: Path
) -> None:
    place = folder / f"{torch.bfloat16}" / "whole"
    here = merged(tmp_path / "cpu", jobs(place, name, torch.bfloat16))
    there = merged(tmp_path / "device", jobs(place, name, torch.bfloat16), device=device)
    for tensor, values in here.items():
        eps = torch.finfo(torch.bfloat16).eps
        # fp32 noise may push a value over the border between two numbers, and no further.
        torch.testing.assert_close(there[tensor], values, rtol=eps, atol=1e-5, msg=tensor)
