import json
import os

import pytest
import torch

from omnicompose.errors import SourceError
from omnicompose.tensors.pickled import open_pickled
from omnicompose.tensors.source import read_tensor


class Evil:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


def test_pickles_need_consent_and_give_tensors(tmp_path):
    torch.save({"a": torch.arange(6.0).view(2, 3)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(SourceError, match="--allow-pickle"):
        open_pickled(tmp_path, allow_pickle=False)
    source = open_pickled(tmp_path, allow_pickle=True)
    assert torch.equal(read_tensor(source, "a"), torch.arange(6.0).view(2, 3))
    assert read_tensor(source, "a", 1, 3).tolist() == [1.0, 2.0]
    assert source.files() == (tmp_path / "pytorch_model.bin",)


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(SourceError, match="would run code"):
        open_pickled(tmp_path / "pytorch_model.bin", allow_pickle=True)
    assert not (tmp_path / "pwned").exists()


def test_damaged_foreign_and_missing_files_are_refused(tmp_path):
    with pytest.raises(SourceError, match="found no pickled weights"):
        open_pickled(tmp_path, allow_pickle=True)
    (tmp_path / "x.bin").write_bytes(b"not a pickle at all")
    with pytest.raises(SourceError, match=r"x\.bin"):
        open_pickled(tmp_path / "x.bin", allow_pickle=True)
    torch.save([torch.ones(1)], tmp_path / "y.pt")
    with pytest.raises(SourceError, match="found list; expected a dict"):
        open_pickled(tmp_path / "y.pt", allow_pickle=True)


@pytest.mark.parametrize("name", ["../evil.bin", "pytorch_model-00002-of-00002.bin"])
def test_an_index_must_stay_in_its_folder_and_be_complete(tmp_path, name):
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model-00001-of-00002.bin")
    index = {"weight_map": {"a": "pytorch_model-00001-of-00002.bin", "b": name}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(SourceError, match="expected every shard beside the index"):
        open_pickled(tmp_path, allow_pickle=True)


def test_a_name_in_two_files_is_refused(tmp_path):
    for number in (1, 2):
        torch.save({"a": torch.ones(1)}, tmp_path / f"pytorch_model-{number}.bin")
    with pytest.raises(SourceError, match="expected every name once"):
        open_pickled(tmp_path, allow_pickle=True)


@pytest.mark.parametrize(
    ("kind", "tensor"),
    [
        ("sparse", torch.eye(3).to_sparse()),
        ("meta", torch.empty(3, device="meta")),
        ("quantised", torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse invariant checks", "ignore:TypedStorage")
def test_tensors_without_plain_numbers_are_refused_by_name(tmp_path, kind, tensor):
    torch.save({"a": torch.ones(1), "b": tensor}, tmp_path / "x.bin")
    with pytest.raises(SourceError, match=rf"x\.bin: tensor 'b': found a {kind} tensor"):
        open_pickled(tmp_path / "x.bin", allow_pickle=True)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused_by_name(tmp_path):
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    torch.save({"b": nested}, tmp_path / "x.bin")
    with pytest.raises(SourceError, match=r"x\.bin: tensor 'b': found a nested tensor"):
        open_pickled(tmp_path / "x.bin", allow_pickle=True)


def test_what_no_pickle_reader_makes_sense_of_is_not_called_dangerous(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"\x80\x02\x95garbage.")
    with pytest.raises(SourceError) as refused:
        open_pickled(tmp_path / "x.bin", allow_pickle=True)
    assert "Do not trust" not in str(refused.value)
