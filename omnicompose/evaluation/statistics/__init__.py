"""Uncertainty, comparison and complementarity, computed from one score per question."""

from omnicompose.evaluation.statistics.intervals import (
    Estimate,
    Floats,
    clustered_stderr,
    estimate,
    wilson_interval,
)
from omnicompose.evaluation.statistics.paired import (
    Comparison,
    compare_paired,
    detectable_difference,
    holm,
    mcnemar_exact,
    sign_flip_test,
)
from omnicompose.evaluation.statistics.shapley import (
    Coalition,
    Rescue,
    bootstrap,
    coalitions,
    rescue,
    shapley_values,
    synergy,
)

__all__ = [
    "Coalition",
    "Comparison",
    "Estimate",
    "Floats",
    "Rescue",
    "bootstrap",
    "clustered_stderr",
    "coalitions",
    "compare_paired",
    "detectable_difference",
    "estimate",
    "holm",
    "mcnemar_exact",
    "rescue",
    "shapley_values",
    "sign_flip_test",
    "synergy",
    "wilson_interval",
]
