"""Coefficients as a point to search for: per expert, or per expert and depth."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, product
from math import inf

from omnicompose.recipe_values import Weight
from omnicompose.searching.strategies import Bayes, Cma, Space
from omnicompose.tuning.options import TuneOptions

Point = tuple[float, ...]
Score = Callable[[Point], float]
"""The objective at a point; less is better."""
GRID = (1.0, 0.5, 2.0, 0.0, 1.5)
"""Multiples of 1/N, the nearest to 1/N first."""
SPREAD = 0.5
"""Standard deviation of the first candidates of CMA-ES, in multiples of 1/N."""
DIGITS = 4


def start(num_experts: int, knots: int) -> Point:
    """1/N for every expert at every depth."""
    return (1.0 / num_experts,) * (num_experts * knots)


def weights_of(point: Point, experts: Sequence[str], knots: int) -> Mapping[str, Weight]:
    """The coefficients that a recipe takes: numbers, or lists over the depth of the backbone."""
    rows = [point[i * knots : (i + 1) * knots] for i in range(len(experts))]
    return {
        expert: row[0] if knots == 1 else row for expert, row in zip(experts, rows, strict=True)
    }


def search(score: Score, num_experts: int, options: TuneOptions) -> Iterator[tuple[Point, float]]:
    """Try 1/N and then candidates, with their scores, `options.evaluations` in all.

    Raises:
        TuningError: the package that a search needs is not there.
    """
    origin = start(num_experts, options.knots)
    yield origin, score(origin)
    kinds = {"grid": _grid, "cma": _cma, "bayes": _bayes}
    yield from kinds[options.search](score, origin, options)


def _grid(score: Score, origin: Point, options: TuneOptions) -> Iterator[tuple[Point, float]]:
    """Combinations of multiples of 1/N, those with many experts left at 1/N first."""
    places = product(range(len(GRID)), repeat=len(origin))
    near_first = sorted(places, key=lambda place: (sum(map(bool, place)), max(place)))
    for place in islice(near_first, 1, options.evaluations):
        point = tuple(round(GRID[i] * x, DIGITS) for i, x in zip(place, origin, strict=True))
        yield point, score(point)


def _cma(score: Score, origin: Point, options: TuneOptions) -> Iterator[tuple[Point, float]]:
    """CMA-ES without bounds."""
    strategy = Cma(_space(origin, -inf, inf, options.seed))
    left = options.evaluations - 1
    while left and (asked := strategy.ask()):
        asked = asked[:left]
        scores = [score(point) for point in asked]
        yield from zip(asked, scores, strict=True)
        strategy.tell(asked, scores)
        left -= len(asked)


def _bayes(score: Score, origin: Point, options: TuneOptions) -> Iterator[tuple[Point, float]]:
    """Bayesian optimisation between 0 and twice 1/N, 1/N among what it learns from."""
    strategy = Bayes(_space(origin, 0.0, max(GRID) * origin[0], options.seed))
    strategy.tell(strategy.ask(), [score(origin)])
    for _ in range(options.evaluations - 1):
        (point,) = strategy.ask()
        value = score(point)
        strategy.tell([point], [value])
        yield point, value


def _space(origin: Point, low: float, high: float, seed: int) -> Space:
    count = len(origin)
    return Space(
        start=origin,
        low=(low,) * count,
        high=(high,) * count,
        spread=SPREAD * origin[0],
        seed=seed,
    )
