"""Search the coefficients of a recipe's text side; 1/N always stands beside what was found."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from torch import nn

from omnicompose.composer import ComposeOptions, compose
from omnicompose.errors import TuningError
from omnicompose.evaluation.composite import Composite
from omnicompose.evaluation.loading import load_composite
from omnicompose.evaluation.statistics import compare_paired
from omnicompose.plan.make_plan import make_plan
from omnicompose.plan.setting import Setting
from omnicompose.recipe import ComposeRecipe, read_compose_recipe
from omnicompose.recipe_values import Weight
from omnicompose.recipe_writing import write_recipe
from omnicompose.searching.trail import Trail
from omnicompose.statistics.provide import alone
from omnicompose.tuning.candidates import Point, search, start, weights_of
from omnicompose.tuning.objectives import (
    Signature,
    distance,
    entropy,
    option_scores,
    own_questions,
    prepare,
    signature,
)
from omnicompose.tuning.options import Place, TuneOptions
from omnicompose.tuning.questions import Asked, read_unlabelled, task_questions
from omnicompose.tuning.remerge import Remerger, with_weights
from omnicompose.tuning.result import RECIPE_NAME, Row, TuneResult
from omnicompose.tuning.split import Split, make_split

Say = Callable[[str], None]
TRAIL_NAME = "tried.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """A loaded composite whose text side changes from candidate to candidate."""

    composite: Composite
    remerger: Remerger
    setting: Setting
    options: TuneOptions

    def take(self, point: Point) -> None:
        """Give the model a candidate's coefficients."""
        self.remerger.apply(self.weights(point))

    def weights(self, point: Point) -> Mapping[str, Weight]:
        experts = [expert.modality for expert in self.setting.experts]
        return weights_of(point, experts, self.options.knots)


def tune(
    place: Place,
    options: TuneOptions,
    say: Say = lambda _line: None,
    unlabelled: Path | None = None,
) -> TuneResult:
    """Search coefficients for a recipe and write the tuned recipe and the trace to `place.out`.

    Args:
        place: recipe and output folder.
        options: how to search, and on what.
        say: takes one line of progress.
        unlabelled: prompts of the user's own (JSON lines) to search on in place of the tasks'.

    Returns:
        1/N and tuned coefficients, with the objective on the validation part and, where answers are
        known, the accuracy on the test part.

    Raises:
        RecipeError: the recipe is malformed.
        TuningError: the search cannot run as asked for.
    """
    if unlabelled is not None and options.labelled:
        raise TuningError(
            "--unlabelled: prompts without answers have no likelihood of the right one; expected "
            "--objective agreement or entropy."
        )
    recipe = read_compose_recipe(place.recipe)
    split = _questions(place.out, options, unlabelled)
    place.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place.out, prefix=".composing-") as work:
        say("compose with 1/N")
        bench = _open(recipe, Path(work), options)
        score = _objective(bench, _joined(split.validation), Path(work))
        trail = Trail(place.out / TRAIL_NAME, _asked(recipe, options, split))
        trace, seconds = _search(bench, score, trail, say)
    best = min(trace, key=lambda tried: tried[1])
    rows = _compare(bench, _joined(split.test), (trace[0], best))
    result = TuneResult(
        objective=options.objective,
        split=split.name,
        num_validation=len(_joined(split.validation)),
        num_test=len(_joined(split.test)),
        rows=rows,
        trace=tuple((dict(bench.weights(point)), value) for point, value in trace),
        seconds_each=statistics.median(seconds),
    )
    result.write(place.out)
    write_recipe(with_weights(recipe, bench.weights(best[0])), place.out / RECIPE_NAME)
    return result


def _questions(out: Path, options: TuneOptions, unlabelled: Path | None) -> Split:
    given = () if unlabelled is None else read_unlabelled(unlabelled)
    every = task_questions(options.tasks, out / "media", options.limit)
    if unlabelled is None:
        split = make_split(every, options.validation, options.seed)
        if options.labelled:
            _check_answers(split.validation)
        return split
    return Split(
        name=f"validation: the prompts of {unlabelled.name}; test: the tasks' questions",
        validation={unlabelled.name: given},
        test=every,
    )


def _check_answers(tasks: Mapping[str, tuple[Asked, ...]]) -> None:
    lacking = [name for name, found in tasks.items() if any(one.answer is None for one in found)]
    if lacking:
        raise TuningError(
            f"--objective likelihood: {', '.join(lacking)} has questions without options or known "
            "answers, of which none is the likelier. Take other tasks, or --objective agreement "
            "or entropy."
        )


def _joined(tasks: Mapping[str, tuple[Asked, ...]]) -> list[Asked]:
    return [asked for questions in tasks.values() for asked in questions]


def _open(recipe: ComposeRecipe, work: Path, options: TuneOptions) -> _Bench:
    """Compose once with 1/N, load, and hold the plan against the loaded tensors."""
    point = start(len(recipe.experts), options.knots)
    first = with_weights(recipe, weights_of(point, list(recipe.experts), options.knots))
    composite = _composed(first, work / "composite")
    setting = make_plan(first).setting
    return _Bench(
        composite=composite,
        remerger=Remerger(setting, cast(nn.Module, composite.model).state_dict()),
        setting=setting,
        options=options,
    )


def _composed(recipe: ComposeRecipe, folder: Path) -> Composite:
    file = folder.with_suffix(".yaml")
    write_recipe(recipe, file)
    compose(file, folder, ComposeOptions())
    return load_composite(folder, "cpu", "float32")


def _objective(bench: _Bench, asked: Sequence[Asked], work: Path) -> Callable[[], float]:
    """What is made small, as a function of the model as it is."""
    options, composite = bench.options, bench.composite
    if options.objective == "agreement":
        return _agreement(bench, asked, work)
    prepared = prepare(composite, asked)
    if options.objective == "entropy":
        num_words = bench.setting.vocabulary.base_rows
        return lambda: entropy(signature(composite, prepared, num_words, options.batch_size))
    return lambda: statistics.fmean(
        lost for lost, _ in option_scores(composite, asked, prepared, options.batch_size)
    )


def _agreement(bench: _Bench, asked: Sequence[Asked], work: Path) -> Callable[[], float]:
    """Every expert is composed alone and asked once; then only the composite changes."""
    options, setting = bench.options, bench.setting
    own = own_questions(asked, list(setting.recipe.experts))
    num_words = setting.vocabulary.base_rows
    experts: dict[str, Signature] = {}
    for modality, questions in own.items():
        by_itself = _composed(alone(setting.recipe, modality), work / f"{modality}-alone")
        prepared = prepare(by_itself, questions)
        experts[modality] = signature(by_itself, prepared, num_words, options.batch_size)
    ready = {m: prepare(bench.composite, questions) for m, questions in own.items()}

    def score() -> float:
        found = {
            m: signature(bench.composite, prepared, num_words, options.batch_size)
            for m, prepared in ready.items()
        }
        return statistics.fmean(distance(experts[m], found[m]) for m in found)

    return score


def _asked(recipe: ComposeRecipe, options: TuneOptions, split: Split) -> dict[str, object]:
    """What a search is of; its log goes on only with the same."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "options": asdict(options),
        "questions": split.ids()["validation"],
    }


def _search(
    bench: _Bench, objective: Callable[[], float], trail: Trail, say: Say
) -> tuple[list[tuple[Point, float]], list[float]]:
    """Try candidates; those that an interrupted search has tried are taken from its log."""
    seconds: list[float] = []
    given: dict[Point, float] = {}

    def score(point: Point) -> float:
        if point in given:
            return given[point]
        known = trail.known(len(given), point)
        if known is None:
            started = time.perf_counter()
            bench.take(point)
            known = objective()
            trail.add(point, known, time.perf_counter() - started)
        seconds.append(trail.tried[len(given)].seconds)
        given[point] = known
        return known

    trace = []
    for point, value in search(score, len(bench.setting.experts), bench.options):
        trace.append((point, value))
        say(f"candidate {len(trace)}: {bench.options.objective} {value:.4f} at {point}")
    return trace, seconds


def _compare(
    bench: _Bench, asked: Sequence[Asked], tried: Sequence[tuple[Point, float]]
) -> tuple[Row, Row]:
    """1/N and tuned on questions that the search never saw."""
    known = [one for one in asked if one.answer is not None]
    if not known:
        return _row(bench, "1/N", tried[0]), _row(bench, "tuned", tried[1])
    prepared = prepare(bench.composite, known)
    right: list[list[float]] = []
    for point, _ in tried:
        bench.take(point)
        scores = option_scores(bench.composite, known, prepared, bench.options.batch_size)
        right.append([float(is_right) for _, is_right in scores])
    found = compare_paired(right[1], right[0], [one.cluster for one in known]).difference
    accuracies = [statistics.fmean(own) for own in right]
    tuned = _row(bench, "tuned", tried[1], accuracies[1])
    return (
        _row(bench, "1/N", tried[0], accuracies[0]),
        replace(tuned, low=found.low, high=found.high),
    )


def _row(
    bench: _Bench, name: str, tried: tuple[Point, float], accuracy: float | None = None
) -> Row:
    weights = dict(bench.weights(tried[0]))
    return Row(name=name, weights=weights, validation=tried[1], accuracy=accuracy)
