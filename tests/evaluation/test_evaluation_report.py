"""The page must hold what was found, and nothing from outside."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from evaluation_fakes import FakeAnswerer, FakeTask, noise, random_letter

from omnicompose.errors import EvaluationError
from omnicompose.evaluation import compare, write_report
from omnicompose.evaluation.answerer import Prompt
from omnicompose.evaluation.evaluate import ask
from omnicompose.evaluation.examples import show
from omnicompose.evaluation.line import MediumRecord
from omnicompose.evaluation.options import EvaluationOptions
from omnicompose.evaluation.plots import interval_plot, lattice
from omnicompose.evaluation.runner import Share
from omnicompose.evaluation.statistics import Estimate, coalitions


def knows_more_with_more(prompt: Prompt) -> str:
    known = noise(prompt.text) < (0.3, 0.5, 0.95, 0.97)[len(prompt.media)]
    return prompt.text.split("right=")[1][0] if known else random_letter(prompt)


def write_results(out: Path, answerer: FakeAnswerer, task: FakeTask, **changes: object) -> Path:
    options = EvaluationOptions(out_dir=out, modalities=("subsets", "captions"))
    chosen = replace(options, **changes)  # type: ignore[arg-type]
    assert ask(answerer, [task], chosen, (Path("models/omni"), Share())) is not None
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    write_results(
        out / "all",
        FakeAnswerer(say=knows_more_with_more),
        FakeTask(num=60),
        scores=("letter", "generate"),
    )
    write_results(out / "expert", FakeAnswerer(digest="expert"), FakeTask(num=60))
    write_report(out / "all", {"image": out / "expert"})
    return out


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "all/report.html").read_text(encoding="utf-8")


def test_the_page_needs_no_network_and_no_script(page: str) -> None:
    assert "<script" not in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert "url(" not in page
    assert not re.search(r"https?://", page)


def test_the_page_follows_light_and_dark_and_prints(page: str) -> None:
    for rule in ("prefers-color-scheme: dark", "@media print", 'name="viewport"'):
        assert rule in page


@pytest.mark.parametrize(
    "wanted",
    [
        "fake/common",
        "95 % interval",
        "chance 25.0",
        "Together they are better than each alone",
        "Shapley values",
        "Synergy",
        "could have seen",
        "Rescued",
        "0 errors, 0 unparsed",
        "What is kept of each expert",
        "data:application/octet-stream;base64,",
        "most likely letter",
        "generated reply, parsed",
    ],
)
def test_the_page_holds(page: str, wanted: str) -> None:
    assert wanted in page


def test_every_row_is_in_both_reports(folder: Path, page: str) -> None:
    markdown = (folder / "all/report.md").read_text(encoding="utf-8")
    for subset in ("image+audio", "image", "audio", "none", "captions"):
        assert f"| image+audio | {subset} | letter | 60 |" in markdown
        assert f"<title>{subset}: " in page
    assert "## Retention" in markdown


def test_plots_keep_inside_their_drawing(page: str) -> None:
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        width = float(re.findall(r'viewBox="0 0 (\d+)', svg)[0])
        for x in re.findall(r' (?:cx|x1|x2)="([\d.-]+)"', svg):
            assert 0 <= float(x) <= width


def test_reports_are_the_same_every_time(folder: Path, page: str) -> None:
    write_report(folder / "all", {"image": folder / "expert"})
    assert (folder / "all/report.html").read_text(encoding="utf-8") == page


def test_text_of_questions_cannot_become_markup(tmp_path: Path) -> None:
    class Rude(FakeTask):
        def samples(self, media_dir: Path, limit: int | None) -> list:  # type: ignore[type-arg]
            return [
                replace(s, content=(*s.content, "<img src=x>"), choices=("<b>", "&", "c", "d"))
                for s in super().samples(media_dir, limit)
            ]

    write_results(tmp_path, FakeAnswerer(say=knows_more_with_more), Rude(num=60))
    assert "<img src=x>" not in write_report(tmp_path).read_text(encoding="utf-8")


def test_errors_and_cautions_are_shown(tmp_path: Path) -> None:
    guess = FakeAnswerer(say=lambda p: p.text.split("right=")[1][0])
    write_results(
        tmp_path, guess, FakeTask(num=30, missing=(3,)), allow_errors=9, scores=("generate",)
    )
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "the text alone already reaches 100.0 %" in page
    assert "1 questions had unreadable media; the row is partial" in page
    assert "audio3.bin" in page


def test_one_modality_needs_no_complement(tmp_path: Path) -> None:
    write_results(tmp_path, FakeAnswerer(), FakeTask(modalities=("image",)))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Shapley values, points" not in page
    assert "Given the picture" in page


def test_comparison_is_paired_and_corrected(folder: Path) -> None:
    rows = compare(folder / "all", folder / "expert")
    assert {row.subset for row in rows} == {"image+audio", "image", "audio", "none", "captions"}
    full = next(row for row in rows if row.subset == "image+audio")
    assert full.value_a > full.value_b
    assert full.comparison.difference.value == pytest.approx(full.value_a - full.value_b)
    assert full.comparison.p_holm is not None
    assert full.comparison.p_holm >= (full.comparison.p_value or 0)
    assert full.is_kept()
    worse = next(r for r in compare(folder / "expert", folder / "all") if r.subset == "image+audio")
    assert not worse.is_kept()


def test_other_questions_or_prompts_are_not_compared(folder: Path, tmp_path: Path) -> None:
    fewer = write_results(tmp_path / "fewer", FakeAnswerer(), FakeTask(num=59))
    with pytest.raises(EvaluationError, match=r"1 questions were put to one model only.*q0059"):
        compare(folder / "all", fewer)

    class Polite(FakeAnswerer):
        def render(self, contents):  # type: ignore[no-untyped-def]
            return [f"Please. {text}" for text in super().render(contents)]

    polite = write_results(tmp_path / "polite", Polite(), FakeTask(num=60))
    with pytest.raises(EvaluationError, match="question q0000 has different prompts"):
        compare(folder / "all", polite)
    spec = replace(FakeTask().spec, name="fake/other")
    other = write_results(tmp_path / "other", FakeAnswerer(), FakeTask(spec=spec))
    with pytest.raises(EvaluationError, match="share no task"):
        compare(folder / "all", other)


def test_media_become_data_uris_or_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(b"sound")
    found = show(MediumRecord(modality="audio", uri="a.flac", sha256=""), tmp_path)
    assert found.uri == "data:audio/flac;base64,c291bmQ="
    gone = show(MediumRecord(modality="image", uri="b.png", sha256=""), tmp_path)
    assert (gone.uri, gone.name) == (None, "b.png")


def test_a_lattice_of_four_modalities_has_sixteen_places_that_do_not_overlap() -> None:
    order = ("image", "audio", "video", "point")
    drawing = lattice("x", {s: len(s) / 4 for s in coalitions(order)}, order)
    assert len({(node.x, node.y) for node in drawing.nodes}) == 16
    assert len(drawing.edges) == 32
    assert {edge.text.split(": ")[1] for edge in drawing.edges} == {"+25.0 points"}


def test_an_axis_of_differences_holds_every_interval_and_zero() -> None:
    value = Estimate(value=-0.2, stderr=0.1, low=-0.4, high=0.0, method="t", n=9, clusters=9)
    plot = interval_plot("x", [("image", value)], signed=True)
    assert plot.ticks[0][1] == "-40"
    assert plot.marks[0].low is not None
    assert plot.ticks[0][0] <= plot.marks[0].low < plot.marks[0].x < plot.zero
