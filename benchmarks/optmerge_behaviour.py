"""Is it as OptMerge's authors report? What carries its gain on LoRA experts, and what Adam does.

    python benchmarks/optmerge_behaviour.py [--out DIR] [--limit N]

Reported (arXiv 2505.19892, tables 4 and its text; specification of OptMerge, sections 4.1 and 4.7):
nearly all of the gain over WUDI on LoRA experts comes from starting at the mean of the deltas, not
from SGD and not from denoising; and Adam leaves the row space of the deltas and inflates the norm,
which plain descent does not.

Here: the five LoRA experts of the zoo's small vision-language model, coefficients 1 as published,
one change at a time. Per variant: length of the merged delta and its part outside the joint row
space of the experts' deltas, both against the length of the mean delta, over all attention and MLP
matrices; and the score on the capability tasks, as it is and at the scale that the validation
tasks choose. Prints a table, then the same figures as one JSON object.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file

from omnicompose.benchmark import BenchmarkOptions, Suite, Variant, read_suite, run_benchmark
from omnicompose.benchmark.ground import build_merge
from omnicompose.benchmark.summary import Standing
from omnicompose.zoo.catalog import zoo_path

WHOLE = {"rank_divisor": 1}
VARIANTS: dict[str, dict[str, object]] = {
    "WUDI: Adam from the sum": {
        "optimizer": "adam",
        "start": "sum",
        "learning_rate": 1e-5,
        **WHOLE,
    },
    "Adam from the mean": {"optimizer": "adam", "start": "mean", "learning_rate": 1e-5, **WHOLE},
    "SGD from the sum": {"start": "sum", **WHOLE},
    "SGD from the mean": {"start": "mean", **WHOLE},
    "OptMerge: SGD, mean, low rank": {"start": "mean"},
    "the start alone: the sum": {"start": "sum", "steps": 0},
    "the start alone: the mean": {"start": "mean", "steps": 0},
}
SCALES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
Deltas = dict[str, torch.Tensor]


def suite() -> Suite:
    """The LoRA suite with published coefficients and these variants alone."""
    variants = {name: Variant(method="optmerge", parameters=p) for name, p in VARIANTS.items()}
    changes = {"weight": 1.0, "variants": variants, "scales": SCALES, "name": "optmerge-behaviour"}
    return read_suite("capability-lora").model_copy(update=changes)


def deltas(folder: Path, base: Deltas) -> Deltas:
    """What a merged folder changes in the attention and MLP matrices."""
    found = load_file(folder / "model.safetensors")
    return {name: found[name].float() - base[name] for name in base}


def linear_layers() -> Deltas:
    """The base's attention and MLP matrices by their names on disk."""
    found = load_file(zoo_path("capability-base") / "model.safetensors")
    return {
        name: w.float()
        for name, w in found.items()
        if ".layers." in name and "_proj" in name and "vision" not in name
    }


def geometry(merged: Deltas, experts: list[Deltas]) -> dict[str, float]:
    """Length of a merged delta, and of its part outside the experts' rows, over the mean's."""
    length = outside = mean = 0.0
    for name, delta in merged.items():
        rows = torch.cat([expert[name] for expert in experts]).double()
        _, sizes, directions = torch.linalg.svd(rows, full_matrices=False)
        space = directions[sizes > 1e-5 * sizes[0]] if sizes[0] > 0 else directions[:0]
        whole = delta.double()
        length += float(whole.square().sum())
        outside += float((whole - whole @ space.T @ space).square().sum())
        mean += float(torch.stack([e[name] for e in experts]).mean(0).double().square().sum())
    return {"norm_over_mean": (length / mean) ** 0.5, "outside_over_mean": (outside / mean) ** 0.5}


def measure(out: Path, limit: int | None) -> dict[str, dict[str, float]]:
    """Geometry and score of every variant."""
    chosen = suite()
    options = BenchmarkOptions(methods=tuple(VARIANTS), limit=limit, keep=True)
    summary = run_benchmark(chosen, out, options)
    base = linear_layers()
    experts = [_one(source.text, out, name, base) for name, source in chosen.models.items()]
    standings = {one.row.label: one for one in summary.standings}
    found = {}
    for name in VARIANTS:
        folder = next((out / ".work").glob(f"{_file(name)}-0/model.safetensors")).parent
        found[name] = geometry(deltas(folder, base), experts) | _scores(standings[name])
    return found


def _one(source: str, out: Path, name: str, base: Deltas) -> Deltas:
    content = {
        "base": "zoo:capability-base",
        "models": [{"source": source}],
        "method": "linear",
        "dtype": "float32",
    }
    return deltas(build_merge(content, out / "experts" / name).folder, base)


def _file(label: str) -> str:
    from omnicompose.evaluation.journal import file_name

    return file_name(label)


def _scores(one: Standing) -> dict[str, float]:
    over = one.over_average
    return {
        "score_at_1": 100 * one.plain,
        "scale": one.row.scale,
        "score": 100 * (one.score.value or 0.0),
        "minus_average": 100 * (over.value or 0.0),
        "minus_average_low": 100 * (over.low or 0.0),
        "minus_average_high": 100 * (over.high or 0.0),
    }


def main() -> None:
    """Print the table, then the same figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--limit", type=int)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as scratch:
        found = measure(asked.out or Path(scratch), asked.limit)
    print(
        f"{'variant':<32} {'|X|/|mean|':>10} {'outside':>8} {'at 1':>6} {'scale':>6} {'score':>6}"
        "  minus average"
    )
    for name, row in found.items():
        interval = (
            f"{row['minus_average']:+.1f} "
            f"[{row['minus_average_low']:+.1f}, {row['minus_average_high']:+.1f}]"
        )
        print(
            f"{name:<32} {row['norm_over_mean']:>10.2f} {row['outside_over_mean']:>8.3f} "
            f"{row['score_at_1']:>6.1f} {row['scale']:>6g} {row['score']:>6.1f}  {interval}"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
