"""Attacks through files of experts and recipes: nothing is run, nothing leaves its folder."""

import json
import os
import pickle
import shutil
import socket
import struct
from pathlib import Path

import pytest

from omnicompose.composer import compose
from omnicompose.errors import OmniComposeError
from omnicompose.export import verify

ROOT = Path(__file__).parents[2]


class Harm:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def refused(tiny: Path, expert: Path, out: Path, extra: str = "") -> str:
    """Compose with a bad expert; the message of the refusal."""
    recipe = out.parent / "recipe.yaml"
    recipe.write_text(f"base: {tiny / 'base'}\n{extra}experts: {{audio: {{source: {expert}}}}}\n")
    with pytest.raises(OmniComposeError) as caught:
        compose(recipe, out)
    assert not out.exists()
    return str(caught.value)


@pytest.fixture
def expert(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny / "audio", tmp_path / "expert"))


@pytest.mark.parametrize("allowed", [False, True], ids=["as it is", "with allow_pickle"])
def test_pickled_weights_run_no_code(
    tiny: Path, expert: Path, tmp_path: Path, allowed: bool
) -> None:
    marker = tmp_path / "harm"
    adapter = expert / "adapter/adapter_model.safetensors"
    adapter.with_suffix(".bin").write_bytes(pickle.dumps({"x": Harm(marker)}, protocol=2))
    adapter.unlink()
    refused(tiny, expert, tmp_path / "out", "allow_pickle: true\n" if allowed else "")
    assert not marker.exists()


def test_a_pickle_under_a_safe_name_is_no_safetensors(
    tiny: Path, expert: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "harm"
    path = expert / "adapter/adapter_model.safetensors"
    path.write_bytes(pickle.dumps({"x": Harm(marker)}, protocol=2))
    refused(tiny, expert, tmp_path / "out")
    assert not marker.exists()


HEADERS = {
    "a length beyond the file": struct.pack("<Q", 2**62) + b"{}",
    "a length of the whole memory": struct.pack("<Q", 2**40) + b"{}",
    "brackets without end": struct.pack("<Q", 100_000) + b"[" * 100_000,
    "objects without end": struct.pack("<Q", 600_000) + b'{"a":' * 120_000,
    "no text": struct.pack("<Q", 4) + b"\xff\xff\xff\xff",
    "a shape of 2^60": struct.pack("<Q", 70)
    + b'{"t":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]}}'.ljust(70),
    "offsets that overlap": struct.pack("<Q", 128)
    + (
        b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'
        b'"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}'
    ).ljust(128)
    + b"\0" * 6,
    "a negative offset": struct.pack("<Q", 64)
    + b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[-4,0]}}'.ljust(64),
    "nothing": b"",
    "half a length": b"\x01\x00",
}


@pytest.mark.parametrize("what", HEADERS)
def test_header_bombs(tiny: Path, expert: Path, tmp_path: Path, what: str) -> None:
    (expert / "adapter/adapter_model.safetensors").write_bytes(HEADERS[what])
    assert "adapter_model.safetensors" in refused(tiny, expert, tmp_path / "out")


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/../../x.safetensors"])
def test_an_index_cannot_leave_its_folder(tiny: Path, tmp_path: Path, name: str) -> None:
    base = Path(shutil.copytree(tiny / "base", tmp_path / "base"))
    shutil.move(base / "model.safetensors", tmp_path / "secret.safetensors")
    index = {"weight_map": {"model.embed_tokens.weight": name}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"base: {base}\nexperts: {{audio: {{source: {tiny}/audio}}}}\n")
    with pytest.raises(OmniComposeError, match="expected a plain name beside the index"):
        compose(recipe, tmp_path / "out")


def test_code_beside_an_expert_is_not_run(tiny: Path, expert: Path, tmp_path: Path) -> None:
    marker = tmp_path / "harm"
    code = f"open({str(marker)!r}, 'w')\nclass Evil: pass\n"
    base = Path(shutil.copytree(tiny / "base", tmp_path / "base"))
    for folder in (base, expert):
        (folder / "evil.py").write_text(code)
        for name in ("config.json", "preprocessor_config.json", "tokenizer_config.json"):
            if (folder / name).is_file():
                data = json.loads((folder / name).read_text())
                autos = ("AutoConfig", "AutoModelForCausalLM", "AutoFeatureExtractor")
                data["auto_map"] = dict.fromkeys((*autos, "AutoTokenizer"), "evil.Evil")
                (folder / name).write_text(json.dumps(data))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"base: {base}\nexperts: {{audio: {{source: {expert}}}}}\n")
    try:
        compose(recipe, tmp_path / "out")
    except OmniComposeError:
        pass
    else:
        assert verify(tmp_path / "out") == []
        for path in (tmp_path / "out").glob("*.json"):
            assert "evil" not in path.read_text(), path.name
    assert not marker.exists()


def test_a_chat_template_reaches_nothing(tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoProcessor

    marker = tmp_path / "harm"
    base = Path(shutil.copytree(tiny / "base", tmp_path / "base"))
    escape = "{{ cycler.__init__.__globals__.os.system('touch " + str(marker) + "') }}"
    (base / "chat_template.jinja").write_text(escape + "{{ messages[0]['content'] }}")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"base: {base}\nexperts: {{audio: {{source: {tiny}/audio}}}}\n")
    try:
        compose(recipe, tmp_path / "out")
        processor = AutoProcessor.from_pretrained(tmp_path / "out")
        with pytest.raises(Exception, match=r"unsafe|undefined"):
            processor.apply_chat_template([{"role": "user", "content": "x"}])
    except OmniComposeError:
        pass
    assert not marker.exists()


@pytest.mark.parametrize(
    "line",
    [
        "base: !!python/object/apply:os.system ['touch {marker}']",
        "base: !!python/name:os.system",
        "a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nbase: *c",
    ],
)
def test_a_recipe_runs_nothing(tmp_path: Path, line: str) -> None:
    marker = tmp_path / "harm"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(line.replace("{marker}", str(marker)) + "\nexperts: {}\n")
    with pytest.raises(OmniComposeError):
        compose(recipe, tmp_path / "out")
    assert not marker.exists()


def test_no_network_unless_asked(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Composing local experts looks nothing up, even where the hub is allowed."""
    asked: list[object] = []

    def refuse(*where: object, **_: object) -> None:
        asked.append(where)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"base: {tiny}/base\nexperts: {{audio: {{source: {tiny}/audio}}}}\n")
    compose(recipe, tmp_path / "out")
    assert asked == []


def test_a_broken_tokenizer_is_named(tiny: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny / "base", tmp_path / "base"))
    data = json.loads((base / "tokenizer.json").read_text())
    data["model"]["type"] = "Nothing"
    (base / "tokenizer.json").write_text(json.dumps(data))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"base: {base}\nexperts: {{audio: {{source: {tiny}/audio}}}}\n")
    with pytest.raises(OmniComposeError, match="cannot read the tokenizer"):
        compose(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()
