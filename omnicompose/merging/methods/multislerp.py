"""Spherical average of any number of experts.

    u_i = W_i / ||W_i||            m = sum_i v_i u_i            v_i = w_i / sum_j w_j
    W   = (sum_i v_i ||W_i||) * m / ||m||

    W_i   expert i (or its delta, `space: deltas`)          w_i   coefficient

Folklore. Checked against mergekit 0.1.5 `multislerp`, which maps the experts to the tangent space
at their mean m, averages there and maps back: the tangent average at one's own mean is zero, so
that step does nothing and is left out. mergekit adds 1e-8 to norms; we do not. Where directions
cancel: two experts are averaged linearly, more are an error.
"""

from collections.abc import Mapping

import torch

from omnicompose.merging.method import (
    MergeContext,
    MethodSpec,
    Parameter,
    ParameterValue,
    Survey,
    TensorGroup,
)
from omnicompose.merging.methods.deltas import flag, normalised
from omnicompose.merging.methods.geometry import (
    SPACE,
    gram_matrix,
    normalised_mean,
    vectors,
    weighted,
)

SPEC = MethodSpec(
    name="multislerp",
    summary="Mean direction of the experts, mean length.",
    formula="W = (sum_i v_i |W_i|) normalise(sum_i v_i W_i / |W_i|)",
    paper="folklore",
    needs_base=False,
    granularity="element",
    num_passes=2,
    parameters=(
        Parameter(name="normalize", default=True, description="divide the weights by their sum"),
        SPACE,
    ),
)


class MultiSlerp:
    """Mean direction, mean length."""

    spec = SPEC

    def survey(self, parameters: Mapping[str, ParameterValue]) -> Survey:
        """One pass for the angles of a tensor."""
        return Survey(num_passes=1)

    def observe(
        self, group: TensorGroup, context: MergeContext, observe_pass: int
    ) -> Mapping[str, torch.Tensor]:
        """Inner products."""
        return {"gram": gram_matrix(vectors(group, context))}

    def merge(self, group: TensorGroup, context: MergeContext) -> torch.Tensor:
        """The spherical average, fp32."""
        normalize = flag(context.parameters, "normalize")
        weights = normalised(group.weights, group.name) if normalize else list(group.weights)
        gram = context.statistics["gram"]
        return weighted(group, context, normalised_mean(gram, gram.new_tensor(weights), group.name))
