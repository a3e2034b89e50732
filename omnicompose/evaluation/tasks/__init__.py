"""The benchmarks, by name: one file each."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.task import Task
from omnicompose.evaluation.tasks import (
    avhbench,
    avqa,
    daily_omni,
    mcub3,
    mcub4,
    mcub_built,
    mmau,
    modelnet40,
    music_avqa,
    nextqa,
    objaverse,
    omnibench,
    pope,
    worldsense,
    zoo_audio,
    zoo_capabilities,
    zoo_image,
    zoo_mcub,
    zoo_video,
)
from omnicompose.evaluation.tasks.files import FileTask

_SHIPPED: tuple[Task, ...] = (
    zoo_mcub.TASK,
    zoo_image.TASK,
    zoo_audio.TASK,
    zoo_video.TASK,
    *zoo_capabilities.TASKS,
)
_TOGETHER: tuple[Task, ...] = (
    *mcub3.TASKS,
    mcub4.TASK,
    mcub_built.TASK,
    avqa.TASK,
    music_avqa.TASK,
    omnibench.TASK,
    daily_omni.TASK,
    avhbench.TASK,
    worldsense.TASK,
)
_RETENTION: tuple[Task, ...] = (
    pope.TASK,
    mmau.TASK,
    nextqa.TASK,
    modelnet40.TASK,
    *objaverse.TASKS,
)

TASKS: dict[str, Task] = {task.spec.name: task for task in (*_SHIPPED, *_TOGETHER, *_RETENTION)}


def find_tasks(names: Sequence[str], data_dir: Path | None = None) -> list[Task]:
    """The benchmarks of these names, each once, in the order given.

    Args:
        names: from `TASKS`; `mcub3` alone means all of `mcub3/...`.
        data_dir: holds one folder per benchmark, for those that do not ship.

    Raises:
        EvaluationError: a name is unknown; near ones are offered.
    """
    if not names:
        raise EvaluationError(f"--tasks: nothing is named; choose from {', '.join(TASKS)}.")
    chosen = dict.fromkeys(full for name in names for full in _full_names(name))
    return [_at(TASKS[name], data_dir) for name in chosen]


def _full_names(name: str) -> list[str]:
    if name in TASKS:
        return [name]
    if family := [task for task in TASKS if task.startswith(f"{name}/")]:
        return family
    near = get_close_matches(name, TASKS, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise EvaluationError(f"--tasks: {name!r} is no task. {hint}Choose from {', '.join(TASKS)}.")


def _at(task: Task, data_dir: Path | None) -> Task:
    return task.at(data_dir) if isinstance(task, FileTask) and data_dir is not None else task
