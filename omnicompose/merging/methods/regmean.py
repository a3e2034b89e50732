"""RegMean: the matrix whose outputs are nearest to every expert's on that expert's own inputs.

    W = argmin_X sum_i w_i |(X - W_i) X_i^T|^2 = (sum_i w_i W_i G_i) (sum_i w_i G_i)^+
    G_i = X_i^T X_i / rows of X_i                  mean over tokens, so experts count alike
    off the diagonal G_i is multiplied by `off_diagonal`

    X_i   inputs of this layer in expert i, one row per token
          (`omnicompose collect --what gram`); for regmean_plus_plus the inputs that this layer gets
          when the blocks before it are the merged ones (`omnicompose merge` measures them itself)

Directions that no data used keep the weighted mean, which is also what tensors without a Gram get
(norms, biases, embeddings). An expert without data has G_i = 0 and changes no measured matrix.

Papers: "Dataless Knowledge Fusion by Merging Weights of Language Models", arXiv 2212.09849; checked
against fusion_bench `regmean`. RegMean++: arXiv 2508.03121; read in its authors' summary and code
(fusion_bench `regmean_plusplus`), not run beside it: embeddings first, then block by block each
expert's own block on the merged model's states, its Grams (mean over tokens), the merge, and the
merged block's output for the next.
"""

import torch

from omnicompose.errors import MergeError
from omnicompose.merging.method import (
    Measured,
    MergeContext,
    MethodSpec,
    Parameter,
    Statistic,
    TensorGroup,
)
from omnicompose.merging.methods.deltas import combine, normalised, number
from omnicompose.merging.methods.linear_system import gram_system, minimise

FP64_WIDTH = 8192
"""Systems of at most this width are solved in fp64."""


def _spec(name: str, paper: str, summary: str, measures: Statistic) -> MethodSpec:
    return MethodSpec(
        name=name,
        summary=summary,
        formula="W = (sum_i w_i W_i G_i) (sum_i w_i G_i)^+",
        paper=paper,
        needs_base=False,
        parameters=(
            Parameter(
                name="off_diagonal",
                default=0.9,
                description="factor on the Grams' entries off the diagonal; 0: diagonal only",
                minimum=0.0,
                maximum=1.0,
            ),
        ),
        measures=measures,
        plain_unmeasured=True,
    )


SPEC = _spec(
    "regmean",
    "2212.09849",
    "Per matrix the least squares fit to every expert's outputs on its own inputs.",
    "gram",
)
PLUS_PLUS_SPEC = _spec(
    "regmean_plus_plus",
    "2508.03121",
    "RegMean on the inputs that the merged model's own earlier blocks give.",
    "merged_gram",
)


class RegMean:
    """Least squares on activations."""

    def __init__(self, spec: MethodSpec = SPEC) -> None:
        """One of the two ways to take the inputs."""
        self.spec = spec

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """The fit, fp32, of the experts' shape."""
        shares = normalised(group.weights, group.name)
        mean = combine(group.experts, shares)
        if not any(one is not None and one.count > 0 for one in group.measured):
            return mean
        width = group.shape[-1]
        dtype = torch.float64 if width <= FP64_WIDTH else torch.float32
        factor = number(context.parameters, "off_diagonal")
        grams = (
            _gram(one, group, factor, share, dtype)
            for one, share in zip(group.measured, shares, strict=True)
        )
        # Relative to the mean, so that equal experts come back as they are.
        targets = ((expert - mean).to(dtype) for expert in group.experts)
        parts = gram_system(targets, grams)
        return mean + minimise(parts, torch.zeros_like(parts.cross)).float()


def _gram(
    one: Measured | None, group: TensorGroup, factor: float, share: float, dtype: torch.dtype
) -> torch.Tensor:
    """One expert's mean Gram, its diagonal kept, the rest times `factor`."""
    width = group.shape[-1]
    if one is None or one.count == 0 or share == 0.0:
        return torch.zeros(width, width, dtype=dtype, device=group.experts[0].device)
    if one.total.shape != (width, width):
        raise MergeError(
            f"{group.name}: found a Gram of shape {list(one.total.shape)}, expected "
            f"[{width}, {width}]. Collect the statistics of this model again."
        )
    gram = one.total.to(dtype) * (factor * share / one.count)
    gram.diagonal().copy_(one.total.diagonal().to(dtype) * (share / one.count))
    return gram
