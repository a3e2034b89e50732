"""What a benchmark found, for people: results.csv, report.md, pareto.svg."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from omnicompose.benchmark.plot import pareto_svg
from omnicompose.benchmark.rows import METHOD
from omnicompose.benchmark.summary import Standing, Summary
from omnicompose.evaluation.journal import write_atomically
from omnicompose.evaluation.statistics import Estimate

Line = dict[str, object]


def write_report(out: Path, summary: Summary) -> None:
    """Write results.csv, report.md and pareto.svg."""
    write_atomically(out / "results.csv", _csv(results(summary)).encode())
    write_atomically(out / "report.md", markdown(summary).encode())
    write_atomically(out / "pareto.svg", pareto_svg(summary).encode())


def results(summary: Summary) -> list[Line]:
    """One line per row, references first; shares in [0, 1], rows that were not run at the end."""
    lines = [_result(summary, one) for one in summary.standings]
    blank = dict.fromkeys(lines[0])
    skipped = [
        blank | {"row": row.label, "kind": row.kind, "method": row.method, "reason": row.reason}
        for row in summary.skipped
    ]
    return lines + skipped


def _result(summary: Summary, one: Standing) -> Line:
    row, exam = one.row, summary.exam
    return {
        "row": row.label,
        "kind": row.kind,
        "method": row.method,
        "profile": row.profile,
        "parameters": " ".join(f"{name}={value}" for name, value in row.parameters.items()),
        "policy": row.policy,
        "models": " ".join(row.models),
        "rank_low": one.rank[0] if one.rank else None,
        "rank_high": one.rank[1] if one.rank else None,
        **_fields("score", one.score),
        "scale": row.scale,
        "score_at_scale_1": one.plain,
        **_fields("minus_average", one.over_average),
        **_fields("minus_joint", one.over_joint),
        **{task: row.accuracy(task) for task in (*exam.tasks, *exam.skills)},
        **_fields("forgotten", one.forgotten),
        "on_front": one.on_front,
        "data": row.data,
        "seeds": row.seeds,
        "score_of_runs": " ".join(f"{score:.6f}" for score in row.runs),
        "merge_seconds": row.seconds,
        "merge_cpu_seconds": row.cpu_seconds,
        "peak_buffer_bytes": row.peak_bytes,
        "peak_memory_bytes": row.memory_bytes,
        "reason": row.reason,
    }


def _fields(name: str, found: Estimate | None) -> Line:
    values = (None,) * 3 if found is None else (found.value, found.low, found.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _csv(lines: Sequence[Line]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({k: round(v, 6) if isinstance(v, float) else v for k, v in line.items()})
    return stream.getvalue()


def table(summary: Summary) -> list[Line]:
    """The rows in words, for a screen or a page."""
    return [_words(summary, one) for one in summary.standings]


def _words(summary: Summary, one: Standing) -> Line:
    row, exam = one.row, summary.exam
    line: Line = {
        "rank": "" if one.rank is None else _rank(one.rank),
        "row": row.label,
        "score": _interval(one.score),
        "minus average": _interval(one.over_average, signed=True),
    }
    if one.over_joint is not None:
        line["minus joint"] = _interval(one.over_joint, signed=True)
    if _tuned(summary):
        line |= {"scale": f"{row.scale:g}", "at scale 1": f"{100 * one.plain:.1f}"}
    line |= {_short(task): f"{100 * row.accuracy(task):.1f}" for task in exam.tasks}
    if one.skill is not None:
        line["base's skill"] = f"{100 * (one.skill.value or 0):.1f}"
    if one.forgotten is not None:
        line["forgotten"] = _interval(one.forgotten, signed=True)
    if any(other.row.data for other in summary.standings):
        line["data"] = row.data or "none"
    line["CPU s"] = f"{row.cpu_seconds:.2f}"
    line["peak MB"] = f"{(row.memory_bytes or row.peak_bytes) / 1e6:.1f}"
    return line


def markdown(summary: Summary) -> str:
    """The table, what it shows, and what was not run."""
    lines = table(summary)
    names = list(lines[0])
    body = ["| " + " | ".join(str(line[name]) for name in names) + " |" for line in lines]
    head = "| " + " | ".join(names) + " |"
    rule = "| " + " | ".join("---" for _ in names) + " |"
    parts = [
        f"# {summary.suite}",
        "\n".join([head, rule, *body]),
        "\n".join(findings(summary)),
        "![score against what is kept of the base, and against the cost of the merge](pareto.svg)",
    ]
    return "\n\n".join(parts) + "\n"


def findings(summary: Summary) -> list[str]:
    """What the table shows, in sentences."""
    ranked = [one for one in summary.standings if one.row.kind == METHOD]
    best = ranked[0].row.label
    tied = [label for label in summary.ties[best] if label != best]
    exam, level = summary.exam, ", ".join(tied) or "no other row"
    above = ", ".join(summary.above_average) or "no row"
    asked = f"{exam.num_questions} questions, {len(exam.tasks)} tasks that count alike"
    found = [
        f"- {asked}; 95 % intervals, paired by question, clustered by medium.",
        f"- Highest score: {best}. Not shown to differ from it (all pairs, Holm): {level}.",
        f"- Shown to be above the plain weight average (all rows, Holm): {above}.",
    ]
    if any(one.over_joint is not None for one in ranked):
        reached = [one.row.label for one in ranked if one.row.label not in summary.below_joint]
        found.append(
            "- Not shown to be below joint training (all rows, Holm): "
            f"{', '.join(reached) or 'no row'}."
        )
    if front := [one.row.label for one in ranked if one.on_front]:
        found.append(f"- On the front of score and the base's skill: {', '.join(front)}.")
    if shown := sorted({one.row.data for one in ranked if one.row.data}):
        numbers = " or ".join(sorted({one.partition(" ")[0] for one in shown}, key=int))
        found.append(
            f"- Methods that look at data were shown {numbers} questions of the models' own tasks, "
            "on media that nothing is ranked by; their time and memory include it."
        )
    return found + [f"- Not run: {row.label}: {row.reason}" for row in summary.skipped]


def _tuned(summary: Summary) -> bool:
    return any(one.row.tried for one in summary.standings)


def _short(task: str) -> str:
    return task.partition("/")[2] or task


def _rank(rank: tuple[int, int]) -> str:
    return str(rank[0]) if rank[0] == rank[1] else f"{rank[0]}-{rank[1]}"


def _interval(found: Estimate, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    value = f"{100 * (found.value or 0.0):{sign}.1f}"
    if found.low is None or found.high is None:
        return value
    return f"{value} [{100 * found.low:{sign}.1f}, {100 * found.high:{sign}.1f}]"
