"""Options of `omnicompose evaluate`, with the names that users of other harnesses know."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from omnicompose.evaluation.line import ScoreKind


def _to_limit(text: str) -> float:
    """`200`, or `0.1` for a tenth."""
    try:
        number = float(text)
    except ValueError as err:
        raise typer.BadParameter(f"found {text!r}, expected a number.") from err
    return int(number) if number >= 1 and number.is_integer() else number


def _to_batch_size(text: str | int) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError as err:
        raise typer.BadParameter(f"found {text!r}, expected a number or auto.") from err


DataDir = Annotated[
    Path | None, typer.Option("--data", help="Holds one folder per benchmark that does not ship.")
]
Rotations = Annotated[int, typer.Option(min=1, help="Orders of the options to ask each one in.")]
Workers = Annotated[
    int,
    typer.Option("--num-workers", "--num_workers", min=1, help="Processes on this machine."),
]
Ids = Annotated[Path | None, typer.Option("--samples", help="A JSON list of question ids.")]
OutDir = Annotated[Path | None, typer.Option("--out", "--output_path", help="The folder to write.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
SomeOnly = Annotated[
    float | None,
    typer.Option(
        "--limit",
        parser=_to_limit,
        metavar="N",
        help="Questions per set of modalities; below 1 a share of them.",
    ),
]
LimitOrder = Annotated[
    str,
    typer.Option(
        "--limit-order", help="What --limit leaves: `seed` draws, or the first of the `file`."
    ),
]
AtOnce = Annotated[
    str,
    typer.Option(
        "--batch_size",
        "--batch-size",
        parser=_to_batch_size,
        metavar="N",
        help="Questions at once; auto halves 64 until they fit.",
    ),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Forget what these tasks were answered before in --out.")
]
PredictOnly = Annotated[
    bool,
    typer.Option(
        "--predict_only", "--predict-only", help="Write the answers; `score` does the rest."
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(metavar="RESULTS", help="Compare with these results, question by question."),
]
LogSamples = Annotated[
    bool, typer.Option("--log_samples", "--log-samples", help="Accepted: samples are always kept.")
]


def read_scores(text: str) -> "tuple[ScoreKind, ...]":
    """`letter,generate`; `official` reads the replies that `generate` asks for."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    kinds = ["generate" if name == "official" else name for name in names]
    return tuple(dict.fromkeys(kinds))  # type: ignore[arg-type]  # EvaluationOptions checks them


def read_ids(path: Path) -> tuple[str, ...]:
    """The question ids of a JSON list."""
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise typer.BadParameter(f"{path}: {err}") from err
    if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
        raise typer.BadParameter(f"{path}: expected a JSON list of question ids.")
    return tuple(ids)
