import json

import pytest
import torch

from omnicompose.errors import MergeError
from omnicompose.tensors.header import read_header
from omnicompose.tensors.layout import make_layout
from omnicompose.tensors.source import TensorInfo


def info(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> TensorInfo:
    return TensorInfo(name=name, dtype=dtype, shape=shape)


def test_one_file_has_no_index_and_a_header_that_reads_back(tmp_path):
    infos = [info("b", 3), info("ü", 2, 2, dtype=torch.bfloat16), info("scalar"), info("none", 0)]
    layout = make_layout(infos, shard_bytes=1000)
    assert layout.index is None
    (file,) = layout.files
    assert file.name == "model.safetensors"
    assert len(file.header) % 8 == 0
    (tmp_path / "x").write_bytes(file.header + b"\0" * (file.num_bytes - len(file.header)))
    header = read_header(tmp_path / "x")
    assert [entry.info for entry in header.entries.values()] == [infos[i] for i in (0, 1, 2, 3)]
    assert {name: entry.offset for name, entry in header.entries.items()} == dict(file.offsets)
    assert header.metadata == {"format": "pt"}


def test_shards_are_filled_in_order_and_indexed():
    infos = [info(f"t{i}", 10) for i in range(5)]
    layout = make_layout(infos, shard_bytes=80)
    assert [list(file.offsets) for file in layout.files] == [["t0", "t1"], ["t2", "t3"], ["t4"]]
    assert [file.name for file in layout.files] == [
        f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)
    ]
    index = json.loads(layout.index)
    assert index["metadata"] == {"total_size": 200}
    assert index["weight_map"]["t4"] == "model-00003-of-00003.safetensors"


def test_a_tensor_larger_than_a_shard_gets_its_own():
    layout = make_layout([info("a", 1), info("b", 100), info("c", 1)], shard_bytes=8)
    assert [list(file.offsets) for file in layout.files] == [["a"], ["b"], ["c"]]


def test_names_come_once_and_dtypes_can_be_stored():
    with pytest.raises(MergeError, match="'a': found it twice"):
        make_layout([info("a", 1), info("a", 2)], shard_bytes=10)
    with pytest.raises(MergeError, match=r"found dtype torch\.complex128"):
        make_layout([info("a", 1, dtype=torch.complex128)], shard_bytes=10)
