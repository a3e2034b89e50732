"""The benchmarks read from their authors' files: exact prompts, strict readers, honest scores."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from evaluation_fakes import FakeAnswerer
from evaluation_folders import FOLDERS, write_folders

from omnicompose.errors import EvaluationError
from omnicompose.evaluation import TASKS, EvaluationOptions, Share
from omnicompose.evaluation.evaluate import ask
from omnicompose.evaluation.official import OFFICIAL
from omnicompose.evaluation.sample import Sample
from omnicompose.evaluation.subsets import Subset, view
from omnicompose.evaluation.tasks import find_tasks
from omnicompose.evaluation.tasks.files import FileTask

GOLDEN = {
    "mcub3/image-audio-video": ("image+audio+video", "A", 4, 2, "5cb2084214ca"),
    "mcub3/audio-video-pointcloud": ("audio+video+point", "A", 4, 2, "dec61bc5cfb6"),
    "mcub3/image-audio-pointcloud": ("image+audio+point", "A", 4, 2, "4db279b97cb2"),
    "mcub3/image-video-pointcloud": ("image+video+point", "A", 4, 2, "706c23fc2e81"),
    "mcub4": ("image+audio+video+point", "A", 4, 2, "4c442c6a5e23"),
    "avqa": ("audio+video", "B", 4, 2, "b3c035c9419e"),
    "music-avqa": ("audio+video", "A", 2, 2, "8016a8885a36"),
    "modelnet40": ("point", "airplane", 40, 2, "d2c0d3f23417"),
    "objaverse/caption": ("point", "A", 1, 4, "18f34e1bc595"),
    "objaverse/choose": ("point", "B", 4, 4, "6c66df0b85b6"),
    "omnibench": ("image+audio", "A", 4, 2, "4a7d94d60ebe"),
    "daily-omni": ("audio+video", "A", 4, 2, "39a66ab69c13"),
    "avhbench": ("audio+video", "B", 2, 3, "ff8ddddbbc5f"),
    "worldsense": ("audio+video", "B", 4, 2, "551d233229cf"),
    "pope": ("image", "A", 2, 4, "9da556545f3e"),
    "mmau": ("audio", "B", 4, 1, "64d2a0650c0d"),
    "nextqa": ("video", "C", 5, 1, "88f68572f4f6"),
}
"""Modalities, right label, options and questions of each, and the first prompt's sha256."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("data"))


def samples_of(name: str, data: Path) -> list[Sample]:
    return list(find_tasks([name], data)[0].samples(data / "made", None))


def turn(sample: Sample, *modalities: str) -> str:
    content = view(sample, Subset(modalities=modalities or sample.modalities))
    return "".join(p if isinstance(p, str) else f"<{p.modality}>" for p in content)


def test_every_benchmark_of_a_file_is_checked() -> None:
    assert set(GOLDEN) == set(FOLDERS)
    read = {name for name, task in TASKS.items() if isinstance(task, FileTask)}
    assert set(GOLDEN) | {"mcub-built"} == read


@pytest.mark.parametrize("name", GOLDEN)
def test_first_prompt_is_byte_for_byte_what_it_was(name: str, data: Path) -> None:
    samples = samples_of(name, data)
    first = samples[0]
    digest = hashlib.sha256(turn(first).encode()).hexdigest()[:12]
    found = "+".join(first.modalities), first.target, len(first.choices), len(samples), digest
    assert found == GOLDEN[name]
    assert len({sample.id for sample in samples}) == len(samples)
    assert all(medium.path.is_file() for sample in samples for medium in sample.media)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_silent_model_scores_nothing_on_files_either(
    name: str, data: Path, tmp_path: Path
) -> None:
    options = EvaluationOptions(out_dir=tmp_path, scores=("generate",), data_dir=data)
    silent = FakeAnswerer(say=lambda prompt: "")
    results = ask(silent, find_tasks([name], data), options, (Path("silent"), Share()))
    assert results is not None
    rows = results.tasks[name].rows
    assert {row.accuracy.value for row in rows} == {0.0}
    assert {row.errors for row in rows} == {0}
    official = TASKS[name].spec.official
    assert any(row.score == "official" for row in rows) == (official is not None)
    assert official is None or official in OFFICIAL


@pytest.mark.parametrize("name", GOLDEN)
def test_what_is_missing_is_said_before_any_work(name: str, data: Path, tmp_path: Path) -> None:
    task = TASKS[name]
    with pytest.raises(EvaluationError, match="no folder is named; expected"):
        task.samples(tmp_path, None)
    (there,) = find_tasks([name], tmp_path)
    with pytest.raises(EvaluationError, match=r"is no folder; expected .*--data"):
        there.samples(tmp_path, None)
    (tmp_path / name.split("/")[0]).mkdir()
    with pytest.raises(EvaluationError, match="holds no "):
        there.samples(tmp_path, None)


def test_a_family_is_named_by_its_first_word() -> None:
    assert len(find_tasks(["mcub3"])) == 4
    assert [task.spec.name for task in find_tasks(["objaverse"])] == [
        "objaverse/caption",
        "objaverse/choose",
    ]


def test_a_checksum_is_held_against_the_file(data: Path) -> None:
    (task,) = find_tasks(["nextqa"], data)
    assert isinstance(task, FileTask)
    path = data / "nextqa/test.csv"
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert replace(task, spec=replace(task.spec, checksum=right)).samples(data, None)
    with pytest.raises(EvaluationError, match=r"another file than the one that was published"):
        replace(task, spec=replace(task.spec, checksum="0" * 64)).samples(data, None)


@pytest.mark.parametrize(
    ("name", "file_name", "field", "value", "message"),
    [
        ("avqa", "val_qa.json", "answer", "last", r"entry 0: answer: found 'last', expected a who"),
        ("avqa", "val_qa.json", "multi_choice", "one", "expected a list of texts"),
        ("avqa", "val_qa.json", "question_text", None, "found nothing, expected text"),
        ("avqa", "val_qa.json", "question_relation", "Smell", "expected one of View, Sound, Both"),
        ("music-avqa", "avqa-test.json", "templ_values", "[]", "expected one for each place"),
        ("daily-omni", "qa.json", "Answer", "E", "found 'E', expected one of A, B, C, D"),
        ("modelnet40", "modelnet40-test.json", "modal_inputs", 3, "expected an entry with fields"),
        ("modelnet40", "modelnet40-test.json", "id", 1.5, "expected text or a number"),
        ("mcub4", "MCUB-4.json", "conversations", "no", "expected a list of entries"),
        ("mcub4", "MCUB-4.json", "id", "elsewhere", "expected one that MCUB-answer.json answers"),
        ("mcub4", "MCUB-4.json", "modal_inputs", {}, "a tag <image> more than modal_inputs"),
    ],
)
def test_a_damaged_entry_is_named(
    name: str, file_name: str, field: str, value: object, message: str, tmp_path: Path
) -> None:
    folder = tmp_path / name
    FOLDERS[name](folder)
    entries = json.loads((folder / file_name).read_text())
    entries[0][field] = value
    (folder / file_name).write_text(json.dumps(entries))
    with pytest.raises(EvaluationError, match=message):
        samples_of(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "file_name", "text", "message"),
    [
        ("avqa", "val_qa.json", "{", "found no JSON"),
        ("avqa", "val_qa.json", "{}", "found no JSON list"),
        ("avqa", "val_qa.json", "[1]", "entry 0: found no JSON object"),
        ("worldsense", "worldsense_qa.json", "[]", "found no JSON object, expected one entry per"),
        ("pope", "coco_pope_random.json", "yes\n", "random.json:1: found no JSON object"),
        ("nextqa", "test.csv", "video\nx\n", "test.csv:2: qid: found nothing"),
    ],
)
def test_a_file_that_is_something_else_is_refused(
    name: str, file_name: str, text: str, message: str, tmp_path: Path
) -> None:
    FOLDERS[name](tmp_path / name)
    (tmp_path / name / file_name).write_text(text)
    with pytest.raises(EvaluationError, match=message):
        samples_of(name, tmp_path)


def test_more_media_than_tags_or_an_answer_out_of_range(tmp_path: Path) -> None:
    folder = tmp_path / "mcub4"
    FOLDERS["mcub4"](folder)
    entries = json.loads((folder / "MCUB-4.json").read_text())
    entries[0]["modal_inputs"]["vision"].append("b.png")
    (folder / "MCUB-4.json").write_text(json.dumps(entries))
    with pytest.raises(EvaluationError, match="found 1 more media than tags"):
        samples_of("mcub4", tmp_path)
    key = json.loads((folder / "MCUB-answer.json").read_text())
    key[1]["conversations"][-1]["value"] = "E"
    (folder / "MCUB-answer.json").write_text(json.dumps(key))
    with pytest.raises(EvaluationError, match="found 4 options and the answer 'E'"):
        entries[0]["modal_inputs"]["vision"].pop()
        (folder / "MCUB-4.json").write_text(json.dumps(entries))
        samples_of("mcub4", tmp_path)


def test_a_tag_goes_with_its_line_and_the_prompt_with_what_is_given(data: Path) -> None:
    mcub = samples_of("mcub4", data)[0]
    assert turn(mcub, "audio").startswith("<audio>\nWhich of these")
    omnibench = samples_of("omnibench", data)[0]
    assert turn(omnibench, "audio").startswith("<audio>Please answer the following question based")
    assert "given audio:\nWhat are" in turn(omnibench, "audio")
    assert omnibench.has_captions


def test_worldsense_is_asked_with_its_authors_bytes(data: Path) -> None:
    sample = samples_of("worldsense", data)[0]
    opening, rest = turn(sample).split("<video><audio>")
    assert opening == (
        "Carefully watch this video and pay attention to every detail. Based on your "
        "observations, select the best option that accurately addresses the question."
    )
    assert rest == (
        "\nThese are the frames of a video and the corresponding audio. Select the best answer to "
        "the following multiple-choice question based on the video. Respond with only the letter "
        "(A, B, C, or D) of the correct option.\nQuestion: How many bells ring?\nA. One.\nB. Two."
        "\nC. Three.\nD. Four.\nAnswer: "
    )
    assert "<video>\nThese are the frames of a video. Select" in turn(sample, "video")
    assert "<audio>\nSelect the best answer" in turn(sample, "audio")


def test_what_benchmarks_call_their_questions_is_kept(data: Path) -> None:
    assert {s.category for s in samples_of("daily-omni", data)} == {
        "AV Event Alignment",
        "Inference",
    }
    assert [len(s.choices) for s in samples_of("worldsense", data)] == [4, 3]
    assert {s.category for s in samples_of("pope", data)} == {"random", "popular"}


def test_a_clip_lends_its_sound(data: Path, tmp_path: Path) -> None:
    options = EvaluationOptions(out_dir=tmp_path, data_dir=data, modalities=("audio",))
    results = ask(FakeAnswerer(), find_tasks(["avqa"], data), options, (Path("x"), Share()))
    assert results is not None
    assert results.num_errors == 0
    assert {p.suffix for p in (tmp_path / "media").iterdir()} == {".wav"}


def test_words_have_no_letter_score(data: Path, tmp_path: Path) -> None:
    options = EvaluationOptions(out_dir=tmp_path, data_dir=data, scores=("letter",))
    with pytest.raises(EvaluationError, match="music-avqa: its answers are words, not letters"):
        ask(FakeAnswerer(), find_tasks(["music-avqa"], data), options, (Path("x"), Share()))


def test_kinds_of_answers_end_up_in_the_results(data: Path, tmp_path: Path) -> None:
    options = EvaluationOptions(out_dir=tmp_path, data_dir=data, scores=("letter", "generate"))
    names = ["avhbench", "music-avqa", "objaverse/caption", "modelnet40"]
    yes = FakeAnswerer(say=lambda p: "Yes" if "visible" in p.text else "the chair is wooden")
    results = ask(yes, find_tasks(names, data), options, (Path("x"), Share()))
    assert results is not None
    (judged,) = [r for r in results.tasks["avhbench"].rows if r.score == "generate"]
    assert judged.binary is not None
    assert (judged.binary.precision, judged.binary.recall) == (1.0, 0.5)
    assert {row.score for row in results.tasks["music-avqa"].rows} == {"generate"}
    (caption,) = results.tasks["objaverse/caption"].rows
    assert caption.chance is None
    assert 0 < (caption.accuracy.value or 0) < 1
    categories = {row.category for row in results.tasks["avhbench"].categories}
    assert "AV Matching" in categories
