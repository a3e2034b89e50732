import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from omnicompose.errors import SourceError
from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.source import read_tensor


@pytest.fixture
def sharded(tmp_path):
    tensors = {f"t{i}": torch.randn(4, 8) for i in range(4)}
    weight_map = {}
    for shard in range(2):
        name = f"model-0000{shard + 1}-of-00002.safetensors"
        held = {n: tensors[n] for n in list(tensors)[shard * 2 : shard * 2 + 2]}
        save_file(held, tmp_path / name)
        weight_map |= dict.fromkeys(held, name)
    write_index(tmp_path, {"metadata": {}, "weight_map": weight_map})
    return tmp_path, tensors


def write_index(folder: Path, value: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(value))


def read_index(folder: Path) -> dict:
    return json.loads((folder / "model.safetensors.index.json").read_text())


def test_sharded_tensors_read_whole_and_in_pieces(sharded):
    folder, tensors = sharded
    source = open_safetensors(folder)
    assert list(source.infos()) == list(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(read_tensor(source, name), tensor)
        assert torch.equal(read_tensor(source, name, 5, 19), tensor.view(-1)[5:19])
        place = source.byte_range(name)
        data = place.path.read_bytes()[place.offset : place.offset + place.length]
        assert data == tensor.numpy().tobytes()
    assert [path.name for path in source.files()] == sorted(
        set(read_index(folder)["weight_map"].values())
    )


def test_reads_from_many_threads_agree(sharded):
    folder, tensors = sharded
    source = open_safetensors(folder)
    wrong = []

    def work():
        for _ in range(50):
            wrong.extend(
                n for n, t in tensors.items() if not torch.equal(read_tensor(source, n), t)
            )

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", "a\\b"]
)
def test_an_index_that_leaves_its_folder_is_refused(sharded, name):
    folder, _ = sharded
    index = read_index(folder)
    index["weight_map"]["t0"] = name
    write_index(folder, index)
    with pytest.raises(SourceError, match="plain name beside the index"):
        open_safetensors(folder)


def test_a_missing_shard_is_named(sharded):
    folder, _ = sharded
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(SourceError, match=r"model-00002-of-00002\.safetensors is missing"):
        open_safetensors(folder)


def test_index_and_shards_must_agree(sharded):
    folder, _ = sharded
    index = read_index(folder)
    index["weight_map"]["ghost"] = index["weight_map"]["t0"]
    write_index(folder, index)
    with pytest.raises(SourceError, match="'ghost': not in"):
        open_safetensors(folder)
    del index["weight_map"]["ghost"], index["weight_map"]["t0"]
    write_index(folder, index)
    with pytest.raises(SourceError, match="does not list"):
        open_safetensors(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}'])
def test_a_malformed_index_is_refused(sharded, text):
    folder, _ = sharded
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(SourceError, match=r"index\.json"):
        open_safetensors(folder)


def test_a_name_in_two_loose_files_is_refused(tmp_path):
    for name in ("a", "b"):
        save_file({"t": torch.ones(2)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(SourceError, match=r"'t', which a\.safetensors holds too"):
        open_safetensors(tmp_path)


def test_two_indices_and_no_weights_are_refused(tmp_path):
    with pytest.raises(SourceError, match="no such file or folder"):
        open_safetensors(tmp_path / "absent")
    with pytest.raises(SourceError, match=r"found no \*\.safetensors"):
        open_safetensors(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors.index.json").write_text("{}")
    with pytest.raises(SourceError, match="expected one index"):
        open_safetensors(tmp_path)


def test_an_unknown_tensor_and_a_file_that_shrinks_are_named(tmp_path):
    save_file({"t": torch.ones(64)}, tmp_path / "model.safetensors")
    source = open_safetensors(tmp_path)
    with pytest.raises(SourceError, match="no tensor 'u'"):
        read_tensor(source, "u")
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(200)
    with pytest.raises(SourceError, match=r"'t': found .* bytes where 256 were"):
        read_tensor(source, "t")


def test_a_file_that_vanishes_is_named(tmp_path):
    save_file({"t": torch.ones(64)}, tmp_path / "model.safetensors")
    source = open_safetensors(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="'t': cannot be read"):
        read_tensor(source, "t")
