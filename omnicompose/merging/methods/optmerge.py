"""OptMerge (WUDI v2): WUDI with denoised targets and input proxies, stopped early.

    k    = max(1, min(out, in) // T)                   [M]_k: best rank-k approximation
    R_i  = S_k V_k^T of D_i                            proxy of expert i's inputs
    T_i  = [D_i]_k                                     target; center: mean + [D_i - mean]_k
    L(X) = sum_i ||(X - T_i) R_i^T||^2 / ||D_i||^2     (norm of the whole D_i)
    sgd:  X = `steps` of gradient descent with momentum from the mean, in closed form (see below)
    adam: X = `steps` of Adam from the sum
    W    = W_0 + scale * X

    D_i   w_i (W_i - W_0)          T   number of experts          1-D tensors: mean delta

Paper: "Unifying Multimodal Large Language Model Capabilities and Modalities via Model Merging",
arXiv 2505.19892, equations 2 to 5. The default is its form for LoRA experts (SGD from the mean);
profile `full` is its form for full fine-tuning (Adam from the sum, centred targets, scale 0.1).
Checked against MLLMerging's three diverging copies (profiles `mllmerging`, `internvl` and
`modelcompose`) and the golden values of specs/optmerge.md section 4.8.

Where we differ: the descent is never iterated. Gradient descent on a quadratic acts on every
eigendirection of C by itself, so its result after any number of steps is a spectral filter
(`momentum_filter`), equal to the loop's but for rounding. Adam has no such form and is run on C and
D. The exact minimiser is not offered: rank-k proxies make C nearly singular and it explodes; early
stopping is the regulariser. MLLMerging runs the loop in fp16 and divides by a squared norm that
overflows there; experts that left a tensor unchanged are left out of the loss here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from omnicompose.merging.method import MergeContext, MethodSpec, Parameter, TensorGroup
from omnicompose.merging.methods.deltas import add_to_base, flag, mean_delta, number, word
from omnicompose.merging.methods.linear_system import (
    adam,
    from_rows,
    momentum_filter,
    solve,
    start_of,
    system,
    to_rows,
)
from omnicompose.merging.methods.task_arithmetic import SCALE
from omnicompose.merging.methods.wudi import STEPS

SPEC = MethodSpec(
    name="optmerge",
    summary="WUDI on denoised deltas with early stopping; made for multimodal LoRA experts.",
    formula="W = W_0 + scale * early-stopped argmin_X sum_i |(X - [D_i]_k) R_i^T|^2 / |D_i|^2",
    paper="2505.19892",
    needs_base=True,
    factored_ok=True,
    dense_when={"optimizer": "adam"},
    parameters=(
        SCALE,
        Parameter(
            name="optimizer",
            default="sgd",
            description="sgd: in closed form; adam: iterated",
            choices=("sgd", "adam"),
        ),
        Parameter(
            name="start",
            default="mean",
            description="where the optimizer starts",
            choices=("mean", "sum"),
        ),
        STEPS,
        Parameter(name="learning_rate", default=1e-4, description="step size", minimum=0.0),
        Parameter(name="momentum", default=0.9, description="of sgd", minimum=0.0, maximum=1.0),
        Parameter(
            name="center",
            default=False,
            description="denoise what differs from the mean delta, not the whole delta",
        ),
        Parameter(
            name="proxy",
            default="truncated",
            description="input proxies from the denoised or from the full deltas",
            choices=("truncated", "full"),
        ),
        Parameter(
            name="rank_divisor",
            default=0,
            description="k is the full rank divided by this; 0: by the number of experts",
            minimum=0,
        ),
    ),
    profiles={
        "full": {
            "optimizer": "adam",
            "start": "sum",
            "learning_rate": 1e-5,
            "center": True,
            "scale": 0.1,
        },
        "mllmerging": {},
        "internvl": {
            "optimizer": "adam",
            "start": "sum",
            "learning_rate": 1e-5,
            "center": True,
            "scale": 0.1,
        },
        "modelcompose": {"learning_rate": 0.05, "proxy": "full", "rank_divisor": 5},
    },
)


class Denoised(NamedTuple):
    """Targets, proxies and squared norms of all experts, in row coordinates."""

    targets: list[torch.Tensor]
    proxies: list[torch.Tensor]
    norms: list[float]


class OptMerge:
    """Denoised, early-stopped least interference."""

    spec = SPEC

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """Base plus the solution, fp32."""
        scale = number(context.parameters, "scale")
        if len(group.shape) != 2:
            return add_to_base(group, mean_delta(group), scale)
        rows = to_rows(group, rotate=context.parameters["optimizer"] != "adam")
        denoised = denoise(rows.rows, kept_rank(group, context), context)
        start = start_of(rows.rows, word(context.parameters, "start"))
        merged = _optimise(denoised, start, context)
        return add_to_base(group, from_rows(rows, merged), scale)


def kept_rank(group: TensorGroup, context: MergeContext) -> int:
    """`k`, from the shape of the dense matrix."""
    divisor = int(number(context.parameters, "rank_divisor")) or len(group.experts)
    return max(1, min(group.shape) // divisor)


def denoise(rows: Sequence[torch.Tensor], rank: int, context: MergeContext) -> Denoised:
    """Rank-k targets and proxies of deltas `[out, q]`."""
    center, full = flag(context.parameters, "center"), context.parameters["proxy"] == "full"
    mean = torch.stack(tuple(rows)).mean(0)
    targets, proxies = [], []
    for row in rows:
        parts = truncate(row, rank)
        proxies.append(row if full else parts.proxy)
        targets.append(mean + truncate(row - mean, rank).matrix if center else parts.matrix)
    return Denoised(targets, proxies, [float(row.square().sum()) for row in rows])


class Truncated(NamedTuple):
    """`matrix`: the best rank-k approximation `U S V^T`; `proxy`: `S V^T` up to a rotation."""

    matrix: torch.Tensor
    proxy: torch.Tensor


def truncate(matrix: torch.Tensor, rank: int) -> Truncated:
    """Rank-k part of `[out, q]`, by an eigendecomposition of the smaller Gram matrix.

    That takes a fraction of the time of a singular value decomposition; only directions of
    rounding noise come out less exact, and their singular values make them harmless.
    """
    height, width = matrix.shape
    if height >= width:
        values, vectors = torch.linalg.eigh(matrix.T @ matrix)
        top, sizes = vectors[:, -rank:], values[-rank:].clamp(min=0.0).sqrt()
        return Truncated(matrix @ top @ top.T, sizes[:, None] * top.T)
    _, vectors = torch.linalg.eigh(matrix @ matrix.T)
    proxy = vectors[:, -rank:].T @ matrix
    return Truncated(vectors[:, -rank:] @ proxy, proxy)


def _optimise(denoised: Denoised, start: torch.Tensor, context: MergeContext) -> torch.Tensor:
    parts = system(*denoised)
    rate, steps = number(context.parameters, "learning_rate"), number(context.parameters, "steps")
    if context.parameters["optimizer"] == "adam":
        return adam(parts, start, rate, int(steps))
    momentum = number(context.parameters, "momentum")
    return solve(parts, start, momentum_filter(rate, momentum, int(steps)))
