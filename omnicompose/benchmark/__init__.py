"""Which merging method is best? Every merge built, asked, compared with intervals, and ranked.

    run_benchmark(read_suite("capability-lora"), Path("results"), BenchmarkOptions())

Coefficients are chosen on named validation tasks and nowhere else. Importing this loads no torch.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from omnicompose.benchmark.options import BenchmarkOptions
from omnicompose.benchmark.suite import SUITES, Suite, Variant, read_suite

if TYPE_CHECKING:
    from pathlib import Path

    from omnicompose.benchmark.summary import Summary

__all__ = ["SUITES", "BenchmarkOptions", "Suite", "Variant", "read_suite", "run_benchmark"]


def run_benchmark(
    suite: Suite,
    out: "Path",
    options: BenchmarkOptions,
    say: Callable[[str], None] = lambda _line: None,
) -> "Summary":
    """Build, ask and compare every row that `out` does not hold yet; see `run.run`."""
    from omnicompose.benchmark.run import run

    return run(suite, out, options, say)
