"""Questions made of captions: answerable together, not from less, the same for the same seed."""

import json
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from evaluation_fakes import FakeAnswerer
from evaluation_media import put

from omnicompose.errors import EvaluationError
from omnicompose.evaluation import EvaluationOptions, Share
from omnicompose.evaluation.building import BuildOptions, Leakage, build_mcub
from omnicompose.evaluation.building.drawing import Drawn, Stock, draw_questions
from omnicompose.evaluation.building.items import Item, read_items
from omnicompose.evaluation.building.leakage import measure_leakage
from omnicompose.evaluation.building.zoo_items import zoo_items
from omnicompose.evaluation.evaluate import ask
from omnicompose.evaluation.tasks import find_tasks

ZOO = Path("zoo")
LABELS = [
    "|".join(words)
    for size in (2, 3)
    for words in combinations(("red", "round", "soft", "small", "loud"), size)
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Leakage, float]:
    out = tmp_path_factory.mktemp("data") / "mcub-built"
    start = time.perf_counter()
    return out, build_mcub(ZOO, out, BuildOptions()), time.perf_counter() - start


def entries(folder: Path) -> list[dict[str, object]]:
    found = json.loads((folder / "MCUB-built.json").read_text())
    assert isinstance(found, list)
    return found


def test_six_hundred_questions_of_the_zoo_need_everything(
    built: tuple[Path, Leakage, float],
) -> None:
    out, leakage, seconds = built
    assert len(entries(out)) == leakage.questions == 600
    assert seconds < 60
    captions, options = leakage.readers["captions"], leakage.readers["options only"]
    assert captions.value is not None
    assert captions.value >= 0.95
    assert options.low is not None
    assert options.high is not None
    assert options.low <= leakage.chance <= options.high
    assert leakage.best_single <= 0.6
    assert json.loads((out / "leakage.json").read_text())["questions"] == 600


def test_wrong_options_are_true_of_some_inputs_and_the_right_one_of_all(tmp_path: Path) -> None:
    modalities = ("image", "audio", "video")
    items = zoo_items(tmp_path, modalities)
    drawn = draw_questions(
        Stock({m: [i for i in items if i.modality == m] for m in modalities}), 60, 3
    )
    for question in drawn:
        counts = [sum(o in i.attributes for i in question.inputs) for o in question.options]
        assert [i for i, count in enumerate(counts) if count == 3] == [question.answer]
        assert min(counts) >= 1
        for item in question.inputs:
            assert sum(option in item.attributes for option in question.options) >= 2
    places = Counter(question.answer for question in drawn)
    assert max(places.values()) <= 26


def test_the_same_seed_makes_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_mcub(ZOO, tmp_path / name, BuildOptions(num_questions=20, seed=seed))
    files = [(tmp_path / name / "MCUB-built.json").read_bytes() for name in "abc"]
    assert files[0] == files[1] != files[2]


def test_what_is_built_is_a_task(built: tuple[Path, Leakage, float], tmp_path: Path) -> None:
    out, _, _ = built
    (task,) = find_tasks(["mcub-built"], out.parent)
    samples = task.samples(tmp_path, None)
    assert len(samples) == 600
    assert samples[0].has_captions
    assert samples[0].can_rotate
    assert samples[0].modalities == ("image", "audio", "video")
    options = EvaluationOptions(out_dir=tmp_path, limit=40, modalities=("all", "captions"))
    results = ask(FakeAnswerer(), [task], options, (tmp_path, Share()))
    assert results is not None
    row = results.tasks["mcub-built"].rows[0]
    assert (row.n, row.errors) == (40, 0)


def test_words_may_come_first(tmp_path: Path) -> None:
    out = tmp_path / "mcub-built"
    build_mcub(ZOO, out, BuildOptions(num_questions=5, style="{choice} ({letter})"))
    (task,) = find_tasks(["mcub-built"], tmp_path)
    sample = task.samples(tmp_path, None)[0]
    assert sample.openings == sample.choices
    assert sample.can_rotate


def write_captions(folder: Path) -> Path:
    rows = ["modality,path,caption,labels"]
    for modality in ("image", "audio"):
        for i, labels in enumerate(LABELS):
            put(folder / f"{modality}{i}.bin", modality, i)
            rows.append(f"{modality},{modality}{i}.bin,A thing.,{labels}")
    path = folder / "captions.csv"
    path.write_text("\n".join(rows))
    return path


def test_any_labelled_media_will_do(tmp_path: Path) -> None:
    leakage = build_mcub(
        write_captions(tmp_path),
        tmp_path / "mcub-built",
        BuildOptions(num_questions=12, modalities=("image", "audio")),
    )
    assert set(leakage.readers) == {"options only", "image alone", "audio alone", "captions"}
    entry = entries(tmp_path / "mcub-built")[0]
    assert entry["modal_inputs"]["vision"][0].startswith("../image")  # type: ignore[index]


def test_captions_become_words_or_what_a_lexicon_makes_of_them(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(
        json.dumps({"modality": "image", "path": "a.png", "caption": "The dog's by a Tree."})
    )
    assert read_items(path)[0].attributes == {"dog's", "tree"}
    lexicon = {"plant": frozenset({"tree"}), "animal": frozenset({"cat"})}
    assert read_items(path, lexicon)[0].attributes == {"plant"}


def test_a_leak_is_found() -> None:
    def item(*attributes: str) -> Item:
        return Item(modality="image", path=Path("x"), caption="", attributes=frozenset(attributes))

    leaky = [
        Drawn(options=("a", "b", "c", "d"), answer=0, inputs=(item("a"), item("a", "b")))
        for _ in range(20)
    ]
    leakage = measure_leakage(leaky)
    assert leakage.readers["options only"].value == 1.0
    assert leakage.best_single == 1.0
    assert leakage.rows()[0]["accuracy"] == 100.0


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (None, {}, "there is no such file; expected CSV or JSONL"),
        ('{"modality": "image", "path": "a"}', {}, "caption: found nothing, expected text"),
        ('{"modality": "smell", "path": "a", "caption": ""}', {}, "expected one of image, audio"),
        ('{"modality": "image", "path": "a", "caption": "x"}', {}, "found no audio, expected"),
        (
            "\n".join(
                f'{{"modality": "{m}", "path": "{m}", "caption": "x"}}' for m in ("image", "audio")
            ),
            {},
            r"found 0 attributes that every modality shows \(none\)",
        ),
    ],
)
def test_captions_that_cannot_be_used(
    text: str | None, options: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(EvaluationError, match=message):
        build_mcub(path, tmp_path / "out", BuildOptions(modalities=("image", "audio")))


def test_options_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"found the modalities 'image'.*two or more"):
        BuildOptions(modalities=("image",))
    with pytest.raises(EvaluationError, match=r"made \d+ questions, expected 9000"):
        build_mcub(
            write_captions(tmp_path),
            tmp_path / "out",
            BuildOptions(num_questions=9000, modalities=("image", "audio")),
        )
    lexicon = tmp_path / "lexicon.json"
    lexicon.write_text("[")
    with pytest.raises(EvaluationError, match="expected a JSON object of attributes"):
        build_mcub(tmp_path / "captions.csv", tmp_path / "out", BuildOptions(lexicon=lexicon))
