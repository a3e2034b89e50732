"""Small merges for the engine's tests."""

import time
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from omnicompose.merging.engine import run_merge
from omnicompose.merging.job import Copy, Difference, Factors, Fill, Job, Merge, Rows, ScaledFactor
from omnicompose.merging.job import TensorRef as Ref
from omnicompose.merging.method import MergeContext, MethodSpec, Survey, TensorGroup
from omnicompose.merging.options import EngineOptions, Progress
from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.source import TensorInfo

BF16 = torch.bfloat16
SHARD_BYTES = 20_000


class Average:
    """A weighted sum of deltas on the base: any tile."""

    spec = MethodSpec(
        name="average", summary="", formula="", paper="", needs_base=True, granularity="element"
    )

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        assert group.base is not None
        total = group.base.clone()
        for expert, weight in zip(group.experts, group.weights, strict=True):
            total.add_(expert - group.base, alpha=weight)
        return total


class RowNorm:
    """Needs the whole tensor, in its shape."""

    spec = MethodSpec(
        name="row_norm", summary="", formula="", paper="", needs_base=False, granularity="tensor"
    )

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        assert group.experts[0].shape == group.shape
        assert group.offset == 0
        mean = sum(group.experts) / len(group.experts)
        return mean / mean.norm(dim=-1, keepdim=True).clamp(min=1e-6)


class Centred:
    """Subtracts the mean over the tensor, or over the model, observed beforehand."""

    spec = MethodSpec(
        name="centred",
        summary="",
        formula="",
        paper="",
        needs_base=False,
        granularity="element",
        num_passes=3,
    )

    def survey(self, parameters: Mapping[str, object]) -> Survey:
        return Survey(num_passes=2, scope="model" if parameters["scope"] == "model" else "tensor")

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        if observe_pass == 0:
            total = group.experts[0].sum(dtype=torch.float64)
            return {"sum": total, "count": torch.tensor(group.experts[0].numel())}
        mean = context.statistics["sum"] / context.statistics["count"]
        return {"square": (group.experts[0].double() - mean).square().sum()}

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        mean = context.statistics["sum"] / context.statistics["count"]
        spread = (context.statistics["square"] / context.statistics["count"]).sqrt()
        return ((group.experts[0].double() - mean) / spread).float()


SHAPES = {
    "embed": (37, 16),
    "a.weight": (24, 16),
    "a.bias": (24,),
    "b.weight": (40, 24),
    "scalar": (),
    "empty": (0, 4),
    "z.weight": (64, 33),
}


def write_models(folder: Path, dtype: torch.dtype = BF16, scale: int = 1) -> None:
    """m0 .. m2, a tensor `ids` in each, and factors of a LoRA."""
    for number in range(3):
        generator = torch.Generator().manual_seed(number)
        tensors = {
            name: torch.randn(
                (shape[0] * scale, *shape[1:]) if shape else shape, generator=generator
            )
            for name, shape in SHAPES.items()
        }
        stored = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        stored["ids"] = torch.arange(50) * 10**12 + number
        for side, shape in {"lora_A": (2 + number, 16), "lora_B": (24, 2 + number)}.items():
            stored[side] = torch.randn(shape, generator=generator)
        (folder / f"m{number}").mkdir(parents=True)
        save_file(stored, folder / f"m{number}" / "model.safetensors")


def all_jobs(folder: Path, dtype: torch.dtype = BF16) -> list[Job]:
    """Every kind of job over the models of `write_models`."""
    sources = [open_safetensors(folder / f"m{number}") for number in range(3)]

    def ref(number: int, name: str, **rows: int) -> Ref:
        return Ref(source=sources[number], name=name, **rows)

    def info(name: str, shape: tuple[int, ...], own: torch.dtype = dtype) -> TensorInfo:
        return TensorInfo(name=name, dtype=own, shape=shape)

    def merge(name: str, method: object, output: str = "", **parameters: str) -> Merge:
        needs_base = method.spec.needs_base
        numbers = (1, 2) if needs_base else (0, 1, 2)
        return Merge(
            output=info(output or name, ref(0, name).info.shape),
            method=method,
            parameters=parameters,
            base=ref(0, name) if needs_base else None,
            experts=tuple(ref(number, name) for number in numbers),
            expert_names=tuple(f"m{number}" for number in numbers),
            weights=(0.5,) * len(numbers),
        )

    jobs: list[Job] = [merge(name, Average()) for name in SHAPES]
    jobs += [merge(name, RowNorm(), f"row.{name}") for name in ("a.weight", "z.weight")]
    jobs += [
        merge(name, Centred(), f"t.{name}", scope="tensor")
        for name in SHAPES
        if name not in ("empty", "scalar")
    ]
    jobs += [merge(name, Centred(), f"m.{name}", scope="model") for name in SHAPES]
    shape = ref(0, "a.weight").info.shape
    jobs.append(
        Difference(output=info("correction", shape), minuend=ref(1, "a.weight"), subtrahend=jobs[1])
    )
    rows, width = ref(0, "embed").info.shape
    jobs.append(
        Rows(
            output=info("vocabulary", (rows + 7, width)),
            pieces=(
                merge("embed", Average()),
                ref(1, "embed", first_row=3, num_rows=2),
                Fill(num_rows=4, mean_of=ref(2, "embed")),
                Fill(num_rows=1),
            ),
        )
    )
    scaled = [
        [ScaledFactor(tensor=ref(n, side), scale=0.5 - n) for n in range(3)]
        for side in ("lora_A", "lora_B")
    ]
    jobs.append(Factors(output=info("s.lora_A", (9, 16)), pieces=tuple(scaled[0]), axis=0))
    jobs.append(Factors(output=info("s.lora_B", (24, 9)), pieces=tuple(scaled[1]), axis=1))
    jobs.append(Copy(output=info("ids", (50,), torch.int64), tensor=ref(2, "ids")))
    jobs.append(Copy(output=info("kept", shape), tensor=ref(1, "a.weight")))
    jobs.append(Copy(output=info("cast", shape, torch.float16), tensor=ref(1, "a.weight")))
    return jobs


def slow_merge(folder: Path, out: Path, pause_s: float = 0.01) -> None:
    """Merge with a pause after each tensor, so that a kill finds it at work."""

    def report(progress: Progress) -> None:
        time.sleep(pause_s)

    options = EngineOptions(
        num_threads=2, tile_elements=500, shard_bytes=SHARD_BYTES, batch_bytes=1
    )
    run_merge(all_jobs(folder), out, options, report=report)
