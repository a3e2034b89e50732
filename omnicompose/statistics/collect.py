"""`omnicompose collect`: stream data through a model, block by block, and write what they show.

At any time one block has its weights; hidden states of the examples lie on disk. A killed run is
taken up at the first block that is not finished, and gives the same sums.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from omnicompose.errors import CalibrationError
from omnicompose.merging.statistics_file import (
    ATTENTION,
    TARGETS,
    StatisticsFacts,
    StatisticsFile,
    open_statistics,
)
from omnicompose.recipe_values import Source
from omnicompose.statistics.attention import attention_sums, check_media
from omnicompose.statistics.encoding import Encoder, Example
from omnicompose.statistics.fisher import block_squares, head_squares
from omnicompose.statistics.grams import Grams, linear_layers
from omnicompose.statistics.joining import join
from omnicompose.statistics.prompts import PromptFile
from omnicompose.statistics.stages import (
    Surroundings,
    logits_of,
    run_block,
    surroundings_of,
)
from omnicompose.statistics.subject import Subject, open_subject
from omnicompose.statistics.workplace import Workplace, is_collected

Say = Callable[[str], None]
KINDS = ("gram", "fisher", ATTENTION, TARGETS)
HEAD = "head"
DATA = "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectOptions:
    """What to collect.

    Attributes:
        kind: `gram`, `fisher`, `attention` or `targets`.
        labels: for `fisher`: `sampled` from the model's own predictions, or the `given` replies.
        seed: of what is sampled.
        allow_pickle: read pickled weights too.
        overwrite: replace a file that holds something else.
    """

    kind: str = "gram"
    labels: str = "sampled"
    seed: int = 0
    allow_pickle: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            CalibrationError: one of them is not known.
        """
        if self.kind not in KINDS:
            raise CalibrationError(
                f"--what: found {self.kind!r}, expected one of {', '.join(KINDS)}."
            )
        if self.labels not in ("sampled", "given"):
            raise CalibrationError(f"--labels: found {self.labels!r}, expected sampled or given.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """An opened model and data, and where the work lies."""

    subject: Subject
    examples: Sequence[Example]
    place: Workplace
    options: CollectOptions
    say: Say

    @property
    def num_blocks(self) -> int:
        return len(self.subject.blocks)


def collect(
    source: Source,
    data: PromptFile,
    out: Path,
    options: CollectOptions | None = None,
    say: Say = lambda _line: None,
) -> StatisticsFile:
    """Collect statistics of one model; go on where a killed run of the same kind stopped.

    A file that holds just these statistics already is left as it is.

    Args:
        source: the model, an adapter on one, or a composite.
        data: examples.
        out: the file to write.
        options: what to collect.
        say: takes one line of progress per block.

    Returns:
        The file, opened.

    Raises:
        CalibrationError: the data do not fit what is collected, or something else lies there.
        SourceError: the model cannot be opened.
    """
    options = options or CollectOptions()
    if options.labels == "given" and options.kind == "fisher":
        data.need_replies("let the model's own predictions stand in: --labels sampled")
    shows = options.kind == ATTENTION
    subject = open_subject(
        source, attention="eager" if shows else "sdpa", allow_pickle=options.allow_pickle
    )
    asked = {
        "source": source.text,
        "weights": subject.state(),
        "data": data.sha256,
        "kind": options.kind,
        "labels": options.labels,
        "seed": options.seed,
    }
    if is_collected(out, asked, overwrite=options.overwrite):
        say(f"{out}: used again")
        return open_statistics(out, options.kind)
    examples = Encoder(subject).encode(data.prompts, with_replies=options.kind != TARGETS)
    if shows:
        check_media(examples, data.path)
    place = Workplace(out, asked)
    run = _Run(subject=subject, examples=examples, place=place, options=options, say=say)
    if options.kind == "fisher":
        _collect_backwards(run)
    else:
        _collect_forwards(run)
    _join(run, data, out)
    place.remove()
    return open_statistics(out, options.kind)


def part_name(block: int) -> str:
    """What a block's sums are kept as."""
    return f"block-{block:04d}"


def _collect_forwards(run: _Run) -> None:
    """Block by block; the states before a block are removed when it is finished."""
    first = next((b for b in range(run.num_blocks) if not run.place.has(part_name(b))), None)
    if first is None and run.place.has(HEAD):
        return
    start = run.num_blocks if first is None else first
    around = surroundings_of(run.subject, run.examples, run.place if start == 0 else None)
    for block in range(start, run.num_blocks):
        tensors, notes = _block_sums(run, block, around)
        run.place.keep(part_name(block), tensors, notes)
        run.place.forget(block)
        run.say(f"block {block + 1} of {run.num_blocks}")
    tensors, notes = _head_sums(run)
    run.place.keep(HEAD, tensors, notes)


@torch.no_grad()
def _block_sums(
    run: _Run, block: int, around: Sequence[Surroundings]
) -> tuple[Mapping[str, torch.Tensor], Mapping[str, str]]:
    subject, prefix = run.subject, run.subject.path_of(run.subject.blocks[block])
    with subject.holding((prefix,)):
        if run.options.kind == ATTENTION:
            return attention_sums(subject, block, run.examples, around, run.place), {}
        if run.options.kind == TARGETS:
            return _targets(run, block, around), {}
        grams = Grams()
        layers = linear_layers(subject, prefix)
        for number, one in enumerate(around):
            state = run.place.read(block, number)
            with grams.watching(layers, lambda one=one: one.routing):  # type: ignore[misc]
                made = run_block(subject, block, state, one)
            run.place.write(block + 1, number, made)
        return grams.sums, grams.notes()


def _targets(run: _Run, block: int, around: Sequence[Surroundings]) -> Mapping[str, torch.Tensor]:
    """The last position's hidden state of every example, before the first block and after each."""
    found = {}
    for number, one in enumerate(around):
        state = run.place.read(block, number)
        if block == 0:
            found[f"hidden.{number}.0"] = state[0, -1].clone()
        made = run_block(run.subject, block, state, one)
        found[f"hidden.{number}.{block + 1}"] = made[0, -1].clone()
        run.place.write(block + 1, number, made)
    return found


@torch.no_grad()
def _head_sums(run: _Run) -> tuple[Mapping[str, torch.Tensor], Mapping[str, str]]:
    """Logits for targets, the Gram of an untied head for Grams."""
    kind, last = run.options.kind, run.num_blocks
    if kind == ATTENTION:
        return {}, {}
    subject, blocks = run.subject, run.subject.path_of(run.subject.blocks)
    head = subject.model.get_output_embeddings()
    path = subject.path_of(head)
    tied = f"{path}weight" in subject.model.all_tied_weights_keys
    if kind == "gram" and tied:
        return {}, {}
    found, grams = {}, Grams()
    with subject.holding((subject.path_of(subject.decoder.norm), path), but=(blocks,)):  # type: ignore[arg-type]
        layers = linear_layers(subject, path.removesuffix("."))
        for number in range(len(run.examples)):
            state = run.place.read(last, number)
            with grams.watching(layers, lambda: None):
                logits = logits_of(subject, state if kind == "gram" else state[:, -1:])
            if kind == TARGETS:
                found[f"logits.{number}"] = logits[0, -1].clone()
    return (grams.sums, grams.notes()) if kind == "gram" else (found, {})


def _collect_backwards(run: _Run) -> None:
    """Forwards for the states before every block, then gradients from the head to the front."""
    options, last = run.options, run.num_blocks
    left = [block for block in reversed(range(last)) if not run.place.has(part_name(block))]
    if not left:
        return
    fresh = not run.place.has("states")
    around = surroundings_of(run.subject, run.examples, run.place if fresh else None)
    if fresh:
        _fill_states(run, around)
        run.place.keep("states", {}, {})
    if not run.place.has(HEAD):
        squares = head_squares(
            run.subject,
            run.examples,
            run.place,
            sampled=options.labels == "sampled",
            seed=options.seed,
        )
        run.place.keep(HEAD, squares, {})
    for block in left:
        squares = block_squares(run.subject, block, around, run.place)
        run.place.keep(part_name(block), squares, {})
        run.place.forget_slopes(block + 1)
        run.say(f"block {block + 1} of {last}, backwards")


@torch.no_grad()
def _fill_states(run: _Run, around: Sequence[Surroundings]) -> None:
    for block in range(run.num_blocks):
        with run.subject.holding((run.subject.path_of(run.subject.blocks[block]),)):
            for number, one in enumerate(around):
                state = run.place.read(block, number)
                run.place.write(block + 1, number, run_block(run.subject, block, state, one))
        run.say(f"block {block + 1} of {run.num_blocks}")


def _join(run: _Run, data: PromptFile, out: Path) -> None:
    names = [*(part_name(block) for block in range(run.num_blocks)), HEAD]
    facts = StatisticsFacts(
        kind=run.options.kind,
        model=run.subject.label,
        num_examples=len(run.examples),
        num_tokens=sum(example.num_tokens for example in run.examples),
        aliases={},
        data=(data.sha256,),
        asked=run.place.asked,
    )
    join([run.place.part(name) for name in names], facts, out)
