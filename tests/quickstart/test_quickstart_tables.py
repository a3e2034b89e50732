"""The quickstart's tables, from answers that were made up so that the numbers are known."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from omnicompose import quickstart
from omnicompose.ask import Answer, Input
from omnicompose.cli import app
from omnicompose.evaluation.line import Line
from omnicompose.evaluation.scoring import samples_path, summarise
from omnicompose.quickstart import MODALITIES, QUESTIONS, experiments
from omnicompose.quickstart_result import ALL, SHOWN, Asked, Kept, QuickstartResult
from omnicompose.shelf import config_path

NUM_QUESTIONS = 40


def answered(task: str, group: str, subset: str, num_right: int) -> list[Line]:
    """Lines of which the first `num_right` are right."""
    return [
        Line(
            key=f"{task} {subset} {index}",
            task=task,
            task_version=1,
            id=f"{index:03}",
            cluster=str(index),
            group=group,
            subset=subset,
            score="letter",
            question="What?",
            media=(),
            num_media_tokens={},
            prompt_sha256="",
            choices=("a", "b", "c", "d"),
            target="A",
            log_likelihoods=(-0.1, -3.0, -3.0, -3.0),
            answer="A" if index < num_right else "B",
            rule="likelihood",
            correct=int(index < num_right),
        )
        for index in range(NUM_QUESTIONS)
    ]


def write_results(folder: Path, lines: list[Line]) -> Path:
    folder.mkdir()
    text = "".join(line.model_dump_json() + "\n" for line in lines)
    samples_path(folder, lines[0].task).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def result(tmp_path: Path) -> QuickstartResult:
    from omnicompose.evaluation import compare

    num_right = dict(zip(SHOWN, (36, 20, 16, 18, 10, 40), strict=True))
    lines = [
        line
        for subset, number in num_right.items()
        for line in answered("zoo/mcub", ALL, subset, number)
    ]
    together = write_results(tmp_path / "own", answered("zoo/image", "image", "image", 38))
    alone = write_results(tmp_path / "alone", answered("zoo/image", "image", "image", 40))
    (row,) = compare(together, alone)
    shown = (Input(modality="image", path="a.png", num_tokens=16, stream="text"),)
    return QuickstartResult(
        out=Path("out"),
        mcub={
            "standard": summarise(lines, seed=0),
            "stressed": summarise(answered("zoo/mcub", ALL, ALL, 22), seed=0),
        },
        kept=[Kept(regime="standard", modality="image", row=row)],
        asked=Asked(answer=Answer(question="What?", answer="A", inputs=shown), right="A. red"),
    )


def test_together_against_each_part(result: QuickstartResult) -> None:
    (_, header, rows), _ = result.tables()
    assert len(header) == len(rows[0]) == 6
    assert [(row[1], row[2], row[3]) for row in rows[:6]] == [
        ("all three", "40", "90.0"),
        ("the picture alone", "40", "50.0"),
        ("the sound alone", "40", "40.0"),
        ("the clip alone", "40", "45.0"),
        ("the text alone", "40", "25.0"),
        ("captions in place of media (oracle)", "40", "100.0"),
    ]
    assert [row[5].split()[0] for row in rows[1:4]] == ["40.0", "50.0", "45.0"]
    assert rows[6][:4] == ("NaiveMC, stressed", "all three", "40", "55.0")


def test_what_is_kept(result: QuickstartResult) -> None:
    _, (_, header, rows) = result.tables()
    assert len(header) == len(rows[0]) == 7
    assert rows[0][:6] == ("image", "standard", "40", "100.0", "95.0", "95.0")
    assert rows[0][6].startswith("-5.0 [")


def test_it_says_what_was_asked_and_where_everything_lies(result: QuickstartResult) -> None:
    assert result.closing().splitlines() == [
        "",
        "Asked with",
        "  image: a.png (16 tokens, text stream)",
        "What?",
        "-> A   (right: A. red)",
        "",
        (
            "The composite lies in out/models/naive-standard, its report in "
            "out/results/naive-standard-mcub/report.html."
        ),
    ]


def test_the_command_breaks_no_path(
    result: QuickstartResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/a/long/path" * 20 + ".wav"
    shown = (Input(modality="audio", path=path, num_tokens=16, stream="text"),)
    answer = replace(result.asked.answer, inputs=shown)
    result = replace(result, asked=replace(result.asked, answer=answer))
    monkeypatch.setattr(quickstart, "run_quickstart", lambda *_, **__: result)
    printed = CliRunner().invoke(app, ["quickstart"]).stdout
    assert f"\n  audio: {path} (16 tokens, text stream)\n" in printed
    assert printed.index("NaiveMC") < printed.index("Asked with")


def test_markdown_holds_both_tables(result: QuickstartResult) -> None:
    lines = result.markdown().splitlines()
    assert lines.count("| " + " | ".join(["---"] * 6) + " |") == 1
    assert lines.count("| " + " | ".join(["---"] * 7) + " |") == 1
    assert "| NaiveMC, stressed | all three | 40 | 55.0 | [38.9, 71.1] |  |" in lines


def test_experiments_use_shipped_recipes_and_have_their_own_folders() -> None:
    assert QUESTIONS >= 400
    assert all(config_path(f"{e.config}.yaml").is_file() for e in experiments())
    folders = [e.results for e in experiments()]
    assert len(folders) == len(set(folders)) == 10
    assert {e.regime for e in experiments()} == {"standard", "stressed"}
    alone = {e.tasks for e in experiments() if "-alone-" in e.config}
    assert alone == {(f"zoo/{modality}",) for modality in MODALITIES}
