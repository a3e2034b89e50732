"""The whole story on the shipped zoo: compose, evaluate, compare, ask; about a minute on two cores.

Everything goes through the functions that users call; nothing here is known to them in advance.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from omnicompose.errors import SourceError
from omnicompose.quickstart_result import Asked, Kept, QuickstartResult
from omnicompose.shelf import config_path

if TYPE_CHECKING:
    from omnicompose.evaluation.line import Line
    from omnicompose.evaluation.results import Results, TaskResult

MODALITIES = ("image", "audio", "video")
REGIMES = ("standard", "stressed")
QUESTIONS = 400
"""Per set of modalities."""
OWN_QUESTIONS = 1000
"""Per expert's own task: what is kept is a small difference."""
WORKERS = 2
"""Processes that evaluate at the same time; each holds one small composite."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One evaluation of one composite.

    Attributes:
        config: the shipped recipe, without its suffix.
        results: the folder of its results below the output folder.
        tasks: what is asked.
        modalities: with what shown.
        num_questions: per set of modalities.
    """

    config: str
    results: str
    tasks: tuple[str, ...]
    modalities: tuple[str, ...] = ("all",)
    num_questions: int = OWN_QUESTIONS

    @property
    def regime(self) -> str:
        """How its experts were trained: the last word of the recipe's name."""
        return self.config.rpartition("-")[2]


def experiments() -> tuple[Experiment, ...]:
    """Composites together and with parts taken away; every expert alone on its own task."""
    own = tuple(f"zoo/{modality}" for modality in MODALITIES)
    together = [
        Experiment(
            config="naive-standard",
            results="naive-standard-mcub",
            tasks=("zoo/mcub",),
            modalities=("all", *MODALITIES, "none", "captions"),
            num_questions=QUESTIONS,
        ),
        Experiment(
            config="naive-stressed",
            results="naive-stressed-mcub",
            tasks=("zoo/mcub",),
            num_questions=QUESTIONS,
        ),
    ]
    retained = [
        Experiment(config=f"naive-{regime}", results=f"naive-{regime}-own", tasks=own)
        for regime in REGIMES
    ]
    alone = [
        Experiment(config=name, results=name, tasks=(f"zoo/{modality}",))
        for regime in REGIMES
        for modality in MODALITIES
        for name in (f"{modality}-alone-{regime}",)
    ]
    return (*together, *retained, *alone)


def run_quickstart(
    out: Path, *, say: Say, overwrite: bool = False, most_questions: int | None = None
) -> QuickstartResult:
    """Compose the zoo's experts, evaluate, write reports, ask one question.

    Args:
        out: folder for composites (`models/`), results (`results/`) and the table (`table.md`).
        say: takes one line of progress.
        overwrite: compose again where composites lie; answers of the same bytes are kept.
        most_questions: asked at most, per set of modalities; None: as planned.

    Raises:
        SourceError: a shipped file is not what it was.
        ExportError: the output folder exists.
    """
    from omnicompose.export import refuse_existing

    refuse_existing(out, overwrite=overwrite)
    _verify()
    _compose_all(out, say, overwrite)
    mcub = _evaluate_all(out, say, most_questions)
    _report_all(out / "results")
    say("ask naive-standard about a picture, a sound and a clip")
    kept = _kept_of_all(out / "results")
    result = QuickstartResult(out=out, mcub=mcub, kept=kept, asked=_ask(out))
    (out / "table.md").write_text(result.markdown(), encoding="utf-8")
    return result


def _verify() -> None:
    from omnicompose.zoo.catalog import verify_zoo

    if problems := verify_zoo():
        raise SourceError("\n".join(problems))


def _compose_all(out: Path, say: Say, overwrite: bool) -> None:
    from omnicompose.composer import ComposeOptions, compose

    options = ComposeOptions(overwrite=overwrite)
    for config in dict.fromkeys(experiment.config for experiment in experiments()):
        say(f"compose {config}")
        compose(config_path(f"{config}.yaml"), out / "models" / config, options)


def _evaluate_all(out: Path, say: Say, most_questions: int | None) -> dict[str, "TaskResult"]:
    """Run every experiment; by regime, what was found on questions about several inputs."""
    planned = experiments()
    for experiment in planned:
        say(f"evaluate {experiment.config} on {', '.join(experiment.tasks)}")
    # Fresh processes: a forked one would share torch's threads and locks.
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(_evaluate, planned, repeat(out), repeat(most_questions)))
    return {
        experiment.regime: result.tasks["zoo/mcub"]
        for experiment, result in zip(planned, results, strict=True)
        if "zoo/mcub" in result.tasks
    }


def _evaluate(experiment: Experiment, out: Path, most_questions: int | None) -> "Results":
    from omnicompose.evaluation import EvaluationOptions, evaluate

    limits = (experiment.num_questions, most_questions or experiment.num_questions)
    options = EvaluationOptions(
        out_dir=out / "results" / experiment.results,
        modalities=experiment.modalities,
        scores=("letter",),
        limit=min(limits),
    )
    return evaluate(out / "models" / experiment.config, experiment.tasks, options)


def _kept_of_all(results: Path) -> list[Kept]:
    """Every expert alone against its composite, on the expert's own questions."""
    from omnicompose.evaluation import compare

    return [
        Kept(regime=regime, modality=modality, row=row)
        for regime in REGIMES
        for modality in MODALITIES
        for row in compare(results / f"naive-{regime}-own", results / f"{modality}-alone-{regime}")
        if row.subset == row.group == modality
    ]


def _report_all(folder: Path) -> None:
    from omnicompose.evaluation import write_report

    for experiment in experiments():
        alone = {name: folder / f"{name}-alone-{experiment.regime}" for name in MODALITIES}
        is_retention = experiment.results.endswith("-own")
        write_report(folder / experiment.results, alone if is_retention else None)


def _ask(out: Path) -> Asked:
    """Ask the standard composite one question of three modalities from its own evaluation."""
    from omnicompose.ask import ask
    from omnicompose.evaluation.scoring import samples_path

    results = out / "results" / "naive-standard-mcub"
    line = _first_question(samples_path(results, "zoo/mcub"))
    media = [(medium.modality, results / medium.uri) for medium in line.media]
    answer = ask(out / "models" / "naive-standard", line.question, media)
    right = line.choices["ABCD".index(line.target)]
    return Asked(answer=answer, right=f"{line.target}. {right}")


def _first_question(samples: Path) -> "Line":
    from omnicompose.evaluation.line import Line

    lines = map(Line.model_validate_json, samples.read_text(encoding="utf-8").splitlines())
    return next(line for line in lines if line.subset == line.group == "+".join(MODALITIES))
