"""Grams along the merged model: what RegMean++ fits block l to, with the blocks before it merged.

For every block in turn: each expert's block is given the hidden states that the merged model has
made of that expert's data so far, its Grams are kept, the block is merged with them by the engine's
own arithmetic, and the merged block makes the states for the next. One block of one model is in
memory at a time. A killed run goes on at the first block that is not merged.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from omnicompose.merging.evaluation import Evaluator
from omnicompose.merging.job import Job, Measure, Merge, TensorRef
from omnicompose.merging.options import EngineOptions
from omnicompose.merging.statistics_file import StatisticsFacts
from omnicompose.merging.workspace import Workspace
from omnicompose.plan.participant import Key
from omnicompose.recipe import MergeRecipe
from omnicompose.statistics.collect import part_name
from omnicompose.statistics.encoding import Encoder, Example
from omnicompose.statistics.grams import Grams, linear_layers
from omnicompose.statistics.joining import join
from omnicompose.statistics.prompts import PromptFile
from omnicompose.statistics.stages import Surroundings, run_block, surroundings_of
from omnicompose.statistics.subject import Subject, open_subject
from omnicompose.statistics.unmeasured import plan_unmeasured
from omnicompose.statistics.workplace import Workplace, is_collected
from omnicompose.tensors.checkpoint import SafetensorsSource
from omnicompose.tensors.header import read_header
from omnicompose.tensors.low_rank import LowRank
from omnicompose.tensors.source import ByteRange, TensorInfo, read_tensor

KIND = "merged_gram"
NOTHING = "nothing.safetensors"


class MergedTensors:
    """A `TensorSource` of what the jobs of a plan give, computed when it is read."""

    label = "the merge"

    def __init__(self, jobs: Sequence[Job]) -> None:
        """Hold the jobs; `jobs` may be changed between reads."""
        self.jobs = {job.output.name: job for job in jobs}

    def infos(self) -> Mapping[str, TensorInfo]:
        """Every output."""
        return {name: job.output for name, job in self.jobs.items()}

    def read_into(self, name: str, start: int, out: torch.Tensor) -> None:
        """Compute a tensor as it would be written."""
        job = self.jobs[name]
        device = torch.device("cpu")
        tile = EngineOptions().tile_elements
        evaluator = Evaluator(Workspace(device), tile, allow_nonfinite=False, device=device)
        if not isinstance(job, Merge):
            ref = job.tensor  # type: ignore[union-attr]  # a merge's jobs are merges and copies
            out.copy_(read_tensor(ref.source, ref.name).view(-1)[start : start + out.numel()])
            return
        evaluator.begin(job, {})
        values = evaluator.values(job, start, out.numel())
        out.copy_(values.to(job.output.dtype))

    def byte_range(self, name: str) -> ByteRange | None:
        """None: computed."""
        return None

    def factors(self, name: str) -> LowRank | None:
        """None: dense."""
        return None

    def scratch_bytes(self, name: str, num_elements: int) -> int:
        """About what the experts take."""
        return 4 * num_elements

    def files(self) -> tuple[Path, ...]:
        """None of its own."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Party:
    """One model with its data and its part of the work."""

    subject: Subject
    examples: Sequence[Example]
    place: Workplace
    data: PromptFile


def collect_merged(
    recipe: MergeRecipe,
    data: Sequence[PromptFile],
    outs: Sequence[Path],
    say: Callable[[str], None] = lambda _line: None,
) -> None:
    """Collect the Grams of every model of a merge along the merged model.

    Args:
        recipe: of the merge; its method measures `merged_gram`.
        data: one file per model.
        outs: one file to write per model.
        say: takes one line of progress per block.

    Raises:
        CalibrationError: the data do not fit the models.
        PlanError: the models do not fit together.
    """
    subjects = [open_subject(m.source, allow_pickle=recipe.allow_pickle) for m in recipe.models]
    asked = _asked(recipe, subjects, data)
    every = [{**asked, "model": number} for number in range(len(subjects))]
    pairs = list(zip(outs, every, strict=True))
    if all(is_collected(out, own, overwrite=True) for out, own in pairs):
        say(f"{outs[0].parent}: used again")
        return
    folder = outs[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    planned = plan_unmeasured(recipe, KIND, folder / f".{NOTHING}")
    merged = MergedTensors(planned.plan.jobs)
    parties = [
        _Party(
            subject=one,
            examples=Encoder(one).encode(prompts.prompts, with_replies=True),
            place=Workplace(out, own),
            data=prompts,
        )
        for one, prompts, (out, own) in zip(subjects, data, pairs, strict=True)
    ]
    subject = _merged_subject(subjects[0], planned.donor.keys, merged)
    _go_on(subject, merged, parties, say)
    for party, out in zip(parties, outs, strict=True):
        _write(party, out)
    for party in parties:
        party.place.remove()
    (folder / f".{NOTHING}").unlink()


def _asked(
    recipe: MergeRecipe, subjects: Sequence[Subject], data: Sequence[PromptFile]
) -> dict[str, object]:
    """All that the Grams depend on: those of one model on every other, and on how they merge."""
    plain = tuple(m.model_copy(update={"data": None, "statistics": None}) for m in recipe.models)
    return {
        "kind": KIND,
        "recipe": recipe.model_copy(update={"models": plain}).model_dump(mode="json"),
        "weights": [subject.state() for subject in subjects],
        "data": [prompts.sha256 for prompts in data],
    }


def _go_on(
    subject: Subject,
    merged: MergedTensors,
    parties: Sequence[_Party],
    say: Callable[[str], None],
) -> None:
    """Block by block, from the first that was not merged."""
    count, last = len(subject.blocks), parties[-1].place
    first = next((b for b in range(count) if not last.has(_done(b))), count)
    if first == count:
        return
    fresh = [party.place if first == 0 else None for party in parties]
    around = [
        surroundings_of(subject, party.examples, place)
        for party, place in zip(parties, fresh, strict=True)
    ]
    for block in range(first, count):
        _merge_block(block, subject, merged, parties, around)
        last.keep(_done(block), {}, {})
        for party in parties:
            party.place.forget(block)
        say(f"block {block + 1} of {count}, merged")


def _done(block: int) -> str:
    return f"merged-{block:04d}"


def _merged_subject(like: Subject, keys: Mapping[str, Key], merged: MergedTensors) -> Subject:
    """A model of the same class whose weights are the merge's."""
    on_disk = {key.name: name for name, key in keys.items() if key.part in ("", "backbone")}
    names = set(merged.jobs)
    weights = {}
    for name, ref in like.weights.items():
        own = on_disk.get(like.names[name]) if name in like.names else ref.name
        found = own if own in names else ref.name
        weights[name] = TensorRef(source=merged if found in names else ref.source, name=str(found))
    return replace(like, label="the merge", weights=weights)


@torch.no_grad()
def _merge_block(
    block: int,
    subject: Subject,
    merged: MergedTensors,
    parties: Sequence[_Party],
    around: Sequence[Sequence[Surroundings]],
) -> None:
    """Measure a block of every model, merge it, and go on with the merged one."""
    for party, surroundings in zip(parties, around, strict=True):
        _measure(block, party, surroundings)
    parts = [_opened(party, block) for party in parties]
    for name, job in merged.jobs.items():
        if isinstance(job, Merge):
            merged.jobs[name] = _measured(job, parts)
    prefix = subject.path_of(subject.blocks[block])
    with subject.holding((prefix,)):
        for party, surroundings in zip(parties, around, strict=True):
            for number, one in enumerate(surroundings):
                made = run_block(subject, block, party.place.read(block, number), one)
                party.place.write(block + 1, number, made)


def _measure(block: int, party: _Party, around: Sequence[Surroundings]) -> None:
    grams, prefix = Grams(), party.subject.path_of(party.subject.blocks[block])
    layers = linear_layers(party.subject, prefix)
    with party.subject.holding((prefix,)):
        for number, one in enumerate(around):
            with grams.watching(layers, lambda one=one: one.routing):  # type: ignore[misc]
                run_block(party.subject, block, party.place.read(block, number), one)
    party.place.keep(part_name(block), grams.sums, grams.notes())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A block's sums of one model."""

    source: SafetensorsSource
    aliases: Mapping[str, str]
    counts: Mapping[str, int]

    def measure(self, name: str) -> Measure | None:
        wanted = self.aliases.get(name, name)
        if wanted not in self.counts:
            return None
        ref = TensorRef(source=self.source, name=wanted)
        return Measure(ref=ref, count=float(self.counts[wanted]))


def _opened(party: _Party, block: int) -> _Part:
    path = party.place.part(part_name(block))
    notes = read_header(path).metadata
    return _Part(
        source=SafetensorsSource(party.subject.label, (path,)),
        aliases=json.loads(notes["aliases"]),
        counts=json.loads(notes["counts"]),
    )


def _measured(job: Merge, parts: Sequence[_Part]) -> Merge:
    """A merge with what was measured of this block, where it is of this block."""
    if job.method.spec.measures == KIND:
        found = tuple(part.measure(job.key) for part in parts)
        return replace(job, measures=found) if any(found) else job
    inner = tuple(
        _measured(expert, parts) if isinstance(expert, Merge) else expert for expert in job.experts
    )
    return replace(job, experts=inner)


def _write(party: _Party, out: Path) -> None:
    blocks = range(len(party.subject.blocks))
    facts = StatisticsFacts(
        kind=KIND,
        model=party.subject.label,
        num_examples=len(party.examples),
        num_tokens=sum(example.num_tokens for example in party.examples),
        aliases={},
        data=(party.data.sha256,),
        asked=party.place.asked,
    )
    join([party.place.part(part_name(block)) for block in blocks], facts, out)
