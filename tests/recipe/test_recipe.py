"""Reading recipes: what they hold, and every mistake with its line."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from omnicompose.errors import RecipeError
from omnicompose.recipe import (
    ComposeRecipe,
    MergeRecipe,
    read_compose_recipe,
    read_merge_recipe,
    read_recipe,
    recipe_schema,
)

COMPOSE = """\
base: zoo:base
experts:
  video: {source: "owner/name@v1"}
  image: {source: zoo:image-standard, weight: 0.5}
  audio: {source: zoo:base+zoo:audio-adapter, weight: [0.1, 1]}
text: {method: ties, parameters: {density: 2e-1, rescale: true}, profile: mergekit}
modality: masked
streams: {rank: 8, mask_threshold: 0.4, mask_signed: false}
roles: {norm: base}
overrides:
  - {match: "*.mlp.*", method: linear}
  - {match: "*.norm.*", policy: base}
vocabulary: union
dtype: float16
shard_size: 2GiB
seed: 7
"""
ONE_EXPERT = "base: zoo:base\nexperts:\n  image:\n    source: zoo:image-standard\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> list[str]:
    """The lines of the error, each without the folder's name."""
    path = write(folder, text)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    return str(caught.value).replace(f"{path}:", "").replace(str(folder), "FOLDER").splitlines()


def test_compose_recipe(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, COMPOSE))
    assert isinstance(recipe, ComposeRecipe)
    assert list(recipe.experts) == ["video", "image", "audio"]
    assert recipe.experts["video"].source.revision == "v1"
    assert recipe.experts["video"].weight is None
    assert recipe.experts["audio"].weight == (0.1, 1.0)
    assert recipe.text.parameters == {"density": 0.2, "rescale": True}
    assert (recipe.modality, recipe.streams.rank) == ("masked", 8)
    assert (recipe.roles.norm, recipe.roles.attention) == ("base", "method")
    assert [override.policy for override in recipe.overrides] == ["method", "base"]
    assert (recipe.dtype, recipe.shard_size, recipe.seed) == ("float16", 2 * 1024**3, 7)


def test_defaults_keep_embeddings_and_average_norms(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, ONE_EXPERT))
    assert isinstance(recipe, ComposeRecipe)
    assert (recipe.text.method, recipe.modality, recipe.dtype) == ("linear", "merged", None)
    assert recipe.roles.model_dump() == {
        "attention": "method",
        "mlp": "method",
        "norm": "mean_delta",
        "bias": "mean_delta",
        "embedding": "base",
        "head": "base",
        "other": "method",
    }


def test_merge_recipe(tmp_path: Path) -> None:
    text = "layout: raw\nmethod: slerp\nmodels:\n  - {source: a/b}\n  - {source: c/d, name: second}"
    recipe = read_recipe(write(tmp_path, text))
    assert isinstance(recipe, MergeRecipe)
    assert (recipe.layout, recipe.base, recipe.method) == ("raw", None, "slerp")
    assert [model.label for model in recipe.models] == ["a/b", "second"]
    assert set(recipe.roles.model_dump().values()) == {"method"}


def test_recipe_is_read_only_and_returns_from_its_json(tmp_path: Path) -> None:
    text = COMPOSE.replace("density: 2e-1", "density: {image: 0.2, audio: 1}")
    recipe = read_recipe(write(tmp_path, text))
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 1
    assert json.loads(recipe.model_dump_json())["experts"]["audio"]["weight"] == [0.1, 1.0]
    assert recipe.model_dump()["text"]["parameters"]["density"] == {"image": 0.2, "audio": 1.0}
    assert type(recipe).model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["1: the file is empty. Write a recipe: see configs/."]),
        (
            "- a",
            ["1: found no keys at the top, expected `key: value` lines such as `base: zoo:base`."],
        ),
        (
            "base: x\nexperts: [",
            ["2: not YAML: expected the node content, but found '<stream end>'."],
        ),
        ("base: a\n---\nbase: b", ["2: not YAML: but found another document."]),
        ("? [a]\n: b", ["1: not YAML: found unhashable key."]),
        (
            "a: \x07",
            ["1: not YAML: unacceptable character #x0007: special characters are not allowed."],
        ),
        (
            "base: a\nseed: 1\nbase: b\ntext: {method: ties, method: linear}",
            [
                "3: key 'base' stands here for the second time in one mapping. Keep one.",
                "4: key 'method' stands here for the second time in one mapping. Keep one.",
            ],
        ),
        ("seed: 2026-13-45", ["1: not YAML: month must be in 1..12."]),
        (
            "base: zoo:base",
            [
                (
                    "1: no experts. Name `experts:` by modality, such as `experts: {image: "
                    "{source: zoo:image-standard}}`, or `models:` for a merge."
                )
            ],
        ),
        (
            "base: zoo:base\nexperts: {}",
            [
                (
                    "2: experts: no experts. Name at least one by its modality, such as "
                    "`image: {source: zoo:image-standard}`."
                )
            ],
        ),
        ("models: []", ["1: models: no models. Name at least one: `- {source: path-or-id}`."]),
        (
            "experts: {}\nmodels: []",
            ["2: `experts` and `models` in one recipe. Keep one."],
        ),
        (
            "bse: zoo:base\nexprts:\n  image: {source: zoo:image-standard}",
            [
                "1: unknown key 'bse'; did you mean 'base'?",
                "2: unknown key 'exprts'; did you mean 'experts'?",
            ],
        ),
        (ONE_EXPERT.removeprefix("base: zoo:base\n"), ["1: key `base` is missing. Add it."]),
        (
            ONE_EXPERT + "text: {paramters: {}}",
            ["5: unknown key 'paramters' in text; did you mean 'parameters'?"],
        ),
        (
            ONE_EXPERT + "text: {zzz: 1}",
            ["5: unknown key 'zzz' in text; known keys: method, parameters, profile, then."],
        ),
        (
            ONE_EXPERT + "  imge:\n    source: zoo:x",
            ["5: experts.imge: unknown modality 'imge'; did you mean 'image'?"],
        ),
        (
            ONE_EXPERT + "  smell:\n    source: zoo:x",
            [
                (
                    "5: experts.smell: unknown modality 'smell'; expected one of image, video, "
                    "audio, point."
                )
            ],
        ),
        (
            ONE_EXPERT + "  audio: zoo:x",
            ["5: experts.audio: found 'zoo:x', expected keys with values."],
        ),
        (
            ONE_EXPERT + "modality: exct",
            [
                (
                    "5: modality: found 'exct', expected one of merged, exact, masked, emr; "
                    "did you mean 'exact'?"
                )
            ],
        ),
        (
            ONE_EXPERT + "dtype: int3",
            ["5: dtype: found 'int3', expected one of float32, bfloat16, float16."],
        ),
        (ONE_EXPERT + "seed: 1.5", ["5: seed: found 1.5, expected a whole number."]),
        (ONE_EXPERT + "seed: -1", ["5: seed: found -1, expected greater than or equal to 0."]),
        (ONE_EXPERT + "allow_pickle: 1", ["5: allow_pickle: found 1, expected true or false."]),
        (ONE_EXPERT + "overrides: {}", ["5: overrides: found {}, expected a list."]),
        (
            ONE_EXPERT + "overrides:\n  - {mtch: a}",
            ["6: unknown key 'mtch' in overrides.0; did you mean 'match'?"],
        ),
        (
            ONE_EXPERT + "overrides:\n  - {match: ''}",
            ["6: overrides.0.match: found '', expected some text."],
        ),
        (
            ONE_EXPERT + "text: {parameters: {density: [1]}}",
            [
                (
                    "5: text.parameters.density: found [1], expected a number, true, false, "
                    "a word, or a table {expert: number}."
                )
            ],
        ),
        (
            ONE_EXPERT + "shard_size: 2Gb",
            [
                (
                    "5: shard_size: found '2Gb', expected a size such as '2GiB', '500MB' or a "
                    "number of bytes."
                )
            ],
        ),
        (
            ONE_EXPERT + "    weight: heavy",
            [
                (
                    "5: experts.image.weight: found 'heavy', expected a number, a list, or an "
                    "existing .json or .yaml table of coefficients; there is none at FOLDER/heavy."
                )
            ],
        ),
        (
            ONE_EXPERT.replace("zoo:image-standard", "./missing"),
            [
                (
                    "4: experts.image.source: found './missing', but FOLDER/missing does not "
                    "exist. Correct the path."
                )
            ],
        ),
        (
            ONE_EXPERT.replace("zoo:image-standard", "3"),
            ["4: experts.image.source: found 3, expected a path, 'zoo:NAME' or a hub id as text."],
        ),
        (
            "models: [{source: a/b}, {source: a/b}]",
            ["1: models: two models are called 'a/b'. Give each its own `name:`."],
        ),
    ],
)
def test_every_mistake_has_its_line(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert problems(tmp_path, text) == expected


def test_all_mistakes_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = ONE_EXPERT.replace("source", "sorce") + "seed: x\nmodality: exct\nfoo: 1"
    assert [line.split(":")[0] for line in problems(tmp_path, text)] == ["4", "5", "6", "7"]


def test_unreadable_files(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    with pytest.raises(RecipeError, match=r"none\.yaml: there is no such recipe file\."):
        read_recipe(missing)
    with pytest.raises(RecipeError, match=r": found a folder, expected a recipe file \(YAML\)\."):
        read_recipe(tmp_path)
    missing.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r":1: not YAML: the file is not UTF-8 text\."):
        read_recipe(missing)


def test_each_command_takes_its_own_kind(tmp_path: Path) -> None:
    compose = write(tmp_path, ONE_EXPERT)
    assert read_compose_recipe(compose) == read_recipe(compose)
    with pytest.raises(RecipeError, match=r"a compose recipe\. Use `omnicompose compose`"):
        read_merge_recipe(compose)
    merge = write(tmp_path, "models: [{source: a/b}]")
    assert read_merge_recipe(merge) == read_recipe(merge)
    with pytest.raises(RecipeError, match=r"a merge recipe\. Use `omnicompose merge`"):
        read_compose_recipe(merge)


def test_schema_describes_every_key() -> None:
    schema = recipe_schema()
    models = schema["$defs"]
    assert isinstance(models, dict)
    assert {"ComposeRecipe", "MergeRecipe", "Expert", "Override", "Roles"} <= set(models)
    undescribed = [
        f"{name}.{key}"
        for name, model in models.items()
        for key, field in model["properties"].items()
        if not field.get("description")
    ]
    assert undescribed == []
    assert all(model["additionalProperties"] is False for model in models.values())
