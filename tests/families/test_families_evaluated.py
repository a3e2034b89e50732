"""Composites of real families, evaluated, asked and tuned: the fast way is a user's own way."""

from pathlib import Path

import pytest
import torch
from families_all import Shelf

from omnicompose.ask import ask
from omnicompose.evaluation import TASKS, EvaluationOptions, evaluate
from omnicompose.evaluation.answerer import Prepared, Prompt
from omnicompose.evaluation.composite import Composite
from omnicompose.evaluation.loading import load_composite
from omnicompose.evaluation.sample import LETTERS, Medium, Sample
from omnicompose.evaluation.subsets import Subset, view
from omnicompose.plan import make_plan
from omnicompose.recipe import read_compose_recipe
from omnicompose.tuning.objectives import entropy, signature
from omnicompose.tuning.remerge import Remerger

pytestmark = pytest.mark.filterwarnings("ignore")

PAIRS = [
    {"image": "Qwen2_5_VL", "audio": "Qwen2Audio"},  # positions in three rows
    {"image": "InternVL", "video": "VideoLlama3"},  # words between the frames of a clip
]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return list(TASKS["zoo/mcub"].samples(tmp_path_factory.mktemp("media"), 2))


@pytest.fixture(scope="module", params=PAIRS, ids="+".join)
def folder(
    request: pytest.FixtureRequest, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return shelf.compose(tmp_path_factory.mktemp("out") / "omni", request.param, "dtype: float32\n")


@pytest.fixture(scope="module")
def composite(folder: Path) -> Composite:
    return load_composite(folder, "cpu", "auto")


def ready(composite: Composite, samples: list[Sample]) -> list[Prepared]:
    """Every question with all media that the composite knows, with each of them, with none."""
    known = tuple(composite.processor.modalities)
    subsets = [Subset(modalities=names) for names in (known, known[:1], known[1:], ())]
    contents = [view(sample, subset) for sample in samples for subset in subsets]
    texts = composite.render(contents)
    prompts = [Prompt(content=c, text=t) for c, t in zip(contents, texts, strict=True)]
    found = composite.prepare(prompts)
    assert all(isinstance(one, Prepared) for one in found), found
    return found


@torch.inference_mode()
def test_letters_and_replies_are_a_users_own(composite: Composite, samples: list[Sample]) -> None:
    prompts = ready(composite, samples)
    scores = composite.letter_log_likelihoods(prompts, 4)
    replies = composite.generate(prompts, max_new_tokens=4)
    tokenizer = composite.processor.tokenizer
    letters = tokenizer.convert_tokens_to_ids(list(LETTERS[:4]))
    for prompt, found, reply in zip(prompts, scores, replies, strict=True):
        inputs = composite.model_inputs([prompt.prompt.content])
        assert inputs["input_ids"][0].tolist() == list(prompt.token_ids)
        log_p = composite.model(**inputs).logits[0, -1].log_softmax(-1)
        assert found == pytest.approx(log_p[letters].tolist(), abs=1e-4)
        said = composite.model.generate(**inputs, max_new_tokens=4, do_sample=False)
        said = said[:, inputs["input_ids"].shape[1] :]
        assert tokenizer.batch_decode(said, skip_special_tokens=True) == [reply]


def test_every_medium_is_encoded_once(composite: Composite, samples: list[Sample]) -> None:
    before = composite.cache.num_encoded
    for _ in range(2):
        ready(composite, samples)
    known = composite.processor.modalities
    media = {m.sha256 for sample in samples for m in sample.media if m.modality in known}
    assert composite.cache.num_encoded - before in (0, len(media))
    assert composite.cache.num_encoded == len(media)


def test_a_search_sees_what_letters_see(composite: Composite, samples: list[Sample]) -> None:
    prompts = ready(composite, samples)
    found = signature(composite, prompts, 280, batch_size=3)
    alone = signature(composite, prompts[:1], 280, batch_size=1)
    torch.testing.assert_close(
        found.log_probabilities[:1], alone.log_probabilities, atol=1e-4, rtol=1e-4
    )


def test_from_folder_to_results_and_an_answer(
    folder: Path, composite: Composite, samples: list[Sample], tmp_path: Path
) -> None:
    options = EvaluationOptions(
        out_dir=tmp_path, modalities=("all", "none"), scores=("letter", "generate"), limit=2
    )
    results = evaluate(folder, ["zoo/image"], options)
    assert results.num_errors == 0
    known = composite.processor.modalities
    media = [(m.modality, m.path) for m in samples[0].media if m.modality in known]
    answer = ask(folder, "what is this?", media, max_new_tokens=3)
    assert [one.modality for one in answer.inputs] == [modality for modality, _ in media]
    assert all(one.num_tokens > 0 for one in answer.inputs)


def test_a_broken_file_is_that_questions_error(composite: Composite, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    medium = Medium(modality="image", path=broken, sha256="broken")
    (text,) = composite.render([(medium, "what?")])
    (found,) = composite.prepare([Prompt(content=(medium, "what?"), text=text)])
    assert "broken.png" in found.reason


def test_a_candidate_is_merged_in_memory_and_judged(folder: Path, samples: list[Sample]) -> None:
    tuned = load_composite(folder, "cpu", "float32")
    prompts = ready(tuned, samples[:1])
    recipe = read_compose_recipe(folder.with_suffix(".yaml"))
    before = entropy(signature(tuned, prompts, 280, batch_size=4))
    first, second = recipe.experts
    remerger = Remerger(make_plan(recipe).setting, tuned.model.state_dict())
    assert remerger.apply({first: 3.0, second: 0.0}) > 0
    assert entropy(signature(tuned, prompts, 280, batch_size=4)) != before
