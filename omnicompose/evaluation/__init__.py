"""Does it understand modalities together? Benchmarks, scoring, statistics and reports.

    results = evaluate(Path("omni"), ["zoo/mcub"], EvaluationOptions(out_dir=Path("results")))
    write_report(Path("results"))

Importing this loads no torch; `evaluate` does.
"""

from omnicompose.evaluation.bridges.export import write_lmms_files
from omnicompose.evaluation.compare import ComparedRow, compare, compare_all
from omnicompose.evaluation.evaluate import answer_share, check_errors, evaluate, evaluate_share
from omnicompose.evaluation.journal import discard
from omnicompose.evaluation.options import EvaluationOptions
from omnicompose.evaluation.report import write_report
from omnicompose.evaluation.results import Results
from omnicompose.evaluation.runner import Share
from omnicompose.evaluation.scoring import score
from omnicompose.evaluation.subsets import parse_modalities
from omnicompose.evaluation.tasks import TASKS
from omnicompose.evaluation.workers import (
    answer_with_workers,
    device_from,
    evaluate_with_workers,
    share_from,
)

__all__ = [
    "TASKS",
    "ComparedRow",
    "EvaluationOptions",
    "Results",
    "Share",
    "answer_share",
    "answer_with_workers",
    "check_errors",
    "compare",
    "compare_all",
    "device_from",
    "discard",
    "evaluate",
    "evaluate_share",
    "evaluate_with_workers",
    "parse_modalities",
    "score",
    "share_from",
    "write_lmms_files",
    "write_report",
]
