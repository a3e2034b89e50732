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
from omnicompose.evaluation.statistics.strata import (
    Groups,
    Stratum,
    Tested,
    groups_of,
    mean_of_means,
    minus,
    stratum,
)

__all__ = [
    "Coalition",
    "Comparison",
    "Estimate",
    "Floats",
    "Groups",
    "Rescue",
    "Stratum",
    "Tested",
    "bootstrap",
    "clustered_stderr",
    "coalitions",
    "compare_paired",
    "detectable_difference",
    "estimate",
    "groups_of",
    "holm",
    "mcnemar_exact",
    "mean_of_means",
    "minus",
    "rescue",
    "shapley_values",
    "sign_flip_test",
    "stratum",
    "synergy",
    "wilson_interval",
]
