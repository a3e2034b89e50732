"""Hub repositories: the cache first, only what is needed, a token from the environment alone."""

import json
from pathlib import Path

import pytest

from omnicompose.errors import SourceError
from omnicompose.experts.hub import hub_folder, is_whole
from omnicompose.recipe_values import Source, parse_source


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What is asked of the hub's client, which answers with a folder or fails."""
    asked: list[dict[str, object]] = []

    def download(repository: str, **options: object) -> str:
        asked.append({"repository": repository} | options)
        folder = options.get("local_files_only") and answers.get("cache")
        if folder := folder or (not options["local_files_only"] and answers.get("hub")):
            return str(folder)
        raise OSError("Got: nothing there.\nAnd more.")

    answers: dict[str, Path] = {}
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    asked.append(answers)  # type: ignore[arg-type]  # the first entry tells what to answer
    return asked


def source(text: str) -> Source:
    return parse_source(text, Path("/nowhere"))


def whole(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    return folder


def test_what_is_cached_is_not_asked_for(calls: list, tmp_path: Path) -> None:
    calls[0]["cache"] = whole(tmp_path / "cache")
    assert hub_folder(source("owner/name@abc"), allow_pickle=False) == tmp_path / "cache"
    (only,) = calls[1:]
    assert only["local_files_only"] is True
    assert only["revision"] == "abc"


def test_a_half_cached_repository_is_fetched(calls: list, tmp_path: Path) -> None:
    half = tmp_path / "cache"
    half.mkdir()
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (half / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not is_whole(half)
    calls[0]["cache"], calls[0]["hub"] = half, whole(tmp_path / "hub")
    assert hub_folder(source("owner/name"), allow_pickle=False) == tmp_path / "hub"


def test_only_what_is_needed_is_fetched(
    calls: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    whole(tmp_path / "hub" / "sub")
    calls[0]["hub"] = tmp_path / "hub"
    assert hub_folder(source("owner/name:sub"), allow_pickle=True) == tmp_path / "hub" / "sub"
    fetched = calls[-1]
    assert fetched["token"] == "secret"
    assert "sub/*.safetensors" in fetched["allow_patterns"]
    assert "sub/*.bin" in fetched["allow_patterns"]
    assert "sub/consolidated*" in fetched["ignore_patterns"]
    monkeypatch.delenv("HF_TOKEN")
    hub_folder(source("owner/name:sub"), allow_pickle=False)
    assert calls[-1]["token"] is False
    assert "sub/*.bin" not in calls[-1]["allow_patterns"]


def test_what_the_hub_does_not_give(calls: list, tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"does not give it \(nothing there\)\. Check the sp.*HF_TOKEN"
    ):
        hub_folder(source("owner/name"), allow_pickle=False)
    calls[0]["hub"] = whole(tmp_path / "hub")
    with pytest.raises(SourceError, match="the repository has no such folder"):
        hub_folder(source("owner/name:other"), allow_pickle=False)


def test_a_subfolder_in_a_source() -> None:
    found = source("owner/name:sub/folder@main")
    assert (found.location, found.subfolder, found.revision) == ("owner/name", "sub/folder", "main")
    with pytest.raises(ValueError, match="owner/name:subfolder"):
        source("owner/name:")
    with pytest.raises(ValueError, match="owner/name:subfolder"):
        source("owner/name:../up")
