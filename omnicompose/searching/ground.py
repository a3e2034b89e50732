"""What every search stands on: the recipe, each model's own examples, where its log lies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from omnicompose.errors import CalibrationError, PlanError
from omnicompose.merging.fingerprint import InputFiles
from omnicompose.merging.method import ParameterValue
from omnicompose.plan.participant import open_participant
from omnicompose.recipe import MergeRecipe
from omnicompose.searching.bench import Bench, Table
from omnicompose.statistics.encoding import Encoder, Example
from omnicompose.statistics.prompts import PromptFile, read_prompts
from omnicompose.statistics.subject import Subject, open_subject

Say = Callable[[str], None]
LIKELIHOOD = "likelihood"
"""The fitness that looks at data; every other judges by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The ground of a search.

    Attributes:
        recipe: of the merge, its method a searching one.
        parameters: every parameter of that method.
        subject: the base, opened.
        encoder: its tokenizer.
        data: by model, its file of examples.
        weights: hashes of the state of the base's and the models' files.
        folder: logs and states.
        say: takes one line of progress.
    """

    recipe: MergeRecipe
    parameters: Mapping[str, ParameterValue]
    subject: Subject
    encoder: Encoder
    data: Mapping[str, PromptFile]
    weights: tuple[str, ...]
    folder: Path
    say: Say

    def number(self, name: str) -> float:
        """A numeric parameter."""
        value = self.parameters[name]
        assert isinstance(value, int | float)
        return float(value)

    def count(self, name: str) -> int:
        """A whole-numbered parameter."""
        return int(self.number(name))

    def word(self, name: str) -> str:
        """A parameter that is a word."""
        return str(self.parameters[name])

    def asked(self, **more: object) -> dict[str, object]:
        """What the search is of, for its log."""
        return {
            "method": self.recipe.method,
            "parameters": dict(self.parameters),
            "base": str(self.recipe.base),
            "models": [str(model.source) for model in self.recipe.models],
            "weights": self.weights,
            "data": {name: file.sha256 for name, file in self.data.items()},
            "seed": self.recipe.seed,
            **more,
        }

    def examples(self, *, with_replies: bool) -> list[list[Example]]:
        """Each model's own examples.

        Raises:
            CalibrationError: replies are asked for and lacking.
        """
        if with_replies:
            for file in self.data.values():
                file.need_replies("take a method without labels: `omnicompose methods` lists them")
        return [
            self.encoder.encode(file.prompts, with_replies=with_replies)
            for file in self.data.values()
        ]

    def drawn(self, size: int, step: int, wanted: int) -> list[int]:
        """Which of `size` examples a step looks at: every one once before any comes again."""
        order: list[int] = []
        first = step * wanted
        for epoch in range(first // size, (first + wanted - 1) // size + 1):
            generator = torch.Generator().manual_seed(self.recipe.seed * 7919 + epoch)
            order += torch.randperm(size, generator=generator).tolist()
        start = first % size
        return order[start : start + wanted]


def open_ground(
    recipe: MergeRecipe, parameters: Mapping[str, ParameterValue], folder: Path, say: Say
) -> Ground:
    """Open the base and read every model's data.

    Raises:
        PlanError: the recipe names no base.
        CalibrationError: a model gives no data.
    """
    if recipe.base is None:
        raise PlanError(
            f"method {recipe.method!r} works on distances from a common base, and the recipe "
            "names none. Add `base:`."
        )
    lacking = [model.label for model in recipe.models if model.data is None]
    if lacking and parameters.get("fitness", LIKELIHOOD) == LIKELIHOOD:
        raise CalibrationError(
            f"method {recipe.method!r} searches on data, and {', '.join(lacking)} "
            "give none. Name a file of JSON lines under `data:` of every model."
        )
    files = {m.label: read_prompts(Path(m.data.location)) for m in recipe.models if m.data}
    subject = open_subject(recipe.base, allow_pickle=recipe.allow_pickle)
    return Ground(
        recipe=recipe,
        parameters=parameters,
        subject=subject,
        encoder=Encoder(subject),
        data=files,
        weights=_states(recipe),
        folder=folder,
        say=say,
    )


def _states(recipe: MergeRecipe) -> tuple[str, ...]:
    """Of the models' files, so that no search goes on with other weights."""
    assert recipe.base is not None
    raw, files = recipe.layout == "raw", InputFiles()
    opened = (
        open_participant(source, raw=raw, allow_pickle=recipe.allow_pickle)
        for source in (recipe.base, *(model.source for model in recipe.models))
    )
    return tuple(files.state(one.weights.source) for one in opened)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search comes to.

    Attributes:
        bench: whose tensors the table is of.
        table: coefficients per tensor, `[experts, chunks]`.
        density: share of each delta that was kept, where not all: by expert.
    """

    bench: Bench
    table: Table
    density: Mapping[str, float] | None = None


def own_positions(example: Example) -> slice:
    """Positions whose next word is the model's to say: the last of a turn, all of raw text."""
    return slice(-1, None) if example.reply_from is not None else slice(None)


def reply_loss(logits: torch.Tensor, example: Example) -> torch.Tensor:
    """Mean of -log p over the words of the reply, or of the raw text."""
    first = 0 if example.reply_from is None else example.reply_from - 1
    words = example.inputs["input_ids"][0, first + 1 :]
    return torch.nn.functional.cross_entropy(logits[first:-1].float(), words)


def mean_loss(bench: Bench, examples: Sequence[Sequence[Example]]) -> float:
    """`reply_loss` averaged over each model's examples, then over models."""
    with torch.no_grad():
        rows = [
            torch.stack([reply_loss(bench.logits(one), one) for one in own]).mean()
            for own in examples
        ]
    return float(torch.stack(rows).mean())
