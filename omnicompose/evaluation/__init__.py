"""Does it understand modalities together? Benchmarks, scoring, statistics and reports.

    results = evaluate(Path("omni"), ["zoo/mcub"], EvaluationOptions(out_dir=Path("results")))
    write_report(Path("results"))

Importing this loads no torch; `evaluate` does.
"""

from omnicompose.evaluation.compare import ComparedRow, compare
from omnicompose.evaluation.evaluate import evaluate, evaluate_share
from omnicompose.evaluation.options import EvaluationOptions
from omnicompose.evaluation.report import write_report
from omnicompose.evaluation.results import Results
from omnicompose.evaluation.runner import Share
from omnicompose.evaluation.scoring import score
from omnicompose.evaluation.subsets import parse_modalities
from omnicompose.evaluation.tasks import TASKS

__all__ = [
    "TASKS",
    "ComparedRow",
    "EvaluationOptions",
    "Results",
    "Share",
    "compare",
    "evaluate",
    "evaluate_share",
    "parse_modalities",
    "score",
    "write_report",
]
