"""FW-Merging: Frank-Wolfe over the convex hull of the experts, on the loss of labelled prompts.

    g = grad f(W),  s = argmin over vertices of <g, W_s>
    W <- (1 - r) W + r W_s,  r = scale 2 / (t + 2)

hard: from the mean of the experts, which is a vertex too; per expert the whole model moves, per
      tensor each tensor chooses its own vertex
soft: from the base; for every model's data the expert that lowers their loss fastest, none twice
      (as every model brings data, all are chosen in the end); the chosen ones are mixed with
      coefficients of AdaMerging on all prompts, and that mixture is the vertex

It stops when the duality gap <g, W - W_s> is not positive; the coefficients of least loss count.

Paper: arXiv 2503.12649. Where we differ from hmarkc/FW-Merging (specs/methods.md B.6): it scores by
cosine with whole checkpoints, and in its layer mode replaces tensors by zeros where no vertex
helps; here scores are inner products with deltas, and such a tensor stays.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from omnicompose.searching.adamerging import entropy
from omnicompose.searching.bench import Bench, Table, open_bench
from omnicompose.searching.descent import Descent, descend
from omnicompose.searching.ground import Found, Ground, mean_loss, own_positions, reply_loss
from omnicompose.searching.trail import Trail
from omnicompose.statistics.encoding import Example

Examples = Sequence[Sequence[Example]]
Towards = Callable[[int, Table, Table], Table]
"""Number of the step, coefficients and the gradient there -> the vertex to go to."""


def search(ground: Ground) -> Found:
    """Frank-Wolfe steps."""
    bench, opened = open_bench(
        ground.recipe, ground.subject, only_matrices=bool(ground.parameters["only_matrices"])
    )
    examples = ground.examples(with_replies=True)
    with opened:
        step = _hard if ground.word("variant") == "hard" else _soft
        return Found(bench=bench, table=step(ground, bench, examples))


def gradient(bench: Bench, table: Table, examples: Examples) -> Table:
    """Of the mean loss, with regard to the coefficients."""
    bench.take(table)
    bench.learning(True)
    for own in examples:
        for one in own:
            loss = reply_loss(bench.logits(one), one) / (len(own) * len(examples))
            torch.autograd.backward(loss)
    slopes = bench.slopes()
    bench.learning(False)
    return slopes


def chosen(slopes: Table, vertices: Sequence[Table], *, per_tensor: bool) -> Table:
    """The vertex (per tensor, if asked for) of least inner product with the gradient."""
    scores = torch.stack(
        [
            torch.stack([(s * v).sum() for s, v in zip(slopes, vertex, strict=True)])
            for vertex in vertices
        ]
    )
    if not per_tensor:
        best = int(scores.sum(1).argmin())
        return [one.clone() for one in vertices[best]]
    return [vertices[int(scores[:, i].argmin())][i].clone() for i in range(scores.shape[1])]


def gap(slopes: Table, table: Table, vertex: Table) -> float:
    """How much the linear model promises: `<g, c - s>`."""
    terms = zip(slopes, table, vertex, strict=True)
    return float(torch.stack([(s * (c - v)).sum() for s, c, v in terms]).sum())


def moved(table: Table, vertex: Table, rate: float) -> Table:
    """Part of the way to a vertex."""
    return [torch.lerp(c, v, rate) for c, v in zip(table, vertex, strict=True)]


def one_hot(bench: Bench, expert: int) -> Table:
    """One expert by itself."""
    table = bench.table(0.0)
    for one in table:
        one[expert] = 1.0
    return table


def _hard(ground: Ground, bench: Bench, examples: Examples) -> Table:
    count, per_tensor = len(bench.experts), ground.word("per") == "tensor"
    mean = bench.table(1.0 / count)
    vertices = [*(one_hot(bench, i) for i in range(count)), mean]

    def towards(_step: int, table: Table, slopes: Table) -> Table:
        # Where no vertex is better than what is there, it stays: the first of equals is taken.
        return chosen(slopes, [table, *vertices], per_tensor=per_tensor)

    return _walked(ground, bench, examples, mean, towards)


def _soft(ground: Ground, bench: Bench, examples: Examples) -> Table:
    def towards(step: int, table: Table, _slopes: Table) -> Table:
        return _mixed(ground, bench, examples, _picked(bench, table, examples), step)

    return _walked(ground, bench, examples, bench.table(0.0), towards)


def _walked(
    ground: Ground, bench: Bench, examples: Examples, table: Table, towards: Towards
) -> Table:
    """Steps towards one vertex after the other; the coefficients of least loss on the way."""
    best, count = table, ground.count("steps")
    trail = Trail(ground.folder / "fw_merging.jsonl", ground.asked())
    for step in range(count + 1):
        value = _noted(trail, step, lambda at=table: _loss(bench, at, examples))
        if value <= min(one.value for one in trail.tried):
            best = table
        if step == count:
            break
        slopes = gradient(bench, table, examples)
        vertex = towards(step, table, slopes)
        left = gap(slopes, table, vertex)
        ground.say(f"step {step + 1}: loss {value:.4f}, gap {left:.4g}")
        if left <= 0.0:
            break
        table = moved(table, vertex, _rate(ground, step))
    return best


def _rate(ground: Ground, step: int) -> float:
    return min(1.0, ground.number("step_scale") * 2.0 / (step + 2))


def _loss(bench: Bench, table: Table, examples: Examples) -> float:
    bench.take(table)
    return mean_loss(bench, examples)


def _noted(trail: Trail, step: int, value: object) -> float:
    known = trail.known(step, (float(step),))
    if known is None:
        known = value()  # type: ignore[operator]
        trail.add((float(step),), float(known), 0.0)
    return float(known)


def _picked(bench: Bench, table: Table, examples: Examples) -> list[int]:
    """For every model's data the expert that lowers their loss fastest, none twice."""
    left, picked = list(range(len(bench.experts))), []
    for own in examples:
        slopes = gradient(bench, table, [own])
        scores = torch.stack([one.sum(1) for one in slopes]).sum(0)
        best = min(left, key=lambda i: float(scores[i]))
        left.remove(best)
        picked.append(best)
    return picked


def _mixed(
    ground: Ground, bench: Bench, examples: Examples, picked: Sequence[int], round_: int
) -> Table:
    """AdaMerging among the chosen ones, from 1/N each."""
    every = [one for own in examples for one in own]

    def slope(step: int, table: Table) -> tuple[float, Table]:
        bench.take(table)
        bench.learning(True)
        (number,) = ground.drawn(len(every), step, 1)
        example = _prompt_of(every[number])
        loss = entropy(bench.logits(example)[own_positions(example)])
        torch.autograd.backward(loss)
        slopes = bench.slopes()
        bench.learning(False)
        for one in slopes:
            for expert in range(len(bench.experts)):
                one[expert] *= float(expert in picked)
        return float(loss.detach()), slopes

    start = bench.table(0.0)
    for one in start:
        one[list(picked)] = 1.0 / len(picked)
    how = Descent(steps=ground.count("inner_steps"), rate=lambda _s: 1e-3, low=0.0, high=1.0)
    state = ground.folder / f"fw_merging-{round_}.safetensors"
    return descend(start, slope, how, state, ground.asked(round=round_, picked=list(picked)))


def _prompt_of(example: Example) -> Example:
    """The example without its reply."""
    if example.reply_from is None:
        return example
    end = example.reply_from
    per_token = {
        name: value[:, :end] if value.dim() == 2 and value.shape[1] == example.num_tokens else value
        for name, value in example.inputs.items()
    }
    return replace(example, inputs=per_token, media=example.media[:end])
