"""OptMerge in closed form against the 300 steps of gradient descent that it replaces.

    python benchmarks/optmerge.py [--full]

Both sides start from the same deltas of three experts, in one thread, and do everything: denoising
included. The loop is the published one: rank-k targets and proxies by SVD (proxies padded with zero
rows to the matrix' own height), then SGD with momentum on `sum_i ||(X - T_i) R_i^T||^2 / ||D_i||^2`
in fp32. A step always costs the same, so a few are timed and multiplied up; `--full` runs them all.
Results are compared after 300 steps on the loop's sufficient statistics, which give the same
iterates; rows of the matrix do not interact, so 256 of them are enough.
Times are CPU seconds: they do not depend on what else the machine does.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from omnicompose.merging.method import MergeContext, TensorGroup
from omnicompose.merging.methods.linear_system import System, loss, system
from omnicompose.merging.methods.optmerge import Denoised
from omnicompose.merging.registry import METHODS, check_parameters

STEPS, RATE, MOMENTUM, TIMED_STEPS = 300, 1e-4, 0.9, 2
COMPARED_ROWS = 256
SHAPES = ((1024, 1024), (4096, 1024))


def make_group(height: int, width: int) -> TensorGroup:
    """Three experts whose deltas have decaying spectra, as fine-tuning leaves them."""
    generator = torch.Generator().manual_seed(0)
    decay = torch.linspace(0, 4, width).neg().exp()
    noise = (torch.randn(width, width, generator=generator) for _ in range(3))
    rotations = [torch.linalg.qr(matrix)[0] for matrix in noise]
    experts = tuple(
        1e-3 * torch.randn(height, width, generator=generator) * decay @ rotation
        for rotation in rotations
    )
    return TensorGroup(
        name="model.layers.0.mlp.up_proj.weight",
        shape=(height, width),
        base=torch.zeros(height, width),
        experts=experts,
        expert_names=("image", "audio", "video"),
        weights=(1.0, 1.0, 1.0),
    )


Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What `work` returns and the CPU seconds that it takes."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def published_start(group: TensorGroup) -> Denoised:
    """Targets and zero-padded proxies by SVD, fp32."""
    rank = min(group.shape) // len(group.experts)
    targets, proxies = [], []
    for delta in group.experts:
        u, s, vh = torch.linalg.svd(delta, full_matrices=False)
        proxy = torch.zeros_like(delta)
        proxy[:rank] = s[:rank, None] * vh[:rank]
        targets.append(u[:, :rank] * s[:rank] @ vh[:rank])
        proxies.append(proxy)
    return Denoised(targets, proxies, [float(d.square().sum()) for d in group.experts])


def published_steps(group: TensorGroup, parts: Denoised, num_steps: int) -> torch.Tensor:
    """Gradient descent with momentum, every step through the `[out, out]` products."""
    merged = torch.stack(group.experts).mean(0)
    velocity = torch.zeros_like(merged)
    for _ in range(num_steps):
        velocity.mul_(MOMENTUM)
        for target, proxy, norm in zip(*parts, strict=True):
            velocity.addmm_((merged - target) @ proxy.T, proxy, alpha=2.0 / norm)
        merged = merged - RATE * velocity
    return merged


def statistics_steps(start: torch.Tensor, parts: System, num_steps: int) -> torch.Tensor:
    """The same iterates, from C and D alone."""
    merged, velocity = start.clone(), torch.zeros_like(start)
    for _ in range(num_steps):
        slope = torch.addmm(parts.cross, merged, parts.gram, beta=-2.0, alpha=2.0)
        velocity = velocity.mul_(MOMENTUM).add_(slope)
        merged = merged - RATE * velocity
    return merged


def measure(height: int, width: int, full: bool) -> dict[str, float]:
    """Times and losses of both sides on one shape."""
    group = make_group(height, width)
    context = MergeContext(parameters=check_parameters("optmerge", {}))
    closed, closed_s = timed(lambda: METHODS["optmerge"].merge(group, context))
    prepared, svd_s = timed(lambda: published_start(group))
    num_timed = STEPS if full else TIMED_STEPS
    _, steps_s = timed(lambda: published_steps(group, prepared, num_timed))
    loop_s = svd_s + steps_s * STEPS / num_timed
    return {
        "loop_s": loop_s,
        "closed_s": closed_s,
        "speedup": loop_s / closed_s,
        "steps_timed": num_timed,
        **compare(group, prepared, closed),
    }


def compare(group: TensorGroup, prepared: Denoised, closed: torch.Tensor) -> dict[str, float]:
    """Losses of the first rows at the start, after the loop and in closed form."""
    targets = [target[:COMPARED_ROWS] for target in prepared.targets]
    rows = Denoised(targets, prepared.proxies, prepared.norms)
    start = torch.stack(group.experts).mean(0)[:COMPARED_ROWS]
    looped = statistics_steps(start, system(*rows), STEPS)
    closed = closed[:COMPARED_ROWS]
    return {
        "start_loss": loss(start, *rows),
        "loop_loss": loss(looped, *rows),
        "closed_loss": loss(closed, *rows),
        "relative_difference": float((closed - looped).norm() / (looped - start).norm()),
    }


def main() -> None:
    """Print the table, then the same figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="run all 300 published steps")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    print(f"{'shape':>12} {'loop s':>9} {'closed s':>9} {'ratio':>7}  loss: start, loop, closed")
    for height, width in SHAPES:
        row = measure(height, width, arguments.full)
        found[f"{height}x{width}"] = row
        print(
            f"{f'{height}x{width}':>12} {row['loop_s']:9.1f} {row['closed_s']:9.2f} "
            f"{row['speedup']:7.1f}  {row['start_loss']:.6e} {row['loop_loss']:.6e} "
            f"{row['closed_loss']:.6e}"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
