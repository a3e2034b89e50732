"""Tuning the zoo's own experts: merged in memory, judged on questions that were not searched on."""

import json

import pytest
import torch
from safetensors.torch import load_file

from omnicompose.composer import compose
from omnicompose.errors import TuningError
from omnicompose.evaluation.loading import load_composite
from omnicompose.plan.make_plan import make_plan
from omnicompose.recipe import read_compose_recipe
from omnicompose.recipe_writing import write_recipe
from omnicompose.tuning.options import Place, TuneOptions
from omnicompose.tuning.remerge import Remerger, with_weights
from omnicompose.tuning.result import RECIPE_NAME, RESULT_NAME
from omnicompose.tuning.tune import tune

EXPERTS = """\
base: zoo:base
experts:
  image: {source: "zoo:image-stressed-decoupled"}
  audio: {source: "zoo:audio-stressed-decoupled"}
dtype: float32
"""


def write(folder, name, text):
    path = folder / f"{name}.yaml"
    path.write_text(EXPERTS + text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "modality: exact\nstreams: {storage: factored}\n",
        "modality: masked\ntext: {method: ties, profile: paper}\n",
    ],
)
def test_merging_in_memory_gives_what_compose_writes(tmp_path, text):
    recipe = read_compose_recipe(write(tmp_path, "first", text))
    compose(tmp_path / "first.yaml", tmp_path / "first")
    model = load_composite(tmp_path / "first", "cpu", "float32").model
    remerger = Remerger(make_plan(recipe).setting, model.state_dict())
    weights = {"image": (0.2, 0.9), "audio": 0.3}
    assert remerger.apply(weights) > 0
    assert remerger.apply(weights) == 0
    write_recipe(with_weights(recipe, weights), tmp_path / "second.yaml")
    compose(tmp_path / "second.yaml", tmp_path / "second")
    expected = load_file(tmp_path / "second" / "model.safetensors")
    found = model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("objective", ["likelihood", "agreement", "entropy"])
def test_the_result_shows_one_over_n_beside_what_was_found(tmp_path, objective):
    recipe = write(tmp_path, "recipe", "modality: exact\n")
    options = TuneOptions(
        tasks=("zoo/image", "zoo/audio"),
        objective=objective,
        search="grid",
        evaluations=3,
        limit=40,
    )
    result = tune(Place(recipe=recipe, out=tmp_path / "out"), options)
    plain, tuned = result.rows
    assert plain.weights == {"image": 0.5, "audio": 0.5}
    assert tuned.validation <= plain.validation == result.trace[0][1]
    assert len(result.trace) == 3 and result.num_validation + result.num_test == 80
    assert plain.accuracy is not None and tuned.low <= tuned.accuracy - plain.accuracy <= tuned.high
    stored = json.loads((tmp_path / "out" / RESULT_NAME).read_text())
    assert stored["split"].startswith("validation: 30% of the clusters")
    written = read_compose_recipe(tmp_path / "out" / RECIPE_NAME)
    assert {m: e.weight for m, e in written.experts.items()} == dict(tuned.weights)
    assert not list((tmp_path / "out").glob(".composing-*"))


def test_prompts_without_answers_have_no_likelihood(tmp_path):
    place = Place(recipe=write(tmp_path, "recipe", ""), out=tmp_path / "out")
    with pytest.raises(TuningError, match="have no likelihood of the right one"):
        tune(place, TuneOptions(tasks=("zoo/image",)), unlabelled=tmp_path / "prompts.jsonl")


def test_agreement_needs_questions_of_each_expert_alone(tmp_path):
    place = Place(recipe=write(tmp_path, "recipe", ""), out=tmp_path / "out")
    options = TuneOptions(tasks=("zoo/image",), objective="agreement", limit=20)
    with pytest.raises(TuningError, match="no question shows audio alone"):
        tune(place, options)
