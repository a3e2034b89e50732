"""How to run a benchmark: everything that the command line can ask for."""

from dataclasses import dataclass

from omnicompose.errors import EvaluationError


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkOptions:
    """What of a suite is run.

    Attributes:
        methods: names of methods (`ties`, `optmerge@full` for a profile) and of the suite's
            variants; `all`: every method that needs no data, and every variant; `all-data`: every
            method that looks at data.
        limit: questions per task and set of modalities in place of the suite's, and at most so many
            of those that methods are shown; None: the suite's.
        seeds: runs of methods that draw random numbers; None: the suite's.
        batch_size: prompts in one forward pass.
        keep: keep every merged folder, not its row alone.
    """

    methods: tuple[str, ...] = ("all",)
    limit: int | None = None
    seeds: int | None = None
    batch_size: int = 256
    keep: bool = False

    def __post_init__(self) -> None:
        """Check every field before any work.

        Raises:
            EvaluationError: naming all fields that cannot be used.
        """
        numbers = {"--limit": self.limit, "--seeds": self.seeds, "--batch_size": self.batch_size}
        problems = [
            f"{name}: found {value}, expected 1 or more"
            for name, value in numbers.items()
            if value is not None and value < 1
        ]
        if not self.methods:
            problems.append("--methods: nothing is named; expected names of methods, or all")
        if problems:
            raise EvaluationError("; ".join(problems) + ".")
