"""Grams of what enters the linear layers of a block: sum of x x^T over tokens."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from omnicompose.statistics.subject import Subject
from omnicompose.streams.routing import TEXT, Routing


class Grams:
    """Sums of one part of a model, filled while it runs.

    Layers that are given one and the same tensor share a sum: `aliases` says whose. `counts` says
    how many tokens each is over.
    """

    def __init__(self) -> None:
        """Nothing has run yet."""
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int] = {}
        self.aliases: dict[str, str] = {}
        self._seen: list[tuple[torch.Tensor, str]] = []

    @contextmanager
    def watching(
        self, layers: Mapping[str, nn.Linear], routing: Callable[[], Routing | None]
    ) -> Iterator[None]:
        """Add up what enters these layers, by tensor name, while the block runs.

        Args:
            layers: by the name of their weight in the backbone.
            routing: of the tokens; those that use other weights than the layer's are left out.
        """

        def watch(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
            return lambda layer, given: self._add(name, given[0], _own(layer, given[0], routing()))

        handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
        try:
            yield
        finally:
            self._seen.clear()
            for handle in handles:
                handle.remove()

    def _add(self, name: str, given: torch.Tensor, rows: torch.Tensor) -> None:
        for other, first in self._seen:
            if other is given:
                self.aliases[name] = first
                return
        # Held until the block has run, so that no other tensor takes its place in memory.
        self._seen.append((given, name))
        if name not in self.sums:
            width = rows.shape[1]
            self.sums[name], self.counts[name] = torch.zeros(width, width), 0
        self.sums[name].addmm_(rows.T, rows)
        self.counts[name] += len(rows)

    def notes(self) -> dict[str, str]:
        """What is kept beside the sums of a part, as words."""
        return {"aliases": json.dumps(self.aliases), "counts": json.dumps(self.counts)}


def _own(layer: nn.Module, given: torch.Tensor, routing: Routing | None) -> torch.Tensor:
    """The tokens `[n, in]` that the layer's own weight is used for, fp32."""
    rows = given.detach().reshape(-1, given.shape[-1]).float()
    streams = tuple(getattr(layer, "streams", ()))
    if routing is None or not streams:
        return rows
    elsewhere = tuple(name for name in routing.visits(streams) if name != TEXT)
    return rows[routing.outside(streams, elsewhere)]


def linear_layers(subject: Subject, prefix: str) -> dict[str, nn.Linear]:
    """The linear layers of the backbone under a prefix, by the name of their weight there."""
    found = {}
    for path, module in subject.model.named_modules():
        name = subject.names.get(f"{path}.weight")
        if isinstance(module, nn.Linear) and path.startswith(prefix) and name is not None:
            found[name] = module
    return found
