"""Grams along the merged model: what RegMean++ fits block l to, with the blocks before it merged.

For every block in turn: each expert's block is given the hidden states that the merged model has
made of that expert's data so far, its Grams are kept, the block is merged with them by the engine's
own arithmetic, and the merged block makes the states for the next. One block of one model is in
memory at a time.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from omnicompose.merging.evaluation import Evaluator
from omnicompose.merging.job import Job, Measure, Merge, TensorRef
from omnicompose.merging.options import EngineOptions
from omnicompose.merging.statistics_file import StatisticsFacts, write_statistics
from omnicompose.merging.workspace import Workspace
from omnicompose.plan.merge_plan import make_merge_plan
from omnicompose.plan.participant import Key
from omnicompose.recipe import MergeRecipe
from omnicompose.recipe_values import Source
from omnicompose.statistics.collect import part_name
from omnicompose.statistics.encoding import Encoder, Example
from omnicompose.statistics.grams import Grams, linear_layers
from omnicompose.statistics.prompts import PromptFile
from omnicompose.statistics.stages import Surroundings, run_block, surroundings_of
from omnicompose.statistics.subject import Subject, open_subject
from omnicompose.statistics.workplace import Workplace
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
    folder = outs[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    planned = make_merge_plan(_unmeasured(recipe, folder / f".{NOTHING}"))
    merged = MergedTensors(planned.plan.jobs)
    parties = [
        _party(model.source, prompts, out)
        for model, prompts, out in zip(recipe.models, data, outs, strict=True)
    ]
    subject = _merged_subject(parties[0].subject, planned.donor.keys, merged)
    around = [surroundings_of(subject, party.examples, party.place) for party in parties]
    for block in range(len(subject.blocks)):
        _merge_block(block, subject, merged, parties, around)
        say(f"block {block + 1} of {len(subject.blocks)}, merged")
    for party, out in zip(parties, outs, strict=True):
        _write(party, out)
        party.place.remove()
    (folder / f".{NOTHING}").unlink()


def _unmeasured(recipe: MergeRecipe, nothing: Path) -> MergeRecipe:
    """The recipe with nothing measured yet."""
    facts = StatisticsFacts(kind=KIND, model="", num_examples=0, num_tokens=0, aliases={}, data=())
    info = TensorInfo(name="nothing", dtype=torch.float32, shape=(1,))
    write_statistics(nothing, facts, {"nothing": info}, lambda _name: torch.zeros(1))
    source = Source(text=nothing.name, kind="path", location=str(nothing.resolve()))
    models = tuple(model.model_copy(update={"statistics": source}) for model in recipe.models)
    return recipe.model_copy(update={"models": models})


def _party(source: Source, data: PromptFile, out: Path) -> _Party:
    subject = open_subject(source)
    place = Workplace(out, {"source": source.text, "data": data.sha256, "kind": KIND})
    examples = Encoder(subject).encode(data.prompts, with_replies=True)
    return _Party(subject=subject, examples=examples, place=place, data=data)


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
            party.place.forget(block)


def _measure(block: int, party: _Party, around: Sequence[Surroundings]) -> None:
    grams, prefix = Grams(), party.subject.path_of(party.subject.blocks[block])
    layers = linear_layers(party.subject, prefix)
    with party.subject.holding((prefix,)):
        for number, one in enumerate(around):
            with grams.watching(layers, lambda one=one: one.routing):  # type: ignore[misc]
                run_block(party.subject, block, party.place.read(block, number), one)
    party.place.keep(part_name(block), grams.sums, {"aliases": json.dumps(grams.aliases)})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A block's sums of one model."""

    source: SafetensorsSource
    aliases: Mapping[str, str]
    count: float

    def measure(self, name: str) -> Measure | None:
        wanted = self.aliases.get(name, name)
        if wanted not in self.source.infos():
            return None
        return Measure(ref=TensorRef(source=self.source, name=wanted), count=self.count)


def _opened(party: _Party, block: int) -> _Part:
    path = party.place.part(part_name(block))
    return _Part(
        source=SafetensorsSource(party.subject.label, (path,)),
        aliases=json.loads(read_header(path).metadata["aliases"]),
        count=float(sum(example.num_tokens for example in party.examples)),
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
    parts = [_opened(party, block) for block in range(len(party.subject.blocks))]
    sources = {name: part.source for part in parts for name in part.source.infos()}
    facts = StatisticsFacts(
        kind=KIND,
        model=party.subject.label,
        num_examples=len(party.examples),
        num_tokens=sum(example.num_tokens for example in party.examples),
        aliases={name: first for part in parts for name, first in part.aliases.items()},
        data=(party.data.sha256,),
    )
    infos = {name: source.infos()[name] for name, source in sources.items()}
    write_statistics(out, facts, infos, lambda name: read_tensor(sources[name], name))
