"""Which choice of text side and modality side keeps most? The whole grid on the zoo.

    python benchmarks/streams_grid.py --out out/grid [--limit 1000] [--only stressed-single]
    python benchmarks/streams_grid.py --out out/grid --table [--markdown "2 and 3"]

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


def markdown(figures: dict[str, dict[str, float]], measure: str) -> Iterator[str]:
    """The rows of a README's table: one a text side, one column a modality side."""
    yield f"| experts | text | {' | '.join(f'`{side}`' for side in SIDES)} |"
    yield "| --- | --- | " + "| ".join("--- " for _ in SIDES) + "|"
    for regime, kind, text in product(REGIMES, KINDS, TEXTS):
        row = [figures.get(f"{regime}-{kind}-{text}-{side}") for side in SIDES]
        shown = " | ".join("" if found is None else in_short(found, measure) for found in row)
        yield f"| {regime}, {kind} | `{text}` | {shown} |"


def in_short(figures: dict[str, float], measure: str) -> str:
    """Accuracy and difference in points; bold where the interval excludes 0."""
    low, high = figures[f"{measure}, low"], figures[f"{measure}, high"]
    difference = f"{100 * figures[f'{measure}, difference']:+.1f}"
    mark = "**" if low > 0 or high < 0 else ""
    return f"{100 * figures[measure]:.1f} ({mark}{difference}{mark})"


def main() -> None:
    """Parse the options, ask what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/grid"))
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--only", default="", help="cells whose names hold this text")
    parser.add_argument("--table", action="store_true", help="ask nothing")
    parser.add_argument("--markdown", choices=MEASURES, help="of one measure, as in the README")
    options = parser.parse_args()
    bench = Bench(out=options.out, num_questions=options.limit)
    chosen = [cell for cell in cells() if options.only in cell.name]
    for number, cell in enumerate(chosen):
        if not options.table and not bench.is_done(cell):
            print(
                f"{number + 1} of {len(chosen)}: {cell.name}: {bench.ask(cell):.0f} s", flush=True
            )
    figures = show(bench)
    if options.markdown:
        print("\n".join(markdown(figures, options.markdown)))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
