"""One of lmms-eval's own tasks on a composite, through the plugin; are its files as ever?

    LMMS_VENV/bin/python benchmarks/lmms_task.py MODEL_DIR [--questions 24]

Run by the Python of lmms-eval's environment, which has omnicompose installed. The task is its
OmniBench, code and settings untouched, asked about the zoo's pictures and sounds in OmniBench's own
columns, since no data can be downloaded here. The last line is JSON; `format_identical` says that
results and sample lines have the fields that lmms-eval writes, in its order, and that
`omnicompose score --lmms-eval` writes the same ones.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import datasets
import lmms_eval
import numpy as np
import soundfile

from omnicompose.zoo.media import held_out_media
from omnicompose.zoo.questions import Question, make_questions

TASK, OURS = "omni_bench", "omni_bench_zoo"
SOURCE = "dataset_path: lmms-lab-audio/Omni_Bench_fix"
SAMPLE_FIELDS = ["doc_id", "target", "filtered_resps", "token_counts", "doc_hash", "accuracy"]
SAMPLE_FIELDS += ["input"]
RESULT_FIELDS = {"results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better"}
RESULT_FIELDS |= {"n-samples", "config"}


def main() -> None:
    """Make the task, run it, look at its files and at ours."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("--questions", type=int, default=24)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        make_task(out / "task", arguments.questions)
        run_lmms_eval(arguments.model_dir, out)
        run_omnicompose(arguments.model_dir, out / "ours", arguments.questions)
        theirs = read_files(next((out / "theirs").rglob("*_results.json")))
        ours = read_files(out / "ours/lmms-eval/omnicompose_results.json")
    is_same = all(
        set(results) >= RESULT_FIELDS and [list(line) for line in lines[:1]] == [SAMPLE_FIELDS]
        for results, lines in (theirs, ours)
    )
    results, lines = theirs
    accuracy = results["results"][OURS]["accuracy,none"]
    print(f"{OURS}: {len(lines)} questions, accuracy {accuracy:.1f} % (chance 25), by lmms-eval")
    print(json.dumps({"questions": len(lines), "accuracy": accuracy, "format_identical": is_same}))


def make_task(folder: Path, count: int) -> None:
    """Lmms-eval's task with other data: its files copied, one line changed in each."""
    rows = [
        make_row(i, q) for i, q in enumerate(make_questions("mcub", ("image", "audio"), count, 5))
    ]
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    datasets.DatasetDict({"train": table}).save_to_disk(folder / "data")
    site = Path(lmms_eval.__file__).parent / "tasks" / TASK
    shutil.copy(site / "utils.py", folder)
    settings = (site / "_default_template_yaml").read_text()
    assert SOURCE in settings
    here = f"dataset_path: {folder / 'data'}\ndataset_kwargs:\n  load_from_disk: True"
    (folder / "_default_template_yaml").write_text(settings.replace(SOURCE, here))
    task = (site / f"{TASK}.yaml").read_text()
    (folder / f"{OURS}.yaml").write_text(task.replace(f'task: "{TASK}"', f'task: "{OURS}"'))


def make_row(index: int, question: Question) -> dict[str, object]:
    """One question in OmniBench's columns."""
    rng = np.random.default_rng(index)
    media = {item.modality: held_out_media().choose(item, rng) for item in question.items}
    sound, rate = soundfile.read(io.BytesIO(media["audio"].data), dtype="float32")
    return {
        "index": index,
        "task type": "Common",
        "audio type": "speech",
        "question": "What do these have in common?",
        "options": list(question.options),
        "answer": question.options[question.answer_index or 0],
        "audio": {"array": sound.tolist(), "sampling_rate": rate},
        "image": {"bytes": media["image"].data, "path": None},
        "audio content": "",
        "image content": "",
    }


def run_lmms_eval(model_dir: Path, out: Path) -> None:
    """As its users do."""
    words = ["--model", "omnicompose", "--model_args", f"pretrained={model_dir}", "--tasks", OURS]
    words += ["--include_path", str(out / "task"), "--batch_size", "8", "--log_samples"]
    run("lmms_eval", *words, "--output_path", str(out / "theirs"))


def run_omnicompose(model_dir: Path, out: Path, count: int) -> None:
    """The same number of questions our way, in their file format."""
    words = ["--tasks", "zoo/image", "--limit", str(count), "--out", str(out)]
    run("omnicompose", "evaluate", str(model_dir), *words)
    run("omnicompose", "score", str(out), "--lmms-eval")


def run(module: str, *words: str) -> None:
    """A program of this environment; what it says is shown if it fails."""
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=offline, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")


def read_files(results: Path) -> tuple[dict[str, dict[str, dict[str, float]]], list[object]]:
    """A results file and the sample lines beside it."""
    (samples, *_) = sorted(results.parent.glob("*_samples_*.jsonl"))
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    return json.loads(results.read_text()), lines


if __name__ == "__main__":
    main()
