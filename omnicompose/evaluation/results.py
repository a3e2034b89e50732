"""The schema of results.json and run.json. Unknown is null, never 0 and never a word."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from omnicompose.evaluation.line import ScoreKind
from omnicompose.evaluation.options import BatchSize, LimitOrder
from omnicompose.evaluation.statistics import Comparison, Estimate

SCHEMA_VERSION = 3
RowKind = Literal["letter", "generate", "official"]
_STRICT = ConfigDict(frozen=True, extra="forbid")


class ModelFacts(BaseModel):
    """Which model answered.

    Attributes:
        path: the folder as it was named on the command line.
        digest: sha256 over weights, configuration and processor; two exports differ in it.
        dtype: of the computation.
        device: where it ran.
    """

    model_config = _STRICT

    path: str
    digest: str
    dtype: str
    device: str


class RunFacts(BaseModel):
    """run.json: what was asked for, and where it ran; all else is computed from the samples.

    Attributes:
        schema_version: of this file.
        model: which model answered.
        tasks: the benchmarks.
        modalities: subsets asked for.
        scores: kinds of score.
        limit: greatest number of questions per set of modalities, or a share of them below 1; null:
            all.
        limit_order: whether `limit` draws by seed or takes the first of the file.
        ids: of the only questions asked; null: all that `limit` leaves.
        rotations: orders of the options that each question was asked in.
        batch_size: prompts in one forward pass; `auto`: as many as fit.
        seed: see `EvaluationOptions`.
        environment: versions of python and of the packages that matter.
        data: per benchmark that does not ship, its annotation files and their sha256.
    """

    model_config = _STRICT

    schema_version: int = SCHEMA_VERSION
    model: ModelFacts
    tasks: tuple[str, ...]
    modalities: tuple[str, ...]
    scores: tuple[ScoreKind, ...]
    limit: int | float | None
    limit_order: LimitOrder = "seed"
    ids: tuple[str, ...] | None = None
    rotations: int
    batch_size: BatchSize
    seed: int
    environment: dict[str, str | None]
    data: dict[str, dict[str, str]] = {}

    @property
    def is_partial(self) -> bool:
        """Whether questions were left out on purpose."""
        return self.limit is not None or self.ids is not None


class Binary(BaseModel):
    """How often *yes* is said, and how often it is true; unread replies say neither.

    Attributes:
        precision: share of true among said yes; null if it was never said.
        recall: share of said among true yes.
        f1: harmonic mean of both.
        yes_rate: share of yes among all replies.
    """

    model_config = _STRICT

    precision: float | None
    recall: float | None
    f1: float | None
    yes_rate: float


class CategoryRow(BaseModel):
    """Accuracy of one of the benchmark's own kinds of question, everything shown."""

    model_config = _STRICT

    category: str
    group: str
    score: RowKind
    accuracy: Estimate


class Control(BaseModel):
    """Questions with one modality's media exchanged, against the same questions as they are.

    Attributes:
        group: modalities that the questions show.
        score: as in `Row`.
        kind: `swapped` (another question's medium) or `blank` (nothing in it).
        modality: the one that is exchanged.
        loss: as they are minus exchanged; near 0: the modality is not relied upon.
        conflicts: questions where the strange medium alone is answered otherwise than everything
            as it is; 0 for `blank`.
        kept: of these, the share that keeps the answer; null without conflicts.
        followed: the share that follows the strange medium.
    """

    model_config = _STRICT

    group: str
    score: RowKind
    kind: Literal["swapped", "blank"]
    modality: str
    loss: Comparison
    conflicts: int
    kept: Estimate | None
    followed: Estimate | None


class Row(BaseModel):
    """One cell of the table: questions over one set of modalities, asked with one subset.

    Attributes:
        group: modalities that the questions show.
        subset: what is given, a label of `subsets.Subset`.
        score: `letter`, `generate`, or `official` (the benchmark's own reading of the reply).
        n: questions answered.
        errors: questions that could not be asked; not part of `n`.
        unparsed: replies that could not be read; they count as wrong.
        accuracy: share of right answers, unparsed ones wrong; orders of one question's options are
            averaged first.
        chance: accuracy of guessing.
        majority: accuracy of always giving the letter that is right most often.
        probability: of the right letter among the options' letters (letter score only).
        letter_mass: mean probability that the next token is an option's letter (letter score only).
        consistency: share of questions right in every order of their options; null with one order.
        binary: of yes/no questions.
    """

    model_config = _STRICT

    group: str
    subset: str
    score: RowKind
    n: int
    errors: int
    unparsed: int
    accuracy: Estimate
    chance: float | None
    majority: float | None
    probability: Estimate | None = None
    letter_mass: float | None = None
    consistency: float | None = None
    binary: Binary | None = None

    @property
    def is_full(self) -> bool:
        """Whether everything that the questions show was given."""
        return self.subset == self.group


class Complementarity(BaseModel):
    """Whether modalities help each other, over questions answered with every subset needed.

    Attributes:
        group: modalities that the questions show.
        score: as in `Row`.
        n: questions.
        gains: per single modality, all together against it alone; Holm-corrected over the task.
        shapley: per modality, its exact Shapley value; null unless every subset was asked.
        synergy: per pair (`image+audio`), v(AB) - v(A) - v(B) + v(none); empty if not asked.
        rescued: share wrong with every single modality and right with all.
        rescued_swapped: the same with another question's medium among all, the mean over
            modalities; what is rescued by chance, or without that modality. Null unless `swapped`
            was asked.
        rescued_beyond: `rescued` minus `rescued_swapped`, per question.
        lost: share right with some single modality and wrong with all.
        oracle: share right with some single modality.
        rescued_ids: the first ids of the rescued.
        lost_ids: the first ids of the lost.
    """

    model_config = _STRICT

    group: str
    score: RowKind
    n: int
    gains: dict[str, Comparison]
    shapley: dict[str, Estimate] | None
    synergy: dict[str, Estimate]
    rescued: Estimate
    rescued_swapped: Estimate | None = None
    rescued_beyond: Estimate | None = None
    lost: Estimate
    oracle: Estimate
    rescued_ids: tuple[str, ...]
    lost_ids: tuple[str, ...]


class TaskResult(BaseModel):
    """Everything about one benchmark.

    Attributes:
        version: of the benchmark; scores of different versions are not comparable.
        questions: different questions asked.
        clusters: groups of questions that are not independent.
        rows: the table, the full subset first within each group.
        complementarity: for every group of two or more modalities asked with each alone.
        controls: for every modality that was swapped or blanked.
        categories: by the benchmark's own kinds of question.
    """

    model_config = _STRICT

    version: int
    questions: int
    clusters: int
    rows: tuple[Row, ...]
    complementarity: tuple[Complementarity, ...]
    controls: tuple[Control, ...] = ()
    categories: tuple[CategoryRow, ...] = ()


class Macro(BaseModel):
    """Unweighted mean over groups of chance-corrected accuracy, (x - chance) / (1 - chance).

    Attributes:
        value: the mean over groups asked in full and without errors.
        stderr: sqrt(sum of squared standard errors) / groups.
        groups: how many.
    """

    model_config = _STRICT

    value: float
    stderr: float | None
    groups: int


class Results(BaseModel):
    """results.json.

    Attributes:
        schema_version: of this file.
        run: what was asked for; null if run.json is lost.
        tasks: per benchmark.
        macro: one number per kind of score over everything; empty where questions were left out.
    """

    model_config = _STRICT

    schema_version: int = SCHEMA_VERSION
    run: RunFacts | None
    tasks: dict[str, TaskResult]
    macro: dict[str, Macro]

    @property
    def num_errors(self) -> int:
        """Questions that could not be asked, over all tasks; official rows repeat their reply's."""
        return sum(
            row.errors
            for task in self.tasks.values()
            for row in task.rows
            if row.score != "official"
        )
