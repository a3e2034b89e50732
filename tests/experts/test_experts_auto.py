"""Code that comes with a tokenizer or preprocessor: refused by name, run only where allowed."""

import json
from pathlib import Path

import pytest
from tiny_experts import write_audio_expert, write_base
from transformers import AutoProcessor
from typer.testing import CliRunner, Result

from omnicompose.cli import app
from omnicompose.errors import SourceError
from omnicompose.experts.auto import code_in, load_auto

TOKENIZER = """\
from pathlib import Path
from transformers import PreTrainedTokenizerFast

Path(__file__).with_name("ran").touch()


class NovelTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def novel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base whose tokenizer is a class of its own, which says when it was imported."""
    modules = tmp_path / "modules"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(modules))
    monkeypatch.syspath_prepend(str(modules))
    base = write_base(tmp_path / "base")
    path = base / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["tokenizer_class"] = "NovelTokenizer"
    config["auto_map"] = {"AutoTokenizer": [None, "novel.NovelTokenizer"]}
    path.write_text(json.dumps(config))
    (base / "novel.py").write_text(TOKENIZER)
    write_audio_expert(tmp_path / "audio", base)
    (tmp_path / "recipe.yaml").write_text(
        f"base: {base}\nexperts: {{audio: {{source: {tmp_path}/audio}}}}\n"
    )
    return base


def ran(folder: Path) -> bool:
    return any(folder.rglob("ran"))


def compose(folder: Path, *options: str) -> Result:
    command = ["compose", str(folder / "recipe.yaml"), "--out", str(folder / "out"), *options]
    return CliRunner().invoke(app, command)


def test_code_is_named_and_not_run(novel: Path, tmp_path: Path) -> None:
    assert code_in(novel) == {"tokenizer_config.json": "novel.NovelTokenizer"}
    with pytest.raises(SourceError) as caught:
        load_auto("AutoTokenizer", "x", novel, trust_remote_code=False)
    assert str(caught.value).startswith(
        "x: it needs code that comes with it, novel.NovelTokenizer (tokenizer_config.json), which "
        "is not run unasked."
    )
    done = compose(tmp_path)
    assert done.exit_code == 2
    assert "--trust-remote-code" in done.stderr
    assert not (tmp_path / "out").exists()
    assert not ran(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_code_is_run_where_it_is_allowed(novel: Path, tmp_path: Path) -> None:
    done = compose(tmp_path, "--trust-remote-code")
    assert done.exit_code == 0, done.stderr
    assert ran(tmp_path / "modules")
    processor = AutoProcessor.from_pretrained(tmp_path / "out", trust_remote_code=True)
    assert type(processor.tokenizer).__name__ == "NovelTokenizer"
    assert processor.tokenizer.convert_tokens_to_ids("<audio>") == processor.audio_token_id


def test_malformed_files_name_no_code(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "preprocessor_config.json").write_text("[]")
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": null}')
    assert code_in(tmp_path) == {}
