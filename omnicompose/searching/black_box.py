"""CMA-ES and Bayesian search of any method's weights and settings, by any fitness.

A candidate is `knots` weights per expert over the depth of the backbone and the inner method's
numeric settings that are named; every candidate is merged in memory by the engine's arithmetic.
The first candidate has weights 1/N and the settings of the recipe's defaults. mergekit-evolve is
this search with its own genome (specs/methods.md C.2).
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from omnicompose.errors import RecipeError
from omnicompose.merging.evaluation import Evaluator
from omnicompose.merging.job import Merge
from omnicompose.merging.method import Parameter
from omnicompose.merging.options import EngineOptions
from omnicompose.merging.parallel import Pool
from omnicompose.merging.registry import method_named
from omnicompose.merging.survey import survey_model
from omnicompose.merging.workspace import MemoryBudget, Workspace
from omnicompose.plan.merge_plan import make_merge_plan
from omnicompose.recipe import MergeRecipe
from omnicompose.searching.bench import tie
from omnicompose.searching.fitness import named
from omnicompose.searching.ground import LIKELIHOOD, Ground, reply_loss
from omnicompose.searching.strategies import Bayes, Cma, Space, Strategy, run, uniform
from omnicompose.searching.trail import Point, Trail
from omnicompose.statistics.encoding import Example
from omnicompose.statistics.subject import Subject

WEIGHTS = (-0.5, 2.0)
"""Bounds of a weight."""
STRATEGIES: Mapping[str, type[Cma] | type[Bayes]] = {"cma_es": Cma, "bayes": Bayes}


def search(ground: Ground) -> MergeRecipe:
    """The recipe of the best candidate."""
    genome = Genome.of(ground)
    space = genome.space(ground.number("spread"), ground.recipe.seed)
    trail = Trail(ground.folder / f"{ground.recipe.method}.jsonl", ground.asked())
    strategy: Strategy = STRATEGIES[ground.recipe.method](space)
    with ExitStack() as opened:
        judge = Judging(ground, opened)

        def fitness(point: Point) -> float:
            value = judge.value(genome.recipe(point), genome.plain(point))
            ground.say(f"candidate {len(trail.tried) + 1}: {value:.4f}")
            return value

        best = run(strategy, fitness, trail, ground.count("evaluations"), space.start)
    return genome.recipe(best.point)


@dataclass(frozen=True, slots=True, kw_only=True)
class Genome:
    """From numbers to a recipe.

    Attributes:
        asked: the recipe with the searching method.
        inner: the method that merges.
        knots: weights per expert.
        settings: of the inner method, that are searched.
    """

    asked: MergeRecipe
    inner: str
    knots: int
    settings: tuple[Parameter, ...]

    @classmethod
    def of(cls, ground: Ground) -> "Genome":
        """What the recipe asks to search.

        Raises:
            RecipeError: the inner method has no weights or lacks a setting, or it has no bounds.
        """
        inner = ground.word("inner")
        spec = method_named(inner).spec
        if not spec.weighted:
            raise RecipeError(
                f"inner: method {inner!r} does not weight its models, so there are no weights to "
                "search. Take another: `omnicompose methods NAME` says which do."
            )
        known = {one.name: one for one in spec.parameters}
        names = [name.strip() for name in ground.word("settings").split(",") if name.strip()]
        for name in names:
            numeric = name in known and isinstance(known[name].default, float)
            if not numeric:
                raise RecipeError(
                    f"settings: found {name!r}, expected numeric settings of {inner!r}: "
                    f"{', '.join(n for n, p in known.items() if isinstance(p.default, float))}."
                )
        return cls(
            asked=ground.recipe,
            inner=inner,
            knots=ground.count("knots"),
            settings=tuple(known[name] for name in names),
        )

    def space(self, spread: float, seed: int) -> Space:
        """Bounds and the first candidate."""
        count = len(self.asked.models)
        weights = uniform(count) * self.knots
        defaults = tuple(_number(one.default) for one in self.settings)
        low = (WEIGHTS[0],) * len(weights) + tuple(_bound(o.minimum, 0.0) for o in self.settings)
        high = (WEIGHTS[1],) * len(weights) + tuple(_bound(o.maximum, 2.0) for o in self.settings)
        return Space(start=weights + defaults, low=low, high=high, spread=spread, seed=seed)

    def plain(self, point: Point) -> dict[str, object]:
        """Weights by model and settings by name."""
        rows = self._rows(point)
        count = len(self.asked.models) * self.knots
        names = [model.label for model in self.asked.models]
        return {
            "method": self.inner,
            "weights": dict(zip(names, map(list, rows), strict=True)),
            "parameters": {
                one.name: x for one, x in zip(self.settings, point[count:], strict=True)
            },
        }

    def recipe(self, point: Point) -> MergeRecipe:
        """The candidate as a recipe."""
        count = len(self.asked.models) * self.knots
        models = tuple(
            model.model_copy(update={"weight": row[0] if self.knots == 1 else row, "data": None})
            for model, row in zip(self.asked.models, self._rows(point), strict=True)
        )
        settings = zip(self.settings, point[count:], strict=True)
        return self.asked.model_copy(
            update={
                "method": self.inner,
                "parameters": {one.name: x for one, x in settings},
                "profile": None,
                "models": models,
            }
        )

    def _rows(self, point: Point) -> list[Point]:
        return [point[i * self.knots : (i + 1) * self.knots] for i in range(len(self.asked.models))]


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _bound(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given


class Judging:
    """Candidates merged into one model in memory, and what they are worth."""

    def __init__(self, ground: Ground, opened: ExitStack) -> None:
        """Load the base; the fitness is the recipe's.

        Raises:
            TuningError: there is no such fitness.
            CalibrationError: labels are lacking.
        """
        self._ground, self._subject = ground, ground.subject
        word = ground.word("fitness")
        self._judge = None if word == LIKELIHOOD else named(word)
        self._examples: Sequence[Sequence[Example]] = ()
        if self._judge is None:
            self._examples = ground.examples(with_replies=True)
        opened.enter_context(ground.subject.holding(("",)))
        tie(ground.subject)

    @property
    def model(self) -> PreTrainedModel:
        """The model in memory."""
        return self._subject.model

    def value(self, recipe: MergeRecipe, plain: Mapping[str, object]) -> float:
        """Merge a candidate and judge it."""
        merge_into(recipe, self._subject)
        if self._judge is not None:
            return self._judge(plain, self.model)
        with torch.no_grad():
            losses = [
                sum(float(reply_loss(self._logits(one), one)) for one in own) / len(own)
                for own in self._examples
            ]
        return sum(losses) / len(losses)

    def _logits(self, example: Example) -> torch.Tensor:
        logits: torch.Tensor = self.model(**example.inputs, use_cache=False).logits[0]
        return logits


@torch.no_grad()
def merge_into(recipe: MergeRecipe, subject: Subject) -> None:
    """Give the base, in memory, what a recipe merges it to: its encoders and connectors too.

    Args:
        recipe: of a merge that needs no further search.
        subject: its base, with all weights.
    """
    jobs = [job for job in make_merge_plan(recipe).plan.jobs if isinstance(job, Merge)]
    options, device = EngineOptions(), torch.device("cpu")

    def evaluator() -> Evaluator:
        tile = options.tile_elements
        return Evaluator(Workspace(device), tile, allow_nonfinite=False, device=device)

    pool = Pool(1, MemoryBudget(options.memory_bytes))
    known = survey_model(jobs, pool, evaluator, options.tile_elements, None)
    parameters = dict(subject.model.named_parameters())
    places = {ref.name: path for path, ref in subject.weights.items() if path in parameters}
    working = evaluator()
    for job in jobs:
        if job.output.name in places:
            working.begin(job, known)
            values = working.values(job, 0, job.output.num_elements)
            held = parameters[places[job.output.name]]
            held.copy_(values.to(job.output.dtype).view(job.output.shape))
            working.end()
