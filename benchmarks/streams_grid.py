"""Which choice of text side and modality side keeps most? The whole grid on the zoo.

    python benchmarks/streams_grid.py --out out/grid [--limit 1000] [--only stressed-single]
    python benchmarks/streams_grid.py --out out/grid --table

Every modality side (merged, exact, masked, emr) with six text-side methods, on single-adapter and
decoupled experts of both regimes: 96 composites. Each is asked about two and three inputs
(zoo/mcub) and the questions of every expert's own task. Cells are resumable; run the command again
to go on, or with --only beside another one. The table gives accuracies and the paired difference to
linear x merged of the same experts (NaiveMC), with 95 % intervals; the last line is JSON.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from streams_cells import MEASURES, MODALITIES, Bench, Cell, compare_lines, interval

TEXTS = {
    "linear": "{method: linear}",
    "ties": "{method: ties, parameters: {density: 0.2}}",
    "dare_ties": "{method: dare_ties, parameters: {density: 0.5}}",
    "tsv": "{method: tsv}",
    "iso_c": "{method: iso_c}",
    "ssam": "{method: ssam, parameters: {combine: mean}}",
}
SIDES = ("merged", "exact", "masked", "emr")
REGIMES = ("standard", "stressed")
KINDS = {"single": "", "decoupled": "-decoupled"}
REFERENCE = ("linear", "merged")
"""NaiveMC."""


def cells() -> Iterator[Cell]:
    """Every composite of the grid, those of the same experts one after the other."""
    for regime, (kind, suffix), text, side in product(REGIMES, KINDS.items(), TEXTS, SIDES):
        yield Cell(
            name=f"{regime}-{kind}-{text}-{side}",
            sources={m: f"zoo:{m}-{regime}{suffix}" for m in MODALITIES},
            text=TEXTS[text],
            modality=side,
        )


def show(bench: Bench) -> dict[str, dict[str, float]]:
    """Print the table of what has been asked; return its figures."""
    figures: dict[str, dict[str, float]] = {}
    print(f"{'composite':38}" + "".join(f"{name:>33}" for name in MEASURES))
    for cell in cells():
        experts = cell.name.rsplit("-", 2)[0]
        reference = next(c for c in cells() if c.name == "-".join((experts, *REFERENCE)))
        if not (bench.is_done(cell) and bench.is_done(reference)):
            continue
        figures[cell.name] = {}
        shown = ""
        for name, counts in MEASURES.items():
            accuracy, comparison = compare_lines(
                bench.lines(cell, counts), bench.lines(reference, counts)
            )
            found = comparison.difference
            shown += f"{100 * accuracy:10.1f}  {interval(comparison):>21}"
            figures[cell.name] |= {
                name: accuracy,
                f"{name}, difference": found.value,
                f"{name}, low": found.low,
                f"{name}, high": found.high,
            }
        print(f"{cell.name:38}{shown}")
    return figures


def main() -> None:
    """Parse the options, ask what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/grid"))
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--only", default="", help="cells whose names hold this text")
    parser.add_argument("--table", action="store_true", help="ask nothing")
    options = parser.parse_args()
    bench = Bench(out=options.out, num_questions=options.limit)
    chosen = [cell for cell in cells() if options.only in cell.name]
    for number, cell in enumerate(chosen):
        if not options.table and not bench.is_done(cell):
            print(
                f"{number + 1} of {len(chosen)}: {cell.name}: {bench.ask(cell):.0f} s", flush=True
            )
    print(json.dumps(show(bench)))


if __name__ == "__main__":
    main()
