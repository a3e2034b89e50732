import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from omnicompose.errors import SourceError
from omnicompose.tensors.header import MAX_HEADER_BYTES, read_header


def write(path: Path, fields: object, data: bytes = b"", length: int | None = None) -> Path:
    text = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(begin: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> dict:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_file_of_safetensors_reads_back(tmp_path):
    tensors = {"b": torch.ones(2, 3).bfloat16(), "a": torch.tensor(1.0), "empty": torch.zeros(0, 4)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    header = read_header(tmp_path / "x.safetensors")
    assert header.metadata == {"format": "pt"}
    assert {n: (e.info.dtype, e.info.shape) for n, e in header.entries.items()} == {
        name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()
    }


LIES = {
    "past the end": ({"t": entry(0, 16)}, b"\0" * 8, "'t'.*truncated"),
    "overlapping": ({"t": entry(0, 8), "u": entry(4, 12)}, b"\0" * 12, "'u'.*overlapping"),
    "a hole": ({"t": entry(0, 8), "u": entry(12, 16)}, b"\0" * 16, "'u'.*hole"),
    "a hole at the start": ({"t": entry(8, 16)}, b"\0" * 16, "'t'.*hole"),
    "bytes left over": ({"t": entry(0, 8)}, b"\0" * 9, "bytes by its header"),
    "negative offsets": ({"t": entry(-8, 0, [2])}, b"", "'t'.*whole numbers"),
    "offsets reversed": ({"t": entry(8, 0, [2])}, b"\0" * 8, "'t'.*span of 8"),
    "three offsets": (
        {"t": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]}},
        b"\0" * 4,
        "begin and end",
    ),
    "negative size": ({"t": entry(0, 8, [-2])}, b"\0" * 8, "'t'.*shape"),
    "size of truth": ({"t": entry(0, 4, [True])}, b"\0" * 4, "'t'.*shape"),
    "another span": ({"t": entry(0, 8, [3])}, b"\0" * 8, "'t'.*span of 12"),
    "sizes beyond reason": ({"t": entry(0, 8, [10**40, 10**40])}, b"\0" * 8, "'t'.*span"),
    "unknown dtype": ({"t": entry(0, 8, dtype="F31")}, b"\0" * 8, "'t'.*F31.*one of"),
    "dtype no text": ({"t": entry(0, 8, dtype=7)}, b"\0" * 8, "'t'.*dtype 7"),  # type: ignore
    "no dtype": ({"t": {"shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4, "'t'.*exactly dtype"),
    "no entry": ({"t": 3}, b"", "'t'.*exactly dtype"),
    "metadata no map": ({"__metadata__": [1]}, b"", "__metadata__"),
    "metadata no text": ({"__metadata__": {"a": 1}}, b"", "__metadata__"),
    "a list": ([1, 2], b"", "a JSON object"),
    "no JSON": (b"{hello", b"", "no valid JSON"),
    "no UTF-8": (b'{"\xff": 1}', b"", "no valid JSON"),
    "a name twice": (b'{"t": 1, "t": 2}', b"", "'t' occurs twice"),
    "nested without end": (b"[" * 100_000, b"", "JSON"),
    "a number without end": (b'{"t": ' + b"9" * 9000 + b"}", b"", "JSON"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_header_is_refused_with_file_and_reason(tmp_path, lie):
    fields, data, message = LIES[lie]
    path = write(tmp_path / "x.safetensors", fields, data)
    with pytest.raises(SourceError, match=message) as caught:
        read_header(path)
    assert str(caught.value).startswith(str(path))
    assert "expected" in str(caught.value)
    assert "Download" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_huge_header_is_refused_before_it_is_read(tmp_path):
    path = write(tmp_path / "x.safetensors", b"{}", length=MAX_HEADER_BYTES + 1)
    with pytest.raises(SourceError, match="at most 100000000"):
        read_header(path)
    path = write(tmp_path / "x.safetensors", b"{}", length=1000)
    with pytest.raises(SourceError, match="a whole header"):
        read_header(path)


@pytest.mark.parametrize("content", [b"", b"\1\0\0"])
def test_a_file_too_short_for_a_length_is_refused(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(SourceError, match="at least 8"):
        read_header(tmp_path / "x.safetensors")


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(SourceError, match="cannot be read"):
        read_header(tmp_path)
    with pytest.raises(SourceError, match="cannot be read"):
        read_header(tmp_path / "absent.safetensors")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "I8", "F4", "", "BOOL"]) | JSON,
        "shape": st.lists(st.integers(-2, 5), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-4, 80), min_size=2, max_size=2) | JSON,
    }
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    fields=st.dictionaries(st.text(max_size=6), ENTRY | JSON, max_size=4) | JSON | st.binary(),
    data=st.binary(max_size=80),
    shift=st.integers(-3, 3) | st.integers(0, 2**64 - 1),
)
def test_no_header_gives_anything_but_a_source_error(tmp_path, fields, data, shift):
    text = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    length = len(text) + shift if abs(shift) <= 3 else shift
    path = write(tmp_path / "x.safetensors", text, data, length=max(length, 0))
    try:
        header = read_header(path)
    except SourceError as error:
        assert str(error).startswith(str(path))
    else:
        size = sum(e.info.num_bytes for e in header.entries.values())
        assert size == path.stat().st_size - 8 - max(length, 0)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(position=st.integers(0, 140), byte=st.integers(0, 255), cut=st.integers(0, 200))
def test_no_damage_to_a_sound_file_gives_anything_but_a_source_error(tmp_path, position, byte, cut):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(3), "b": torch.ones(2, 2).half()}, path)
    content = bytearray(path.read_bytes())
    content[min(position, len(content) - 1)] = byte
    path.write_bytes(content[: max(len(content) - cut, 0)] if cut < 60 else content)
    try:
        read_header(path)
    except SourceError as error:
        assert str(error).startswith(str(path))
