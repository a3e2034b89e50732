"""How to evaluate: everything that the command line can ask for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.line import ScoreKind
from omnicompose.evaluation.subsets import parse_modalities

SCORES: tuple[ScoreKind, ...] = get_args(ScoreKind)
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """How to ask, and where to write.

    Attributes:
        out_dir: the results folder: journal, samples, results, report.
        modalities: subsets to ask with, see `subsets.parse_modalities`.
        scores: `letter`, `generate` or both.
        limit: at most so many questions per set of modalities, drawn by `seed`; None: all.
        rotations: ask each question with its options in so many orders; 1: as the benchmark does.
        batch_size: prompts in one forward pass.
        ids: ask these questions only; None: all that `limit` leaves.
        seed: drives the choice under `limit` (where a task reads rather than draws its
            questions), permutation tests and the bootstrap.
        device: where the model runs, as torch names it.
        dtype: of the computation; `auto`: float32 on a CPU, elsewhere the folder's own.
        data_dir: holds one folder per benchmark that does not ship; None: only shipped ones.
        allow_errors: so many questions may have unreadable media before the run counts as failed.
    """

    out_dir: Path
    modalities: tuple[str, ...] = ("all",)
    scores: tuple[ScoreKind, ...] = ("letter",)
    limit: int | None = None
    rotations: int = 1
    ids: tuple[str, ...] | None = None
    batch_size: int = 64
    seed: int = 0
    device: str = "cpu"
    dtype: str = "auto"
    data_dir: Path | None = None
    allow_errors: int = 0

    def __post_init__(self) -> None:
        """Check every field before any work.

        Raises:
            EvaluationError: naming all fields that cannot be used.
        """
        parse_modalities(",".join(self.modalities))
        problems = [
            *_not_among("--score", self.scores, SCORES),
            *_not_among("dtype", (self.dtype,), DTYPES),
            *_below("--limit", 1 if self.limit is None else self.limit, 1),
            *_below("--rotations", self.rotations, 1),
            *_below("--batch_size", self.batch_size, 1),
            *_below("--allow-errors", self.allow_errors, 0),
            *_below("--seed", self.seed, 0),
        ]
        if problems:
            raise EvaluationError("; ".join(problems) + ".")


def _not_among(name: str, values: Sequence[str], known: Sequence[str]) -> list[str]:
    if not values:
        return [f"{name}: nothing is named; expected some of {', '.join(known)}"]
    unknown = [value for value in values if value not in known]
    return [f"{name}: found {u!r}, expected one of {', '.join(known)}" for u in unknown]


def _below(name: str, value: int, least: int) -> list[str]:
    return [f"{name}: found {value}, expected {least} or more"] if value < least else []
