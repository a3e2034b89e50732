"""How to tune: everything that the command line can ask for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from omnicompose.errors import TuningError

Search = Literal["grid", "cma", "bayes"]
Objective = Literal["likelihood", "agreement", "entropy"]
LABELLED: tuple[Objective, ...] = ("likelihood",)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions:
    """How to search.

    Attributes:
        tasks: benchmarks whose questions are asked.
        objective: what is made small. With labels `likelihood` (minus the log-probability of the
            right option). Without, on the questions alone: `agreement` (how far the composite's
            next word and hidden states lie from each expert's on questions that the expert
            understands alone), or `entropy` (of the composite's next word).
        search: `grid`, `cma` (CMA-ES; needs the package `cma`) or `bayes` (needs `optuna`).
        knots: coefficients per expert: 1, or so many over the depth of the backbone.
        evaluations: candidates that are tried at most, 1/N among them.
        limit: questions per set of modalities, of both splits together.
        validation: share of the clusters of questions that the search may look at.
        batch_size: prompts in one forward pass.
        seed: of the split and the search.
    """

    tasks: tuple[str, ...]
    objective: Objective = "likelihood"
    search: Search = "cma"
    knots: int = 1
    evaluations: int = 40
    limit: int | None = None
    validation: float = 0.3
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field before any work.

        Raises:
            TuningError: naming all fields that cannot be used.
        """
        problems = [
            *_unless(bool(self.tasks), "--task: none is named; expected at least one"),
            *_unless(
                self.objective in get_args(Objective),
                f"--objective: found {self.objective!r}, expected one of "
                f"{', '.join(get_args(Objective))}",
            ),
            *_unless(
                self.search in get_args(Search),
                f"--search: found {self.search!r}, expected one of {', '.join(get_args(Search))}",
            ),
            *_unless(self.knots >= 1, f"--knots: found {self.knots}, expected 1 or more"),
            *_unless(
                self.evaluations >= 2,
                f"--evaluations: found {self.evaluations}, expected 2 or more",
            ),
            *_unless(
                0 < self.validation < 1,
                f"--validation: found {self.validation}, expected a share between 0 and 1",
            ),
        ]
        if problems:
            raise TuningError("; ".join(problems) + ".")

    @property
    def labelled(self) -> bool:
        """Whether the search looks at right answers."""
        return self.objective in LABELLED


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to tune.

    Attributes:
        recipe: a YAML file of `compose`.
        out: gets the tuned recipe and the trace; media of the questions beside them.
    """

    recipe: Path
    out: Path


def _unless(holds: bool, problem: str) -> list[str]:
    return [] if holds else [problem]
