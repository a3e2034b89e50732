"""Letter scoring over all modality subsets against one generated reply at a time, on one model.

    python benchmarks/evaluation_speed.py MODEL_DIR [--limit 40]

Both read the same media files and ask the same questions in the same run. The peer is what a user
writes first: processor, `generate`, next question. The last line is JSON; `speedup` is to be 5 or
more.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from omnicompose.evaluation import TASKS, EvaluationOptions, evaluate
from omnicompose.evaluation.loading import load_composite
from omnicompose.evaluation.subsets import subsets_of, view

TASK = "zoo/mcub"
SUBSETS = ("subsets", "captions")


def main() -> None:
    """Time both ways and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("--limit", type=int, default=40, help="questions per set of modalities")
    parser.add_argument("--peer_questions", type=int, default=60, help="asked one at a time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours = letter_rate(arguments.model_dir, Path(folder), arguments.limit)
        peer = one_by_one_rate(arguments.model_dir, Path(folder), arguments.peer_questions)
    print(f"{'letter scores, batched, all subsets':40}{ours:10.1f} questions/s")
    print(f"{'one generated reply at a time':40}{peer:10.1f} questions/s")
    print(json.dumps({"questions_per_s": ours, "peer_per_s": peer, "speedup": ours / peer}))


def letter_rate(model_dir: Path, folder: Path, limit: int) -> float:
    """Questions per second of `evaluate`, loading, media, statistics and files included."""
    options = EvaluationOptions(out_dir=folder / "results", modalities=SUBSETS, limit=limit)
    TASKS[TASK].samples(folder / "media", limit)  # drawing the questions is neither side's work
    start = time.perf_counter()
    results = evaluate(model_dir, [TASK], options)
    seconds = time.perf_counter() - start
    return sum(row.n for row in results.tasks[TASK].rows) / seconds


@torch.inference_mode()
def one_by_one_rate(model_dir: Path, folder: Path, num_questions: int) -> float:
    """Questions per second of processor and `generate`, loading not included."""
    composite = load_composite(model_dir, "cpu", "auto")
    samples = TASKS[TASK].samples(folder / "media", num_questions)
    contents = [view(s, subset) for s in samples for subset in subsets_of(s, SUBSETS)]
    chosen = contents[:: max(1, len(contents) // num_questions)][:num_questions]
    start = time.perf_counter()
    for content in chosen:
        inputs = composite.model_inputs([content])
        composite.model.generate(
            **inputs, max_new_tokens=TASKS[TASK].spec.max_new_tokens, do_sample=False
        )
    return len(chosen) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
