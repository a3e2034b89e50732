"""A real composite with random weights: the fast way to ask must be a user's way to ask."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evaluation_folders import FOLDERS, write_folders
from evaluation_tiny import write_tiny

from omnicompose.errors import EvaluationError
from omnicompose.evaluation import TASKS, EvaluationOptions, Share, evaluate
from omnicompose.evaluation.answerer import Prepared, Prompt, Unreadable
from omnicompose.evaluation.composite import Composite
from omnicompose.evaluation.controls import prepare_media
from omnicompose.evaluation.evaluate import ask
from omnicompose.evaluation.loading import folder_digest, load_composite
from omnicompose.evaluation.sample import Medium, Sample
from omnicompose.evaluation.subsets import Content, Subset, subsets_of, view
from omnicompose.evaluation.tasks import find_tasks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "omni")


@pytest.fixture(scope="module")
def composite(folder: Path) -> Composite:
    return load_composite(folder, "cpu", "auto")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return list(TASKS["zoo/mcub"].samples(tmp_path_factory.mktemp("media"), 2))


@pytest.fixture(scope="module")
def prompts(composite: Composite, samples: list[Sample]) -> list[Prompt]:
    contents = [
        view(sample, subset)
        for sample in samples
        for subset in subsets_of(sample, ["subsets", "captions"])
    ]
    return make_prompts(composite, contents)


def make_prompts(composite: Composite, contents: list[Content]) -> list[Prompt]:
    texts = composite.render(contents)
    return [Prompt(content=c, text=t) for c, t in zip(contents, texts, strict=True)]


def prepared(composite: Composite, prompts: list[Prompt]) -> list[Prepared]:
    found = composite.prepare(prompts)
    assert all(isinstance(outcome, Prepared) for outcome in found)
    return [outcome for outcome in found if isinstance(outcome, Prepared)]


@torch.inference_mode()
def test_letters_are_those_of_a_users_own_forward_pass(
    composite: Composite, prompts: list[Prompt]
) -> None:
    tokenizer = composite.processor.tokenizer
    scores = composite.letter_log_likelihoods(prepared(composite, prompts), 4)
    for prompt, found in zip(prompts[::5], scores[::5], strict=True):
        logits = composite.model(**composite.model_inputs([prompt.content])).logits[0, -1]
        ids = [[tokenizer.convert_tokens_to_ids(t) for t in ("A", "B", "C", "D")]]
        spaced = [tokenizer(f" {letter}")["input_ids"] for letter in "ABCD"]
        if all(len(token_ids) == 1 for token_ids in spaced):
            ids.append([token_ids[0] for token_ids in spaced])
        expected = logits.log_softmax(-1)[torch.tensor(ids)].logsumexp(0)
        assert found == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_batch_of_sixteen_gives_the_letters_of_one_by_one(
    composite: Composite, prompts: list[Prompt]
) -> None:
    ready = prepared(composite, prompts)[:16]
    together = composite.letter_log_likelihoods(ready, 4)
    alone = [composite.letter_log_likelihoods([prompt], 4)[0] for prompt in ready]
    for first, second in zip(together, alone, strict=True):
        assert first == pytest.approx(second, abs=1e-4)
        assert first.index(max(first)) == second.index(max(second))


def test_replies_are_those_of_a_users_own_generation(
    composite: Composite, prompts: list[Prompt]
) -> None:
    chosen = prompts[:3]
    replies = composite.generate(prepared(composite, chosen), max_new_tokens=5)
    for prompt, reply in zip(chosen, replies, strict=True):
        inputs = composite.model_inputs([prompt.content])
        said = composite.model.generate(**inputs, max_new_tokens=5, do_sample=False)
        said = said[:, inputs["input_ids"].shape[1] :]
        assert composite.processor.tokenizer.batch_decode(said, skip_special_tokens=True) == [reply]


def test_letters_and_replies_of_one_pass_are_those_of_two(
    composite: Composite, prompts: list[Prompt]
) -> None:
    ready = prepared(composite, prompts)
    letters, replies = zip(*composite.answer(ready, 4, 5), strict=True)
    assert list(letters) == composite.letter_log_likelihoods(ready, 4)
    assert list(replies) == composite.generate(ready, 5)


def test_every_medium_goes_through_its_encoder_once(folder: Path, samples: list[Sample]) -> None:
    fresh = load_composite(folder, "cpu", "float32")
    full = [view(sample, Subset(modalities=sample.modalities)) for sample in samples]
    for _ in range(2):
        prepared(fresh, make_prompts(fresh, full))
    media = {medium.sha256 for sample in samples for medium in sample.media}
    assert fresh.cache.num_encoded == len(media)


def test_a_file_that_is_no_medium_is_that_questions_error(
    composite: Composite, samples: list[Sample], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    medium = Medium(modality="image", path=broken, sha256="broken")
    good = samples[0].media[0]
    outcomes = composite.prepare(make_prompts(composite, [(medium, "what?"), (good, "what?")]))
    assert isinstance(outcomes[0], Unreadable)
    assert "broken.png" in outcomes[0].reason
    assert isinstance(outcomes[1], Prepared)


def test_a_modality_that_the_model_lacks_is_refused(tmp_path: Path, samples: list[Sample]) -> None:
    deaf = load_composite(write_tiny(tmp_path / "deaf", modalities=("image",)), "cpu", "auto")
    content = view(samples[0], Subset(modalities=("audio",)))
    with pytest.raises(EvaluationError, match="shows audio, but this model has image only"):
        deaf.prepare([Prompt(content=content, text="")])


def test_a_question_that_spells_a_placeholder_is_refused(
    composite: Composite, samples: list[Sample]
) -> None:
    picture = next(m for m in samples[0].media if m.modality == "image")
    with pytest.raises(EvaluationError, match="found other placeholders"):
        composite.prepare(make_prompts(composite, [(picture, "what is <image>?")]))


def test_evaluation_from_folder_to_results(folder: Path, tmp_path: Path) -> None:
    options = EvaluationOptions(
        out_dir=tmp_path, modalities=("all", "none"), scores=("letter", "generate"), limit=3
    )
    results = evaluate(folder, ["zoo/image", "zoo/audio"], options)
    assert {name: task.questions for name, task in results.tasks.items()} == {
        "zoo/image": 3,
        "zoo/audio": 3,
    }
    assert results.run is not None
    assert results.run.model.dtype == "float32"
    assert results.num_errors == 0
    again = evaluate(folder, ["zoo/image", "zoo/audio"], replace(options, batch_size=2))
    assert again.tasks == results.tasks


def test_media_are_encoded_once_for_all_subsets_scores_and_orders(
    folder: Path, tmp_path: Path
) -> None:
    counted = load_composite(folder, "cpu", "auto")
    options = EvaluationOptions(
        out_dir=tmp_path,
        limit=3,
        modalities=("subsets", "captions"),
        scores=("letter", "generate"),
        rotations=2,
    )
    tasks = find_tasks(["zoo/mcub", "zoo/image"])
    assert ask(counted, tasks, options, (folder, Share())) is not None
    shown = {m.sha256 for task in tasks for s in task.samples(tmp_path, 3) for m in s.media}
    assert counted.cache.num_encoded == len(shown)


def test_a_composite_replaced_at_its_path_is_asked_anew(tmp_path: Path) -> None:
    options = EvaluationOptions(out_dir=tmp_path / "out", limit=8, scores=("letter",))
    said = []
    for seed in (0, 1, 0):
        write_tiny(tmp_path / "omni", seed=seed, modalities=("image",))
        evaluate(tmp_path / "omni", ["zoo/image"], options)
        said.append((tmp_path / "out/samples_zoo_image.jsonl").read_bytes())
    assert said[0] == said[2] != said[1]
    journal = (tmp_path / "out/journal/zoo_image.rank0.jsonl").read_bytes()
    assert journal.count(b"\n") == 16


def test_the_digest_is_of_the_content_not_of_the_path(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert folder_digest(copy) == folder_digest(folder)
    (copy / "manifest.json").write_text('{"time": "now"}')
    (copy / "README.md").write_text("words")
    assert folder_digest(copy) == folder_digest(folder)
    weights = copy / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert folder_digest(copy) != folder_digest(folder)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"config\.json is missing"):
        load_composite(tmp_path, "cpu", "auto")


def test_published_benchmarks_are_asked_as_any_user_would(
    composite: Composite, tmp_path: Path
) -> None:
    data = write_folders(tmp_path / "data")
    with_points = ("pointcloud", "mcub4", "modelnet40", "objaverse")  # this composite has none
    names = [name for name in FOLDERS if not any(word in name for word in with_points)]
    for task in find_tasks(names, data):
        chosen = task.samples(tmp_path, None)[:1]
        ready = prepare_media(chosen, ("all",), tmp_path / "media", 0)
        contents = [
            view(sample, subset) for sample in ready for subset in subsets_of(sample, ["subsets"])
        ]
        for outcome in composite.prepare(make_prompts(composite, contents)):
            assert isinstance(outcome, Prepared), (task.spec.name, outcome)
