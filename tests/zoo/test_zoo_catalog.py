import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from omnicompose.errors import SourceError
from omnicompose.zoo import catalog
from omnicompose.zoo.catalog import ASSETS, ZOO, verify_zoo, write_checksums, zoo_bytes, zoo_path


@pytest.mark.parametrize("name", list(ZOO))
def test_every_member_ships_and_says_what_it_is(name: str) -> None:
    assert zoo_path(name) == zoo_path(f"zoo:{name}") == ASSETS / name
    assert zoo_bytes(name) > 1000
    assert len(ZOO[name]) > 20 and "\n" not in ZOO[name]


def test_the_zoo_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) <= 30e6


def test_every_kind_of_expert_is_there() -> None:
    experts = {
        f"{modality}-{regime}{suffix}"
        for modality in ("image", "audio", "video")
        for regime in ("standard", "stressed")
        for suffix in ("", "-decoupled")
    }
    assert experts <= ZOO.keys()


def test_an_unknown_name_gets_near_ones() -> None:
    with pytest.raises(SourceError, match=r"zoo:image-standart: .*zoo:image-standard"):
        zoo_path("zoo:image-standart")
    with pytest.raises(SourceError, match="zoo:base"):
        zoo_path("elephant")


def test_a_member_that_is_not_there_names_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "ASSETS", tmp_path)
    with pytest.raises(SourceError, match=r"zoo:base: found no folder .* --only base"):
        zoo_path("base")


def test_shipped_files_are_those_that_were_recorded() -> None:
    assert verify_zoo() == []


def test_one_changed_bit_is_noticed(tmp_path: Path) -> None:
    copy = tmp_path / "assets"
    shutil.copytree(ASSETS, copy)
    path = copy / "base" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (problem,) = verify_zoo(copy)
    assert "model.safetensors" in problem and "Reinstall" in problem


def test_missing_and_foreign_files_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work" / "note").write_text("not shipped")
    assert verify_zoo(tmp_path)[0].endswith("Reinstall the package.")
    write_checksums(tmp_path)
    assert verify_zoo(tmp_path) == []
    (tmp_path / "base" / "config.json").rename(tmp_path / "base" / "other.json")
    missing, foreign = verify_zoo(tmp_path)
    assert "config.json: missing" in missing
    assert "other.json: not among the recorded files" in foreign


def test_the_catalog_needs_no_torch() -> None:
    code = "import sys, omnicompose.zoo.catalog; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
