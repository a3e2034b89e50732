"""AdaMerging: coefficients under which the model is most certain of the next word.

    minimise over c in [0, 1]   mean over prompts of -sum_w p(w) log p(w)
    c from `start`, Adam; one per expert, or per expert and tensor

p is the next word behind a prompt's turn, averaged over all positions of raw text. With
`density` below 1 the deltas are trimmed first (AdaMerging++).

Paper: arXiv 2310.02575; formulas and defaults from EnnengYang/AdaMerging and fusion_bench as
specs/methods.md B.3 records them. Made for classifiers; a generative model can become certain of
one wrong word (entropy collapse), so look at the tuned model's answers.
"""

import torch

from omnicompose.searching.bench import Table, open_bench
from omnicompose.searching.descent import Descent, descend
from omnicompose.searching.ground import Found, Ground, own_positions


def search(ground: Ground) -> Found:
    """Descend on the entropy."""
    density = ground.number("density")
    bench, opened = open_bench(
        ground.recipe,
        ground.subject,
        only_matrices=bool(ground.parameters["only_matrices"]),
        density=density,
    )
    every = [one for own in ground.examples(with_replies=False) for one in own]
    together = ground.word("per") == "expert"
    wanted = min(ground.count("batch_size"), len(every))

    def slope(step: int, table: Table) -> tuple[float, Table]:
        bench.take(table)
        bench.learning(True)
        total = 0.0
        for number in ground.drawn(len(every), step, wanted):
            logits = bench.logits(every[number])[own_positions(every[number])]
            loss = entropy(logits) / wanted
            torch.autograd.backward(loss)
            total += float(loss.detach())
        ground.say(f"step {step + 1}: entropy {total:.4f}")
        slopes = bench.slopes()
        bench.learning(False)
        return total, shared(slopes) if together else slopes

    how = Descent(
        steps=ground.count("steps"),
        rate=lambda _step: ground.number("learning_rate"),
        low=0.0,
        high=1.0,
    )
    with opened:
        start = bench.table(ground.number("start"))
        state = ground.folder / "adamerging.safetensors"
        table = descend(start, slope, how, state, ground.asked())
    kept = dict.fromkeys(bench.experts, density) if density < 1.0 else None
    return Found(bench=bench, table=table, density=kept)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Mean entropy of words, `[n, words]` given."""
    log_p = logits.float().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1).mean()


def shared(slopes: Table) -> Table:
    """Gradients of one coefficient per expert, at every tensor."""
    total = torch.stack([one.sum(1) for one in slopes]).sum(0)[:, None]
    return [total.expand_as(one).clone() for one in slopes]
