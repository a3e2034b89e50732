"""ES-Merging: coefficients per block from how far each expert shifts activations.

    D_l(m, t)  sliced Wasserstein distance (p = 2) between base's and expert m's states after block
               l on prompts of kind t; one vector per prompt, the mean over its tokens; every
               dimension standardised over both sets (the last block's states behind the norm)
    s_l = D_l - D_(l-1)                z = s standardised over blocks, for every m and t
    g_l(m) = z_l(m, m) + others * sum over t != m of z_l(m, t)
    c_l = softmax over m of g_l(m) / temperature

A kind of prompt is one model's own data; the original has one per modality inside one prompt.
Tensors outside the blocks get the mean over blocks.

Paper: arXiv 2603.14405, WonbinLee067/es-merging as specs/mmer.md 3 records it. Only its layer
coefficients: its element coefficients work on LoRA factors A and B apart, which depends on their
gauge. An expert that shifts nothing has z = 0 and so gets an average weight, as there.
"""

from collections.abc import Sequence

import torch

from omnicompose.searching.bench import Bench, Table, open_bench
from omnicompose.searching.ground import Found, Ground
from omnicompose.statistics.encoding import Example

Points = torch.Tensor
"""`[layers, prompts, width]`: one vector per prompt after every block."""


def search(ground: Ground) -> Found:
    """Forward passes of the base and of every expert on every model's data."""
    bench, opened = open_bench(ground.recipe, ground.subject, only_matrices=False)
    examples = ground.examples(with_replies=False)
    with opened:
        bench.take(bench.table(0.0))
        base = [points(bench, own) for own in examples]
        shifts = []
        for number, name in enumerate(bench.experts):
            bench.take_expert(number)
            found = [points(bench, own) for own in examples]
            seed = ground.recipe.seed + 42
            pairs = zip(base, found, strict=True)
            count = ground.count("projections")
            shifts.append(torch.stack([distances(b, f, count, seed) for b, f in pairs]))
            ground.say(f"{name}: states on {sum(map(len, examples))} prompts")
    blocks = block_coefficients(
        torch.stack(shifts), ground.number("others"), ground.number("temperature")
    )
    return Found(bench=bench, table=_table(bench, blocks))


@torch.no_grad()
def points(bench: Bench, examples: Sequence[Example]) -> Points:
    """Mean state of every prompt after every block."""
    rows = [bench.states(example)[0][1:].float().mean(1) for example in examples]
    return torch.stack(rows, dim=1)


def distances(base: Points, expert: Points, projections: int, seed: int) -> torch.Tensor:
    """`[layers]` sliced Wasserstein distances of two sets of as many points."""
    both = torch.cat([base, expert], dim=1).double()
    spread = both.std(dim=1, keepdim=True, unbiased=False)
    both = (both - both.mean(dim=1, keepdim=True)) / torch.where(spread > 0, spread, 1.0)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(both.shape[-1], projections, generator=generator, dtype=torch.float64)
    directions /= directions.norm(dim=0, keepdim=True)
    along = both @ directions
    first, second = along[:, : base.shape[1]], along[:, base.shape[1] :]
    moved = (first.sort(dim=1).values - second.sort(dim=1).values).square()
    return torch.sqrt(moved.mean(dim=(1, 2)))


def block_coefficients(shifts: torch.Tensor, others: float, temperature: float) -> torch.Tensor:
    """`[experts, layers]`, 1 in sum over experts, from distances `[experts, kinds, layers]`."""
    added = torch.diff(shifts, dim=2, prepend=torch.zeros_like(shifts[..., :1]))
    spread = added.std(dim=2, keepdim=True, unbiased=False)
    scores = (added - added.mean(dim=2, keepdim=True)) / torch.where(spread > 0, spread, 1.0)
    own = torch.stack([scores[i, i] for i in range(scores.shape[0])])
    total = own + others * (scores.sum(dim=1) - own)
    return torch.softmax(total / temperature, dim=0)


def _table(bench: Bench, blocks: torch.Tensor) -> Table:
    mean = blocks.mean(dim=1)
    return [
        (mean if one.layer is None else blocks[:, one.layer]).float()[:, None].clone()
        for one in bench.moved
    ]
