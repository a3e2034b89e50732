"""Which candidate to try next: ask for some, tell what they are worth.

Existing libraries do the work (`cma`, `optuna`); each is imported when it is asked for.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Protocol

from omnicompose.errors import OmniComposeError, TuningError
from omnicompose.searching.trail import Point, Trail, Tried

Fitness = Callable[[Point], float]
"""What a candidate is worth; less is better."""
DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What is searched.

    Attributes:
        start: the first candidate.
        low: least values; infinite for a search without bounds, which only CMA-ES can do.
        high: greatest values.
        spread: standard deviation of the first candidates.
        seed: of all random choices.
        population: candidates of one generation of CMA-ES; None: as many as the library takes.
    """

    start: Point
    low: Point
    high: Point
    spread: float
    seed: int
    population: int | None = None


class Strategy(Protocol):
    """Deterministic under its seed."""

    def ask(self) -> list[Point]:
        """Candidates to try next; none if the search has ended by itself."""
        ...

    def tell(self, points: Sequence[Point], values: Sequence[float]) -> None:
        """What the candidates that were asked for are worth."""
        ...


class Cma:
    """CMA-ES of the package `cma`."""

    def __init__(self, space: Space) -> None:
        """Begin at the start.

        Raises:
            TuningError: the package is not there.
        """
        try:
            from cma import CMAEvolutionStrategy
        except ImportError as error:
            raise TuningError(_missing("cma", "tune")) from error
        # cma wants two dimensions: a lone number is searched beside one that nothing looks at.
        self._padding = max(0, 2 - len(space.start))
        pad = (0.0,) * self._padding
        settings: dict[str, object] = {"seed": space.seed + 1, "verbose": -9}  # 0 is a clock
        if space.population is not None:
            settings["popsize"] = space.population
        if all(map(isfinite, (*space.low, *space.high))):
            bounds = [[*space.low, *(-1.0 for _ in pad)], [*space.high, *(1.0 for _ in pad)]]
            settings["bounds"] = bounds
        self._strategy = CMAEvolutionStrategy([*space.start, *pad], space.spread, settings)
        self._asked: list[list[float]] = []

    def ask(self) -> list[Point]:
        """One generation."""
        if self._strategy.stop():
            return []
        self._asked = [list(map(float, point)) for point in self._strategy.ask()]
        return [_rounded(point[: len(point) - self._padding]) for point in self._asked]

    def tell(self, points: Sequence[Point], values: Sequence[float]) -> None:
        """A generation's values; a part of one is not learned from."""
        if len(values) == len(self._asked):
            self._strategy.tell(self._asked, list(values))


class Bayes:
    """The tree-structured Parzen estimator of the package `optuna`."""

    def __init__(self, space: Space) -> None:
        """Begin at the start.

        Raises:
            TuningError: the package is not there.
        """
        try:
            import optuna
        except ImportError as error:
            raise TuningError(_missing("optuna", "bayes")) from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=space.seed))
        self._study.enqueue_trial({f"x{i}": x for i, x in enumerate(space.start)})

    def ask(self) -> list[Point]:
        """One candidate."""
        self._asked = self._study.ask()
        ranges = zip(self._space.low, self._space.high, strict=True)
        return [
            _rounded(
                self._asked.suggest_float(f"x{i}", low, high)
                for i, (low, high) in enumerate(ranges)
            )
        ]

    def tell(self, points: Sequence[Point], values: Sequence[float]) -> None:
        """Its value."""
        self._study.tell(self._asked, values[0])


def _missing(package: str, extra: str) -> str:
    return (
        f"this search needs the package {package}, which is not installed. Install "
        f"omnicompose[{extra}]."
    )


def _rounded(point: Iterable[float]) -> Point:
    return tuple(round(float(x), DIGITS) for x in point)


def run(strategy: Strategy, fitness: Fitness, trail: Trail, budget: int, first: Point) -> Tried:
    """Try candidates until the budget is spent; the best of them.

    Args:
        strategy: what to try.
        fitness: what a candidate is worth.
        trail: the log; candidates that are in it are not tried again.
        budget: candidates in all, the first among them.
        first: tried before any that the strategy asks for.

    Raises:
        TuningError: the fitness fails or gives no number; the log keeps what was tried.
    """
    number, asked = 0, strategy.ask()
    if first not in asked:
        _value(fitness, trail, number, first)
        number += 1
    while asked and number < budget:
        asked = asked[: budget - number]
        values = [_value(fitness, trail, number + i, point) for i, point in enumerate(asked)]
        strategy.tell(asked, values)
        number += len(asked)
        asked = strategy.ask() if number < budget else []
    return min(trail.tried[:budget], key=lambda one: one.value)


def _value(fitness: Fitness, trail: Trail, number: int, point: Point) -> float:
    known = trail.known(number, point)
    if known is not None:
        return known
    started = time.perf_counter()
    try:
        value = float(fitness(point))
    except OmniComposeError:
        raise
    except Exception as error:  # the user's own code may raise anything
        raise TuningError(
            f"candidate {number + 1} at {list(point)}: its fitness failed "
            f"({type(error).__name__}: {error}). The {number} candidates before it are kept; mend "
            "the fitness and run the same command to go on."
        ) from error
    trail.add(point, value, time.perf_counter() - started)
    return value


def uniform(count: int) -> Point:
    """1/N for each of N."""
    return (1.0 / count,) * count if count else ()
