"""The benchmarks, by name: one file each."""

from collections.abc import Sequence
from difflib import get_close_matches

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.task import Task
from omnicompose.evaluation.tasks import zoo_audio, zoo_image, zoo_mcub, zoo_video

TASKS: dict[str, Task] = {
    task.spec.name: task for task in (zoo_mcub.TASK, zoo_image.TASK, zoo_audio.TASK, zoo_video.TASK)
}


def find_tasks(names: Sequence[str]) -> list[Task]:
    """The benchmarks of these names, each once, in the order given.

    Raises:
        EvaluationError: a name is unknown; near ones are offered.
    """
    if not names:
        raise EvaluationError(f"--tasks: nothing is named; choose from {', '.join(TASKS)}.")
    for name in names:
        if name not in TASKS:
            near = get_close_matches(name, TASKS, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise EvaluationError(
                f"--tasks: {name!r} is no task. {hint}Choose from {', '.join(TASKS)}."
            )
    return [TASKS[name] for name in dict.fromkeys(names)]
