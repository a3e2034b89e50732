"""Expert Merging: coefficients that match every expert on its own prompts, from a few of them.

    a = sigmoid(raw), from `start`;  W = W_0 + sum_k a_k D_k
    L = sum_k mean over k's prompts ( h |H - H_k|^2 + t^2 KL(p_k || p) ) + g T mean|a - start|

    H, p   hidden states after every block and next words of the merged model
    H_k    the same of expert k          h, t, g   hidden_weight, temperature, anchor_weight

AdamW with weight decay 1e-5 and cosine warm restarts every 50 steps; gradients clipped to norm 1.
One step sees one prompt of every expert.

Expert Merging++: after that search, tensor l with importance I_l = sum_k a_k mean|D_k| n gets
m_l = floor(B I_l^kappa / sum I^kappa) chunks, each with a coefficient; those with m_l = 0 keep what
was found. Then the search is run again.

Paper: arXiv 2509.25712; defaults from Littleor/ExpertMerging as specs/methods.md B.5 records them.
The importance is from the paper: the public code holds only the base method.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from omnicompose.searching.bench import Bench, Table, open_bench
from omnicompose.searching.descent import Descent, descend
from omnicompose.searching.ground import Found, Ground
from omnicompose.statistics.encoding import Example

RESTART = 50
DECAY = 1e-5
CLIP = 1.0
Target = tuple[torch.Tensor, torch.Tensor]
"""Hidden states `[layers + 1, L, D]` and log-probabilities `[L, words]` of an expert."""


def search(ground: Ground) -> Found:
    """One coefficient per expert and tensor."""
    bench, opened = open_bench(
        ground.recipe, ground.subject, only_matrices=bool(ground.parameters["only_matrices"])
    )
    with opened:
        return Found(bench=bench, table=_learn(ground, bench, "base"))


def search_plus_plus(ground: Ground) -> Found:
    """As many coefficients per tensor as its importance calls for."""
    bench, opened = open_bench(
        ground.recipe, ground.subject, only_matrices=bool(ground.parameters["only_matrices"])
    )
    with opened:
        first = _learn(ground, bench, "base")
        sizes = chunk_counts(
            importance(bench, first),
            ground.number("budget") * len(bench.moved),
            ground.number("sharpness"),
        )
        moved = [
            replace(one, chunks=max(1, size)) for one, size in zip(bench.moved, sizes, strict=True)
        ]
        chunked = Bench(ground.subject, moved, bench.experts)
        start = [
            one.expand(-1, max(1, size)).clone() for one, size in zip(first, sizes, strict=True)
        ]
        fixed = [size == 0 for size in sizes]
        return Found(bench=chunked, table=_learn(ground, chunked, "chunks", start, fixed))


def importance(bench: Bench, table: Table) -> torch.Tensor:
    """`[tensors]`: how much of each expert's change a tensor carries, as it is weighted."""
    sizes = [
        sum(
            float(c.abs().mean() * d.abs().mean()) * d.numel()
            for c, d in zip(row, one.deltas, strict=True)
        )
        for row, one in zip(table, bench.moved, strict=True)
    ]
    found = torch.tensor(sizes, dtype=torch.float64)
    return found / found.sum().clamp(min=1e-300)


def chunk_counts(shares: torch.Tensor, budget: float, sharpness: float) -> list[int]:
    """`floor(B I^kappa / sum I^kappa)` per tensor."""
    powers = shares**sharpness
    counts = budget * powers / powers.sum().clamp(min=1e-300)
    # A share that is a whole number but for rounding is that number.
    return [math.floor(one + 1e-9) for one in counts.tolist()]


def _learn(
    ground: Ground,
    bench: Bench,
    name: str,
    start: Table | None = None,
    fixed: Sequence[bool] = (),
) -> Table:
    examples = ground.examples(with_replies=False)
    targets = [_targets(bench, number, own) for number, own in enumerate(examples)]
    anchor = bench.table(ground.number("start")) if start is None else start
    raw = [one.clamp(1e-4, 1 - 1e-4).logit() for one in anchor]

    def slope(step: int, table: Table) -> tuple[float, Table]:
        weights = [one.sigmoid() for one in table]
        bench.take(weights)
        bench.learning(True)
        total = 0.0
        for own, theirs in zip(examples, targets, strict=True):
            (number,) = ground.drawn(len(own), step, 1)
            loss = distance(bench.states(own[number]), theirs[number], ground)
            torch.autograd.backward(loss)
            total += float(loss.detach())
        slopes = bench.slopes()
        bench.learning(False)
        total += _pull(slopes, weights, anchor, ground.number("anchor_weight"))
        ground.say(f"{name} step {step + 1}: {total:.4f}")
        for number, (one, weight) in enumerate(zip(slopes, weights, strict=True)):
            one.mul_(weight * (1 - weight) * (0.0 if fixed and fixed[number] else 1.0))
        return total, slopes

    rate = ground.number("learning_rate")
    how = Descent(
        steps=ground.count("steps"),
        rate=lambda step: rate * 0.5 * (1 + math.cos(math.pi * (step % RESTART) / RESTART)),
        decay=DECAY,
        clip=CLIP,
    )
    state = ground.folder / f"{ground.recipe.method}-{name}.safetensors"
    found = [one.sigmoid() for one in descend(raw, slope, how, state, ground.asked())]
    return [
        old if fixed and fixed[number] else new
        for number, (old, new) in enumerate(zip(anchor, found, strict=True))
    ]


def _pull(slopes: Table, weights: Table, anchor: Table, factor: float) -> float:
    """Add the gradient of `g T mean|a - start|`; its value."""
    experts = weights[0].shape[0]
    share = factor * experts / sum(one.numel() for one in weights)
    total = 0.0
    for slope, weight, start in zip(slopes, weights, anchor, strict=True):
        slope.add_((weight - start).sign(), alpha=share)
        total += share * float((weight - start).abs().sum())
    return total


@torch.no_grad()
def _targets(bench: Bench, expert: int, examples: Sequence[Example]) -> list[Target]:
    bench.take_expert(expert)
    found = []
    for example in examples:
        states, logits = bench.states(example)
        found.append((states, logits.float().log_softmax(-1)))
    return found


def distance(found: Target, target: Target, ground: Ground) -> torch.Tensor:
    """Hidden states' mean squared distance and the divergence of next words from an expert's."""
    warmth = ground.number("temperature")
    hidden = (found[0] - target[0]).square().mean() * ground.number("hidden_weight")
    log_p = (target[1] / warmth).log_softmax(-1)
    log_q = (found[1].float() / warmth).log_softmax(-1)
    divergence = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    return hidden + warmth**2 * divergence
