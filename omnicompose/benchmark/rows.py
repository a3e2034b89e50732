"""One row as a file: everything that was measured of one merge, so that a run can be resumed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.journal import file_name, lock, write_atomically

FOLDER = "rows"
LOCK = ".lock"
REFERENCE, METHOD, NOT_RUN = "reference", "method", "not run"


class Tried(BaseModel):
    """What one scale was worth on the validation questions.

    Attributes:
        scale: multiple of the merged delta.
        accuracy: mean over the validation tasks and the seeds, in [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: float
    accuracy: float


class Row(BaseModel):
    """One merge, asked.

    Attributes:
        label: unique in its suite.
        kind: `reference` (a model as it is), `method`, or `not run`.
        key: changes with everything that the row depends on.
        method: that merged; empty for references.
        profile: of the method; empty without.
        parameters: of the method, other than its defaults.
        policy: what a modality's own tokens use; empty for merges of fine-tunes.
        models: that were merged; empty for references and for composed experts.
        reason: why it was not run.
        seeds: runs; more than one for methods that draw random numbers.
        scale: the multiple of the merged delta that did best on the validation questions.
        tried: every scale.
        scores: by task the share of runs that answered each question rightly, at `scale`.
        plain: the same at scale 1, the method as it is.
        runs: the mean over the ranking's tasks of every run, at `scale`; empty for references.
        data: what the method was shown beside weights; empty for nothing.
        seconds: wall time of data, search, planning, merging and hashing, the mean of the runs.
        cpu_seconds: of the same.
        peak_bytes: most memory that the engine's buffers held.
        memory_bytes: most memory that the process held, over what it held before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    kind: str
    key: str
    method: str = ""
    profile: str = ""
    parameters: dict[str, object] = {}
    policy: str = ""
    models: tuple[str, ...] = ()
    reason: str = ""
    seeds: int = 1
    scale: float = 1.0
    tried: tuple[Tried, ...] = ()
    scores: dict[str, tuple[float, ...]] = {}
    plain: dict[str, tuple[float, ...]] = {}
    runs: tuple[float, ...] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    memory_bytes: int = 0
    data: str = ""

    def accuracy(self, task: str) -> float:
        """At the chosen scale, in [0, 1]."""
        values = self.scores[task]
        return sum(values) / len(values)


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Hold a results folder against other processes.

    Raises:
        EvaluationError: another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("wb") as file:
        lock(
            file,
            f"{out}: another process is running a benchmark into this folder; wait for it, or "
            "choose another --out.",
        )
        yield


def row_path(out: Path, label: str) -> Path:
    """Where a row's file lies."""
    return out / FOLDER / f"{file_name(label)}.json"


def finished(out: Path, label: str, key: str) -> Row | None:
    """A row that an earlier run finished under the same key.

    Raises:
        EvaluationError: the file is no row.
    """
    path = row_path(out, label)
    if not path.is_file():
        return None
    try:
        row = Row.model_validate_json(path.read_bytes())
    except ValidationError as err:
        raise EvaluationError(
            f"{path}: {err.errors()[0]['msg']}; expected a row that benchmark wrote. Delete it: it "
            "is made again."
        ) from err
    return row if row.key == key else None


def write_row(out: Path, row: Row) -> None:
    """Write a finished row, whole or not at all."""
    path = row_path(out, row.label)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (row.model_dump_json(indent=1) + "\n").encode())
