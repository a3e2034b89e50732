"""Sources, sizes and coefficients as recipes write them."""

import json
from pathlib import Path

import pytest

from omnicompose.recipe_values import parse_size, parse_source, parse_weight


def test_sources(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "a+b").mkdir()
    folder = parse_source("model", tmp_path)
    assert (folder.kind, folder.location) == ("path", str(tmp_path / "model"))
    assert parse_source("a+b", tmp_path).adapter is None
    zoo = parse_source("zoo:image-standard", tmp_path)
    assert (zoo.kind, zoo.location, str(zoo)) == ("zoo", "image-standard", "zoo:image-standard")
    hub = parse_source("owner/name@abc123", tmp_path)
    assert (hub.kind, hub.location, hub.revision) == ("hub", "owner/name", "abc123")
    adapted = parse_source("owner/name@main + ./model", tmp_path)
    assert (adapted.kind, adapted.revision) == ("hub", "main")
    assert adapted.adapter == parse_source("./model", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found '', expected an existing path, 'zoo:NAME', a hub id such as"),
        ("two words", "found 'two words', expected an existing path"),
        ("owner/name@", "found 'owner/name@', expected an existing path"),
        ("./gone", r"found './gone', but .*/gone does not exist\. Correct the path\."),
        ("a/b/c", r"found 'a/b/c', but .*/a/b/c does not exist\. Correct the path\."),
        ("zoo:Image@1", r"found 'zoo:Image@1', expected 'zoo:NAME' such as 'zoo:image-standard'\."),
        ("a+b+c", r"found 'a\+b\+c', expected one adapter: 'base\+adapter'\."),
    ],
)
def test_source_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_source(text, tmp_path)


def test_sizes() -> None:
    assert parse_size("2GiB") == 2 * 1024**3
    assert parse_size("1.5 kB".replace("k", "K")) == 1500
    assert parse_size(64) == 64
    assert parse_size("64B") == 64


@pytest.mark.parametrize("text", ["", "2", "GiB", "-1GiB", "0B", "2gib", "1e3MB", 0, -5, True])
def test_size_mistakes(text: str | int) -> None:
    with pytest.raises(ValueError, match="expected a size such as '2GiB', '500MB'"):
        parse_size(text)


def test_weight_tables_are_read_from_files(tmp_path: Path) -> None:
    table = {"*.mlp.*": 0.5, "*": 1}
    (tmp_path / "table.json").write_text(json.dumps(table), encoding="utf-8")
    (tmp_path / "table.yaml").write_text("'*.mlp.*': 0.5\n'*': 1\n", encoding="utf-8")
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    assert parse_weight("table.json", tmp_path) == parse_weight("table.yaml", tmp_path) == table
    with pytest.raises(ValueError, match=r"the table .*broken\.json cannot be read"):
        parse_weight("broken.json", tmp_path)


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), [], [1, "a"], {}, {"*": "a"}])
def test_weight_mistakes(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="expected a finite number, a list of numbers over depth"):
        parse_weight(value, tmp_path)


def test_a_misspelt_name_in_a_folder_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    (tmp_path / "tiny" / "llava").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"is a folder and holds no 'lava'; did you mean tiny/llava\?"
    ):
        parse_source("tiny/lava", tmp_path)
    with pytest.raises(
        ValueError, match=r"holds no 'other'\. A repository of this name on the hub"
    ):
        parse_source("tiny/other", tmp_path)
    assert parse_source("tiny/lava@main", tmp_path).kind == "hub"


def test_a_folder_that_may_not_be_looked_into_is_told_without_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "tiny").mkdir()
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ValueError, match=r"is a folder and holds no 'lava'\."):
        parse_source("tiny/lava", tmp_path)


def test_a_plain_name_is_looked_for_on_the_hub(tmp_path: Path) -> None:
    assert parse_source("llava", tmp_path).kind == "hub"
