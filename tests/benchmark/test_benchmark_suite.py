"""Suites: what a file may say, which rows come of it, and how mistakes are told."""

from pathlib import Path

import pytest

from omnicompose.benchmark import SUITES, BenchmarkOptions, Suite, read_suite
from omnicompose.benchmark.cells import cells_of
from omnicompose.benchmark.suite import Variant
from omnicompose.errors import EvaluationError, RecipeError
from omnicompose.merging.registry import METHODS
from omnicompose.merging.searched import SEARCHED

MERGE = """
summary: two fine-tunes
base: {folder}
models: {{one: {folder}, two: {folder}}}
tasks: [zoo/image]
validation: [zoo/video]
scales: [0.5, 1.0]
variants:
  dense: {{method: ties, parameters: {{density: 0.9}}}}
"""
COMPOSE = """
summary: two experts
base: zoo:base
experts: {image: zoo:image-standard, audio: zoo:audio-standard}
modality: [merged, exact]
tasks: [zoo/image]
"""


def written(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture
def merging(tmp_path: Path) -> Suite:
    (tmp_path / "model").mkdir()
    return read_suite(written(tmp_path, MERGE.format(folder=tmp_path / "model")))


def test_every_shipped_suite_can_be_read() -> None:
    assert {"capability-full", "capability-lora", "modality"} <= set(SUITES)
    for name in SUITES:
        suite = read_suite(name)
        assert suite.name == name
        assert cells_of(suite, ["all"])


def test_all_means_every_method_that_looks_at_weights_alone_and_every_variant(
    merging: Suite,
) -> None:
    labels = {cell.label for cell in cells_of(merging, ["all"])}
    free = {name for name, method in METHODS.items() if method.spec.measures is None}
    assert labels >= free | {"dense"}


def test_the_average_comes_first_whatever_is_asked_for(merging: Suite) -> None:
    assert [cell.label for cell in cells_of(merging, ["ties"])] == ["linear", "ties"]


def test_a_profile_is_named_behind_an_at_sign(merging: Suite) -> None:
    cell = cells_of(merging, ["ties@mergekit"])[1]
    assert (cell.variant.method, cell.variant.profile) == ("ties", "mergekit")


def test_a_method_for_another_number_of_models_says_so(tmp_path: Path) -> None:
    suite = read_suite(written(tmp_path, COMPOSE))
    reasons = {cell.label: cell.reason for cell in cells_of(suite, ["slerp", "nearswap"])}
    assert reasons["slerp x merged"] == ""
    assert reasons["nearswap x exact"] == "takes 1 models, found 2"


def test_methods_of_fewer_models_get_the_pair() -> None:
    suite = read_suite("capability-lora")
    cells = {cell.variant.method: cell for cell in cells_of(suite, ["slerp", "nearswap", "ties"])}
    assert cells["slerp"].models == suite.pair and len(suite.pair) == 2
    assert cells["slerp"].label == f"slerp of {suite.pair[0]} + {suite.pair[1]}"
    assert cells["nearswap"].models == suite.pair[:1] and cells["nearswap"].reason == ""
    assert cells["ties"].models == tuple(suite.models) and cells["ties"].label == "ties"
    label = f"linear of {suite.pair[0]} + {suite.pair[1]}"
    (_, pair) = cells_of(suite, [label])
    assert (pair.label, pair.models) == (label, suite.pair)


def test_a_variant_merges_the_models_that_it_names() -> None:
    suite = read_suite("capability-lora")
    named = {
        "one": Variant(method="passthrough", models=("ocr",)),
        "too many": Variant(method="nuslerp", models=("vqa", "geometry", "chart")),
    }
    changed = suite.model_copy(update={"variants": named})
    cells = {cell.label: cell for cell in cells_of(changed, list(named))}
    assert (cells["one"].models, cells["one"].reason) == (("ocr",), "")
    assert cells["too many"].models == ("vqa", "geometry", "chart")
    assert cells["too many"].reason == "takes 2 models, found 3"


def test_two_rows_of_one_name_are_refused() -> None:
    suite = read_suite("capability-lora")
    label = f"slerp of {' + '.join(suite.pair)}"
    clash = {label: Variant(method="slerp", models=suite.pair)}
    with pytest.raises(RecipeError, match="two rows are called 'slerp of"):
        cells_of(suite.model_copy(update={"variants": clash}), ["slerp", label])


def test_every_row_of_a_capability_suite_can_be_made() -> None:
    for name in ("capability-lora", "capability-full"):
        cells = cells_of(read_suite(name), ["all", "all-data"])
        assert [cell.label for cell in cells if cell.reason] == []


def test_every_method_is_crossed_with_every_choice_for_a_modalitys_tokens(tmp_path: Path) -> None:
    suite = read_suite(written(tmp_path, COMPOSE))
    labels = [cell.label for cell in cells_of(suite, ["ties"])]
    assert labels == ["linear x merged", "linear x exact", "ties x merged", "ties x exact"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("validation: [zoo/image]", "validation: zoo/image also counts for the ranking"),
        ("validation: [zoo/image@none]", "validation: zoo/image also counts for the ranking"),
        (
            "calibration: {one: zoo/video, two: zoo/image@captions}",
            "calibration: zoo/image also counts for the ranking",
        ),
        (
            "calibration: {one: zoo/video}",
            "calibration: found tasks of one, expected one task of each of one, two",
        ),
        ("scales: [0.5]", "1, which leaves a method as it is, must be among them"),
        ("experts: {image: zoo:image-standard}", "either `models:` or `experts:`"),
        ("pair: [one, three]", "pair: found 'three', expected names under `models:` .one, two."),
        ("pair: [one]", "pair: found .'one'., expected two different models"),
        ("skils: [zoo/image]", "did you mean 'skills'"),
    ],
)
def test_mistakes_in_a_suite_are_told(tmp_path: Path, changed: str, message: str) -> None:
    (tmp_path / "model").mkdir()
    key = changed.partition(":")[0]
    kept = [
        line
        for line in MERGE.format(folder=tmp_path / "model").splitlines()
        if not line.startswith(f"{key}:")
    ]
    with pytest.raises(RecipeError, match=message):
        read_suite(written(tmp_path, "\n".join([*kept, changed])))


def test_a_variant_of_unknown_models_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    text = MERGE.format(folder=tmp_path / "model").replace("ties,", "ties, models: [three],")
    with pytest.raises(RecipeError, match=r"variants\.dense\.models: found 'three'"):
        read_suite(written(tmp_path, text))


def test_a_variant_names_each_model_once(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    text = MERGE.format(folder=tmp_path / "model").replace("ties,", "ties, models: [one, one],")
    with pytest.raises(RecipeError, match=r"dense\.models: .* expected each model once"):
        read_suite(written(tmp_path, text))


def test_scales_without_validation_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    text = MERGE.format(folder=tmp_path / "model").replace("validation: [zoo/video]\n", "")
    with pytest.raises(RecipeError, match="there is no `validation:` to choose them on"):
        read_suite(written(tmp_path, text))


def test_an_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"found 'modalty'.* Did you mean 'modality'"):
        read_suite("modalty")


def test_an_unknown_method_is_refused(merging: Suite) -> None:
    with pytest.raises(RecipeError, match="found 'tise'"):
        cells_of(merging, ["tise"])


@pytest.mark.parametrize("name", ["fisher", "adamerging", "all-data"])
def test_a_method_that_looks_at_data_needs_a_suite_that_gives_them(
    merging: Suite, name: str
) -> None:
    with pytest.raises(RecipeError, match=r"looks at data .* Name a task for each model under `ca"):
        cells_of(merging, [name])


def test_coefficients_that_a_search_wrote_are_no_row(merging: Suite) -> None:
    with pytest.raises(RecipeError, match="takes the coefficients that a search wrote"):
        cells_of(merging, ["coefficients"])


def test_experts_of_several_modalities_are_shown_no_data(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="only merges of `models:` are shown data"):
        read_suite(written(tmp_path, f"{COMPOSE}calibration: {{image: zoo/video}}\n"))


@pytest.mark.parametrize("name", ["capability-lora", "capability-full"])
def test_all_data_means_every_method_that_looks_at_some(name: str) -> None:
    suite = read_suite(name)
    measured = {name for name, one in METHODS.items() if one.spec.measures is not None}
    cells = {cell.label: cell for cell in cells_of(suite, ["all-data"])}
    methods = {cell.variant.method for cell in cells.values()}
    assert methods == (measured | SEARCHED.keys() | {"linear"}) - {"coefficients"}
    assert cells["regmean"].data == "questions: Grams of inputs" and cells["linear"].data == ""
    assert cells["adamerging"].data == "questions"
    assert cells["cma_es"].data == "questions and replies"
    assert cells["cma_es"].variant.parameters == {"evaluations": 40}
    free = {cell.label for cell in cells_of(suite, ["all"])}
    together = {cell.label for cell in cells_of(suite, ["all", "all-data"])}
    assert together == free | cells.keys()


def test_a_budget_of_an_unknown_method_is_refused(merging: Suite) -> None:
    wrong = merging.model_copy(update={"budgets": {"adamergin": {"steps": 1}}})
    with pytest.raises(RecipeError, match="found 'adamergin'"):
        cells_of(wrong, ["ties"])
    suite = read_suite("capability-lora")
    wrong = suite.model_copy(update={"budgets": {"adamerging": {"stepps": 1}}})
    with pytest.raises(RecipeError, match="unknown parameter 'stepps'"):
        cells_of(wrong, ["all-data"])


def test_options_name_every_field_that_cannot_be_used() -> None:
    with pytest.raises(EvaluationError, match=r"--limit: found 0.*--seeds: found 0.*--methods"):
        BenchmarkOptions(methods=(), limit=0, seeds=0)
