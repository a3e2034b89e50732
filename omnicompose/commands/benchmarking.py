"""The command that compares merging methods."""

from pathlib import Path
from typing import Annotated

import typer

from omnicompose.commands.options import AsJson, BatchSize, Limit
from omnicompose.commands.output import say, show_json, show_rows

SuiteName = Annotated[
    str, typer.Argument(metavar="SUITE", help="A suite's name or YAML file; `list` lists them.")
]
Methods = Annotated[
    str,
    typer.Option(
        help="Names joined by commas, METHOD@PROFILE; all: those that need no data; "
        "all-data: those that do."
    ),
]
Seeds = Annotated[int | None, typer.Option(help="Runs of methods that draw random numbers.")]
ON_SCREEN = ("rank", "row", "score", "minus average", "minus joint", "CPU s")
"""Columns that a terminal has room for."""
Keep = Annotated[bool, typer.Option("--keep", help="Keep every merged folder.")]


def benchmark(
    suite: SuiteName = "list",
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write.")] = None,
    methods: Methods = "all",
    limit: Limit = None,
    seeds: Seeds = None,
    batch_size: BatchSize = 256,
    keep: Keep = False,
    as_json: AsJson = False,
) -> None:
    """Build and ask every merge of SUITE; rank the methods. Ranks come with intervals."""
    from omnicompose.benchmark import SUITES, BenchmarkOptions, read_suite, run_benchmark

    if suite == "list":
        rows = [{"suite": name, "summary": read_suite(name).summary} for name in SUITES]
        show_rows(rows, ("suite", "summary"), as_json)
        return
    if out is None:
        raise typer.BadParameter("name an output folder with --out.")
    options = BenchmarkOptions(
        methods=tuple(name.strip() for name in methods.split(",") if name.strip()),
        limit=limit,
        seeds=seeds,
        batch_size=batch_size,
        keep=keep,
    )
    found = run_benchmark(read_suite(suite), out, options, say)
    from omnicompose.benchmark.report import findings, results, table

    if as_json:
        show_json(results(found))
        return
    lines = table(found)
    show_rows(lines, tuple(name for name in ON_SCREEN if name in lines[0]), as_json)
    for line in findings(found):
        say(line)
    say(f"{out}: the whole table in report.md and results.csv, pareto.svg, one file per row.")
