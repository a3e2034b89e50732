"""DRIFT's reasoning prior: the direction from a vision-language model to a reasoning model.

    D = W_reason - W_vision, rescaled to |W_vision|      per attention and feed-forward projection

    inject(g):  absolute   g - a D
                norm       g - a |g| D / |D|
                adaptive   g - a (1 + cos(g, D)) / 2 |g| D / |D|

DRIFT is no merge: while a multimodal model is fine-tuned, its gradients are turned by the prior.
`write_prior` exports it as a tensor file, `inject` is the change of one gradient, for a hook of any
trainer (descent goes against the gradient, so that weights move along D).

Paper: "Directional Reasoning Injection", arXiv 2510.15050, WikiChao/DRIFT core/drift.py as
specs/methods.md B.9 records it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch

from omnicompose.errors import PlanError
from omnicompose.merging.statistics_file import StatisticsFacts, write_statistics
from omnicompose.plan.participant import Participant, open_participant
from omnicompose.recipe_values import Source
from omnicompose.tensors.source import TensorInfo, read_tensor

KIND = "prior"
ROLES = ("attention", "mlp")
Mode = Literal["absolute", "norm", "adaptive"]


def write_prior(reasoning: Source, vision: Source, out: Path) -> int:
    """Write the prior, tensor by tensor, under backbone names; how many tensors it has.

    Raises:
        SourceError: a model cannot be opened.
        PlanError: the models share no projection.
    """
    first, second = (open_participant(one, raw=False) for one in (reasoning, vision))
    pairs = {name: (mine, theirs) for name, mine, theirs in _shared(first, second)}
    if not pairs:
        raise PlanError(
            f"{reasoning} and {vision}: no attention or feed-forward projection of one name and "
            "shape. Give models whose language models have one architecture."
        )

    def read(name: str) -> torch.Tensor:
        mine, theirs = pairs[name]
        weight = read_tensor(second.weights.source, theirs).float()
        direction = read_tensor(first.weights.source, mine).float() - weight
        size = direction.norm()
        return direction * (weight.norm() / size) if size > 0 else direction

    infos = {
        name: TensorInfo(
            name=name,
            dtype=torch.float32,
            shape=second.weights.source.infos()[theirs].shape,
        )
        for name, (_, theirs) in pairs.items()
    }
    facts = StatisticsFacts(
        kind=KIND,
        model=f"{reasoning} - {vision}",
        num_examples=0,
        num_tokens=0,
        aliases={},
        data=(),
    )
    write_statistics(out, facts, infos, read)
    return len(pairs)


def _shared(first: Participant, second: Participant) -> Iterator[tuple[str, str, str]]:
    ours = {key.name: name for name, key in first.keys.items() if key.role in ROLES}
    for name, key in second.keys.items():
        if key.part != "backbone" or key.name not in ours:
            continue
        shapes = (
            first.weights.source.infos()[ours[key.name]].shape,
            second.weights.source.infos()[name].shape,
        )
        if shapes[0] == shapes[1] and len(shapes[0]) == 2:
            yield key.name, ours[key.name], name


def inject(
    gradient: torch.Tensor, direction: torch.Tensor, alpha: float, mode: Mode = "adaptive"
) -> torch.Tensor:
    """A gradient turned by the prior of its parameter."""
    if mode == "absolute":
        return gradient - alpha * direction
    sizes = gradient.norm(), direction.norm()
    if float(sizes[0]) == 0.0 or float(sizes[1]) == 0.0:
        return gradient
    along = direction * (sizes[0] / sizes[1])
    if mode == "norm":
        return torch.sub(gradient, along, alpha=alpha)
    cosine = float((gradient * direction).sum() / (sizes[0] * sizes[1]))
    return torch.sub(gradient, along, alpha=alpha * (1 + cosine) / 2)
