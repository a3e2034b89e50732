"""Our results as the files that lmms-eval writes, for dashboards that read those."""

import json
from pathlib import Path

from omnicompose.evaluation.journal import file_name, write_atomically
from omnicompose.evaluation.line import Line
from omnicompose.evaluation.results import Results, Row
from omnicompose.evaluation.scoring import read_run, read_samples, score

PREFIX = "omnicompose"
"""Where lmms-eval puts the time: the same results make the same files."""


def write_lmms_files(results_dir: Path) -> list[Path]:
    """Write `lmms-eval/omnicompose_results.json` and a samples file per task and way of asking.

    Args:
        results_dir: a folder of `evaluate`.

    Returns:
        The files written, results first.

    Raises:
        EvaluationError: see `score`.
    """
    results = score(results_dir)
    folder = results_dir / "lmms-eval"
    written = [folder / f"{PREFIX}_results.json"]
    write_atomically(written[0], _dump(_results(results)))
    for lines in read_samples(results_dir, read_run(results_dir)):
        for name, chosen in _ways(lines).items():
            path = folder / f"{PREFIX}_samples_{file_name(name)}.jsonl"
            write_atomically(path, b"".join(_dump(_sample(i, x)) for i, x in enumerate(chosen)))
            written.append(path)
    return written


def _results(results: Results) -> dict[str, object]:
    rows = {
        _name(task, row): row
        for task, result in results.tasks.items()
        for row in result.rows
        if row.score != "official"
    }
    run = results.run
    return {
        "results": {name: _metrics(name, row) for name, row in rows.items()},
        "group_subtasks": {name: [] for name in rows},
        "higher_is_better": {name: {"accuracy": True} for name in rows},
        "configs": {name: {"task": name} for name in rows},
        "versions": {
            _name(task, row): result.version
            for task, result in results.tasks.items()
            for row in result.rows
            if row.score != "official"
        },
        "n-shot": dict.fromkeys(rows, 0),
        "n-samples": {
            name: {"original": row.n + row.errors, "effective": row.n} for name, row in rows.items()
        },
        "config": {
            "model": PREFIX,
            "model_args": f"pretrained={run.model.path}" if run else None,
            "batch_size": run.batch_size if run else None,
            "limit": run.limit if run else None,
        },
    }


def _metrics(name: str, row: Row) -> dict[str, object]:
    return {
        "alias": name,
        "accuracy,none": row.accuracy.value,
        "accuracy_stderr,none": row.accuracy.stderr,
    }


def _name(task: str, row: Row) -> str:
    return f"{task}:{row.group}:{row.subset}:{row.score}"


def _ways(lines: list[Line]) -> dict[str, list[Line]]:
    ways: dict[str, list[Line]] = {}
    for line in lines:
        name = f"{line.task}:{line.group}:{line.subset}:{line.score}".replace(":", "-")
        ways.setdefault(name, []).append(line)
    return ways


def _sample(doc_id: int, line: Line) -> dict[str, object]:
    """One line as lmms-eval 0.7 writes it, field by field."""
    said = line.reply if line.reply is not None else line.answer
    return {
        "doc_id": doc_id,
        "target": line.target,
        "filtered_resps": said or "",
        "token_counts": [None],
        "doc_hash": line.key,
        "accuracy": {"overall": line.correct, "id": line.id, "answer": line.answer},
        "input": line.question,
    }


def _dump(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()
