"""Train the capability zoo's vision encoder: name everything that a picture's description says.

It stands in for CLIP: trained once, frozen after. Heads that are dropped afterwards read what
stands in a scene's cell from that cell's own patch, and everything else from the mean of all
patches, so that the language model later finds both what and where.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from omnicompose.encoders import make_encoder
from omnicompose.encoders.folder import write_encoder
from omnicompose.zoo.capabilities.held_out import draw_apart, held_out_pixels
from omnicompose.zoo.capabilities.questions import HUES, KINDS
from omnicompose.zoo.capabilities.world import (
    ALPHABET,
    DEGREES,
    FORMS,
    GRID,
    LIES,
    SHAPES,
    SIDE,
    SIDES,
    Chart,
    Figure,
    Kind,
    Picture,
    Scene,
    Word,
)

Progress = Callable[[int, int], None]
WIDTH = 64
DESCRIPTION: dict[str, object] = {
    "type": "clip_vision",
    "config": {
        "vision_config": {
            "hidden_size": WIDTH,
            "intermediate_size": 192,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": SIDE,
            "patch_size": SIDE // GRID,
            "hidden_act": "gelu",
            "projection_dim": WIDTH,
        },
        "feature_layer": -1,
        "select": "default",
    },
}
POOL: dict[Kind, int] = {"scene": 5000, "figure": 5000, "chart": 2000, "word": 5000}
"""Pictures drawn once and used again and again with other noise."""
NUM_STEPS, BATCH_SIZE, RATE, NOISE = 3000, 96, 2.5e-3, 0.04
UNKNOWN = -100
"""A label that does not apply; the loss ignores it."""
VALUES: tuple[int | str, ...] = (*SIDES, *DEGREES, *LIES)
NUM_CELLS = GRID * GRID
CELL_HEADS = {"shape": len(SHAPES) + 1, "colour": len(HUES) + 1, "boxed": 2}
"""What stands in a cell; the last class of the first two: nothing."""
WHOLE_HEADS = (
    {"kind": len(KINDS), "hue": len(HUES), "value": len(VALUES), "form": len(FORMS)}
    | {f"level {hue}": 10 for hue in HUES}
    | {f"letter {place}": len(ALPHABET) for place in range(3)}
)
Labels = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Pictures with everything that they say.

    Attributes:
        pixels: `[n, SIDE, SIDE, 3]` uint8.
        labels: `[n]` per whole head and `[n, NUM_CELLS]` per cell head, int64.
    """

    pixels: npt.NDArray[np.uint8]
    labels: Labels


class Heads(nn.Module):
    """From features `[N, NUM_CELLS, E]` to logits of every head."""

    def __init__(self, width: int) -> None:
        """One linear map per head."""
        super().__init__()
        self.cells = nn.ModuleDict({name: nn.Linear(width, n) for name, n in CELL_HEADS.items()})
        self.whole = nn.ModuleDict({name: nn.Linear(width, n) for name, n in WHOLE_HEADS.items()})

    def forward(self, features: torch.Tensor) -> Labels:
        """Logits `[N, classes]`, or `[N, NUM_CELLS, classes]`, by head."""
        mean = features.mean(dim=1)
        whole = {name: head(mean) for name, head in self.whole.items()}
        return whole | {name: head(features) for name, head in self.cells.items()}


def train_encoder(
    folder: Path, held_out: Path, seed: int = 0, progress: Progress = lambda _d, _t: None
) -> None:
    """Train on one thread and write the encoder's folder, weights in fp16.

    Args:
        folder: where to.
        held_out: the library of validation and test pictures, none of which it may see.
        seed: of everything random.
        progress: called with steps done and in all.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    encoder = make_encoder(DESCRIPTION)
    assert isinstance(encoder, nn.Module)
    heads = Heads(WIDTH)
    rng = np.random.default_rng(seed)
    pool = make_pool(rng, POOL, held_out_pixels(held_out))
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.02)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=NUM_STEPS, pct_start=0.1
    )
    for step in range(NUM_STEPS):
        pixels, labels = next(_batches(rng, pool))
        loss = _loss(heads(encoder(pixels)), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        rate.step()
        progress(step + 1, NUM_STEPS)
    write_encoder(folder, DESCRIPTION, encoder, torch.float16)


def make_pool(rng: np.random.Generator, counts: dict[Kind, int], taken: Set[bytes]) -> Pool:
    """Draw training pictures of every kind, none of them with `taken` pixels."""
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    drawn = [draw_apart(rng, kind, "train", taken) for kind in kinds]
    return Pool(
        pixels=np.stack([pixels for _, pixels in drawn]),
        labels=labels_of([picture for picture, _ in drawn]),
    )


def labels_of(pictures: Sequence[Picture]) -> Labels:
    """Everything that the pictures say, `UNKNOWN` where a head does not apply."""
    rows = [_facts(picture) for picture in pictures]
    whole = {name: torch.tensor([row.get(name, UNKNOWN) for row in rows]) for name in WHOLE_HEADS}
    cells = [_cell_facts(picture) for picture in pictures]
    return whole | {name: torch.tensor([row[name] for row in cells]) for name in CELL_HEADS}


def _facts(picture: Picture) -> dict[str, int]:
    facts = {"kind": KINDS.index(picture.kind)}
    if isinstance(picture, Figure | Word):
        facts["hue"] = HUES.index(picture.colour)
    if isinstance(picture, Figure):
        facts["value"] = VALUES.index(picture.value)
    elif isinstance(picture, Word):
        facts |= {f"letter {i}": ALPHABET.index(c) for i, c in enumerate(picture.letters)}
    elif isinstance(picture, Chart):
        facts["form"] = FORMS.index(picture.form)
        levels = dict(zip(picture.colours, picture.values, strict=True))
        facts |= {f"level {hue}": levels.get(hue, 0) for hue in HUES}
    return facts


def _cell_facts(picture: Picture) -> dict[str, list[int]]:
    if not isinstance(picture, Scene):
        return {name: [UNKNOWN] * NUM_CELLS for name in CELL_HEADS}
    facts = {
        "shape": [len(SHAPES)] * NUM_CELLS,
        "colour": [len(HUES)] * NUM_CELLS,
        "boxed": [0] * NUM_CELLS,
    }
    for place, thing in enumerate(picture.things):
        facts["shape"][thing.cell] = SHAPES.index(thing.shape)
        facts["colour"][thing.cell] = HUES.index(thing.colour)
        facts["boxed"][thing.cell] = int(place == picture.box)
    return facts


def _batches(rng: np.random.Generator, pool: Pool) -> Iterator[tuple[torch.Tensor, Labels]]:
    while True:
        chosen = rng.integers(len(pool.pixels), size=BATCH_SIZE)
        pixels = to_pixels(pool.pixels[chosen])
        noise = torch.from_numpy(rng.standard_normal(pixels.shape, dtype=np.float32))
        labels = {name: values[torch.from_numpy(chosen)] for name, values in pool.labels.items()}
        yield pixels + NOISE * noise, labels


def to_pixels(pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
    """`[N, SIDE, SIDE, 3]` uint8 as the preprocessor makes it: `[N, 3, SIDE, SIDE]`, -1 to 1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _loss(logits: Labels, labels: Labels) -> torch.Tensor:
    """Cross-entropy per picture and head, summed over heads; cells are averaged."""
    losses = []
    for name, found in logits.items():
        wanted = labels[name].flatten()
        if bool((wanted != UNKNOWN).any()):
            weight = 4.0 if name in CELL_HEADS else 1.0
            flat = found.flatten(0, -2)
            losses.append(weight * F.cross_entropy(flat, wanted, ignore_index=UNKNOWN))
    return torch.stack(losses).sum()
