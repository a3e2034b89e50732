"""Does decoupling help? DAMC against NaiveMC on stressed experts of several training seeds.

    python benchmarks/streams_seeds.py train --seed 1 --out out/seeds      (about 20 minutes each)
    python benchmarks/streams_seeds.py compare --seeds 0 1 2 --out out/seeds

`train` makes the six stressed experts of the zoo (three modalities, single and decoupled) with
another seed: fresh weights, lessons and media; base and encoders are the shipped ones. Seed 0 is
the shipped zoo itself. `compare` composes NaiveMC (single experts, everything averaged) and DAMC
(decoupled experts, `modality: exact`) from each seed and asks both the same questions about two
and three modalities. The last line is the same figures as JSON.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from streams_cells import MEASURES, Bench, Cell, compare_lines, interval

from omnicompose.encoders import make_encoder
from omnicompose.encoders.folder import write_encoder
from omnicompose.evaluation.line import Line
from omnicompose.evaluation.statistics import Comparison
from omnicompose.experts.checkpoint import open_checkpoint
from omnicompose.tensors.source import read_tensor
from omnicompose.zoo.catalog import zoo_path
from omnicompose.zoo.stages import STAGES, Workshop
from omnicompose.zoo.world import MODALITY_SLOTS

MODALITIES = tuple(MODALITY_SLOTS)
SUFFIXES = ("", "-decoupled")
NAMES = tuple(f"{modality}-stressed{suffix}" for modality in MODALITIES for suffix in SUFFIXES)


def prepare(workshop: Workshop) -> None:
    """Lay the shipped base and encoders where the zoo's training looks for them."""
    workshop.out.mkdir(parents=True, exist_ok=True)
    for name in ("base", "encoder-audio", "encoder-video"):
        place = workshop.place(name)
        if not place.exists():
            place.symlink_to(zoo_path(name))
    if not workshop.place("encoder-image").exists():
        write_image_encoder(workshop.place("encoder-image"))


def write_image_encoder(folder: Path) -> None:
    """The vision tower inside zoo:llava as a folder of its own."""
    found = open_checkpoint("zoo:llava", zoo_path("llava")).encoder("image")
    description = {"type": found.type, "config": dict(found.config)}
    encoder = make_encoder(description)
    source = found.weights.source
    encoder.load_state_dict({name: read_tensor(source, name) for name in source.infos()})
    write_encoder(folder, description, encoder, torch.float32)


def train(workshop: Workshop, tell: Callable[[str], None]) -> None:
    """Train what is missing of the six experts, one after the other."""
    prepare(workshop)
    for name in NAMES:
        if workshop.place(name).exists():
            continue
        tell(f"train {name}, seed {workshop.seed}")
        STAGES[name].run(workshop, lambda _done, _total: None)


def cell(name: str, seed: int, out: Path) -> Cell:
    """NaiveMC or DAMC of one seed's experts."""
    suffix, side = {"naivemc": ("", "merged"), "damc": ("-decoupled", "exact")}[name]
    start = f"{(out / str(seed)).resolve()}/" if seed else "zoo:"
    return Cell(
        name=f"{name}-seed-{seed}",
        sources={m: f"{start}{m}-stressed{suffix}" for m in MODALITIES},
        text="{method: linear}",
        modality=side,
    )


def compare(bench: Bench, seeds: list[int]) -> dict[str, float]:
    """Ask both composites of every seed; print DAMC minus NaiveMC by seed, and over all seeds."""
    figures: dict[str, float] = {}
    every: list[list[Line]] = [[], []]
    for seed in seeds:
        pair = [cell(name, seed, bench.out) for name in ("damc", "naivemc")]
        for one in pair:
            if not bench.is_done(one):
                print(f"{one.name}: {bench.ask(one):.0f} s", flush=True)
        for name, counts in MEASURES.items():
            found = compare_lines(*(bench.lines(one, counts) for one in pair))
            figures |= show(f"seed {seed}, {name}", *found)
        for lines, one in zip(every, pair, strict=True):
            # Questions keep their cluster over seeds, so that seeds do not count as questions.
            own = bench.lines(one, MEASURES["2 and 3"])
            lines += [line.model_copy(update={"id": f"{line.id} seed {seed}"}) for line in own]
    return figures | show(f"all {len(seeds)} seeds, 2 and 3", *compare_lines(*every))


def show(name: str, accuracy: float, comparison: Comparison) -> dict[str, float]:
    """Print one line; return its figures."""
    found = comparison.difference
    print(f"{name:28} DAMC {100 * accuracy:5.1f}, minus NaiveMC {interval(comparison)}")
    return {name: found.value, f"{name}, low": found.low, f"{name}, high": found.high}


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("train", "compare"))
    parser.add_argument("--seed", type=int, default=1, help="to train with")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="to compare")
    parser.add_argument("--limit", type=int, default=1000, help="questions per set of modalities")
    parser.add_argument("--out", type=Path, default=Path("out/seeds"))
    options = parser.parse_args()
    if options.command == "train":
        train(Workshop(out=options.out / str(options.seed), seed=options.seed), print)
        return
    print(json.dumps(compare(Bench(out=options.out, num_questions=options.limit), options.seeds)))


if __name__ == "__main__":
    main()
