"""AdaMMS: the mixing ratio of two models around which their answers change least.

    W = a W_1 + (1 - a) W_2,  a on 7 equal steps from 1 down to `least`
    for every a between two others: how many answers differ from those of either neighbour
    the a with the fewest; of several the largest

Answers are generated greedily and compared without regard to case. Only shared weights are mixed;
what the second model lacks is the first one's.

Paper: arXiv 2503.23733, THUNLP-MT/AdaMMS as specs/methods.md B.8 records it (100 prompts). The rule
for ties is ours. One upstream script scales embeddings and head by a where the partner lacks them;
here they are copied.
"""

import json
from collections.abc import Sequence

import torch

from omnicompose.searching.bench import Bench, Table, open_bench
from omnicompose.searching.ground import Found, Ground
from omnicompose.searching.trail import Trail

STEPS = 7


def search(ground: Ground) -> Found:
    """Generate at every ratio and compare."""
    bench, opened = open_bench(ground.recipe, ground.subject, only_matrices=False)
    ratios = grid(ground.number("least"))
    with opened:
        trail = Trail(ground.folder / "adamms.jsonl", ground.asked())
        replies = [kept_answers(ground, bench, ratio) for ratio in ratios]
        changes = changed(replies)
        for number, (ratio, count) in enumerate(zip(ratios[1:-1], changes, strict=True)):
            if trail.known(number, (ratio,)) is None:
                trail.add((ratio,), float(count), 0.0)
            ground.say(f"ratio {ratio:g}: {count} answers change")
        best = ratios[1:-1][changes.index(min(changes))]
        return Found(bench=bench, table=mixed(bench, best))


def grid(least: float) -> list[float]:
    """Ratios from 1 down."""
    return [round(1.0 - (1.0 - least) * step / (STEPS - 1), 6) for step in range(STEPS)]


def mixed(bench: Bench, ratio: float) -> Table:
    """`ratio` of the first model, the rest of the second."""
    table = bench.table(ratio)
    for one in table:
        one[1] = 1.0 - ratio
    return table


def kept_answers(ground: Ground, bench: Bench, ratio: float) -> list[str]:
    """The answers at a ratio, from the disk where an interrupted search has left them."""
    path = ground.folder / f"adamms-{ratio:g}.json"
    asked = json.loads(json.dumps(ground.asked(ratio=ratio)))
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["asked"] == asked:
            return list(kept["answers"])
    found = answers(ground, bench, mixed(bench, ratio))
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps({"asked": asked, "answers": found}), encoding="utf-8")
    partial.replace(path)
    ground.say(f"ratio {ratio:g}: {len(found)} answers")
    return found


@torch.no_grad()
def answers(ground: Ground, bench: Bench, table: Table) -> list[str]:
    """What the model says to every prompt."""
    bench.take(table)
    found = []
    for own in ground.examples(with_replies=False):
        for example in own:
            made = ground.subject.model.generate(
                **example.inputs,
                max_new_tokens=ground.count("new_tokens"),
                do_sample=False,
                pad_token_id=0,
            )
            found.append(ground.encoder.decode(made[0, example.num_tokens :]))
    return found


def changed(replies: Sequence[Sequence[str]]) -> list[int]:
    """Per inner ratio how many answers differ from a neighbour's."""
    plain = [[reply.strip().casefold() for reply in row] for row in replies]
    return [
        sum(
            not before == here == after
            for before, here, after in zip(plain[i - 1], plain[i], plain[i + 1], strict=True)
        )
        for i in range(1, len(plain) - 1)
    ]
