"""How to evaluate: everything that the command line can ask for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.line import ScoreKind
from omnicompose.evaluation.subsets import parse_modalities

SCORES: tuple[ScoreKind, ...] = get_args(ScoreKind)
DTYPES = ("auto", "float32", "bfloat16", "float16")
BatchSize = int | Literal["auto"]
LimitOrder = Literal["seed", "file"]
AUTO_BATCH = 64
"""What `auto` begins with; it halves whenever memory runs out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """How to ask, and where to write.

    Attributes:
        out_dir: the results folder: journal, samples, results, report.
        modalities: subsets to ask with, see `subsets.parse_modalities`.
        scores: `letter`, `generate` or both.
        limit: at most so many questions per set of modalities; below 1 such a share of them, one
            or more; None: all.
        limit_order: which ones `limit` leaves: those that `seed` draws, or the first of the file.
        rotations: ask each question with its options in so many orders; 1: as the benchmark does.
        batch_size: prompts in one forward pass; `auto`: as many as fit, `AUTO_BATCH` at most.
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
    limit: float | None = None
    limit_order: LimitOrder = "seed"
    rotations: int = 1
    ids: tuple[str, ...] | None = None
    batch_size: BatchSize = 64
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
            *_no_folder(self.out_dir),
            *_no_limit(self.limit),
            *_not_among("--limit-order", (self.limit_order,), get_args(LimitOrder)),
            *_below("--rotations", self.rotations, 1),
            *_below("--batch_size", self.most_at_once, 1),
            *_below("--allow-errors", self.allow_errors, 0),
            *_below("--seed", self.seed, 0),
        ]
        if problems:
            raise EvaluationError("; ".join(problems) + ".")

    @property
    def most_at_once(self) -> int:
        """Prompts in the first forward pass."""
        return AUTO_BATCH if self.batch_size == "auto" else self.batch_size

    @property
    def is_partial(self) -> bool:
        """Whether questions of a benchmark are left out."""
        return self.limit is not None or self.ids is not None

    @property
    def most_drawn(self) -> int | None:
        """Where a benchmark that draws its questions may stop, per set of modalities."""
        return int(self.limit) if self.limit is not None and self.limit >= 1 else None

    def kept(self, offered: int) -> int:
        """How many of so many questions `limit` leaves."""
        if self.limit is None:
            return offered
        share = self.limit * offered if self.limit < 1 else self.limit
        return min(offered, math.ceil(share))


def _not_among(name: str, values: Sequence[str], known: Sequence[str]) -> list[str]:
    if not values:
        return [f"{name}: nothing is named; expected some of {', '.join(known)}"]
    unknown = [value for value in values if value not in known]
    return [f"{name}: found {u!r}, expected one of {', '.join(known)}" for u in unknown]


def _no_folder(path: Path) -> list[str]:
    is_file = path.exists() and not path.is_dir()
    return [f"--out: {path} is a file, expected a folder or a name that is free"] if is_file else []


def _no_limit(limit: float | None) -> list[str]:
    if limit is None or 0 < limit < 1 or (limit >= 1 and limit == int(limit)):
        return []
    return [f"--limit: found {limit}, expected a whole number from 1, or a share below 1"]


def _below(name: str, value: int, least: int) -> list[str]:
    return [f"{name}: found {value}, expected {least} or more"] if value < least else []
