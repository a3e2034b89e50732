"""Other harnesses' requests become user turns without loss; our results become their files."""

import json
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from evaluation_fakes import FakeAnswerer, FakeTask
from evaluation_media import put
from PIL import Image

from omnicompose.errors import EvaluationError
from omnicompose.evaluation import EvaluationOptions, Share
from omnicompose.evaluation.bridges.export import write_lmms_files
from omnicompose.evaluation.bridges.turns import cut, token_limit, user_turn
from omnicompose.evaluation.evaluate import ask
from omnicompose.evaluation.sample import Medium


@dataclass
class Decoded:
    data: np.ndarray
    sample_rate: int


class Lazy:
    def get_all_samples(self) -> Decoded:
        return Decoded(data=np.ones((2, 5), dtype=np.float32), sample_rate=8000)


def turn(*content: dict[str, object]) -> list[dict[str, object]]:
    return [{"role": "user", "content": list(content)}]


def test_media_are_written_without_loss(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    wave = np.linspace(-1, 1, 50, dtype=np.float32)
    clip = tmp_path / "clip.mp4"
    put(clip, "video")
    content = user_turn(
        turn(
            {"type": "image", "url": picture},
            {"type": "audio", "url": {"array": wave.tolist(), "sampling_rate": 8000}},
            {"type": "audio", "url": Lazy()},
            {"type": "video", "url": str(clip)},
            {"type": "text", "text": "why?"},
        ),
        tmp_path / "made",
    )
    media = [part for part in content if isinstance(part, Medium)]
    assert content[-1] == "why?"
    assert [medium.modality for medium in media] == ["image", "audio", "audio", "video"]
    with Image.open(media[0].path) as again:
        assert np.array_equal(np.array(again), np.array(picture))
    samples, rate = soundfile.read(media[1].path, dtype="float32")
    assert np.array_equal(samples, wave)
    assert rate == 8000
    assert soundfile.read(media[2].path)[0].tolist() == [1.0] * 5
    assert media[3].path == clip


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="a conversation of system, user: expected one user"):
        user_turn([{"role": "system", "content": []}, *turn()], tmp_path)
    with pytest.raises(EvaluationError, match=r"of type image: found a int, expected a picture"):
        user_turn(turn({"type": "image", "url": 3}), tmp_path)
    for settings in ({"temperature": 0.7}, {"do_sample": True}, {"num_beams": 4}):
        with pytest.raises(EvaluationError, match="expected greedy replies"):
            token_limit(settings)


def test_limits_and_ends_of_replies() -> None:
    assert token_limit({"max_new_tokens": 7, "temperature": 0, "do_sample": False}) == 7
    assert token_limit({"max_gen_toks": 9}) == 9
    assert token_limit({}) == 1024
    assert cut("one\ntwo.three", ["\n", "."]) == "one"
    assert cut("one.two", ".") == "one"
    assert cut("one", None) == cut("one", [""]) == "one"


@pytest.fixture
def lmms(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The plugin on a stand-in of lmms-eval: the base class and the manifest, nothing else."""

    class Base:
        def __init__(self) -> None:
            self.task_dict: dict[str, dict[str, list[object]]] = {}

    @dataclass
    class ModelManifest:
        model_id: str
        chat_class_path: str

    names = ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model", "lmms_eval.models")
    for name in (*names, "lmms_eval.models.registry_v2"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["lmms_eval.api.model"].lmms = Base  # type: ignore[attr-defined]
    sys.modules["lmms_eval.models.registry_v2"].ModelManifest = ModelManifest  # type: ignore[attr-defined]
    monkeypatch.delitem(sys.modules, "omnicompose.evaluation.bridges.lmms", raising=False)
    import omnicompose.evaluation.bridges.lmms as plugin

    monkeypatch.setattr(plugin, "load_composite", lambda *_: FakeAnswerer(say=lambda p: "B.x"))
    return plugin


@dataclass
class Request:
    args: tuple[object, ...]


def test_the_lmms_plugin_answers_in_order(lmms: types.ModuleType, tmp_path: Path) -> None:
    assert lmms.manifest.model_id == "omnicompose"
    assert lmms.manifest.chat_class_path.endswith("bridges.lmms.OmniCompose")
    model = lmms.OmniCompose(pretrained="omni", batch_size=2)
    assert model.is_simple is False
    model.task_dict = {"task": {"test": ["one", "two", "three"]}}
    seen: list[str] = []

    def messages(doc: str) -> list[dict[str, object]]:
        seen.append(doc)
        return turn({"type": "text", "text": doc})

    requests = [
        Request(("", messages, {"max_new_tokens": 4, "until": ["."]}, i, "task", "test"))
        for i in range(3)
    ]
    assert model.generate_until(requests) == ["B"] * 3
    assert seen == ["one", "two", "three"]
    gone = turn({"type": "image", "url": str(tmp_path / "gone.png")})
    with pytest.raises(EvaluationError, match=r"gone\.png"):
        model.generate_until([Request(("", lambda doc: gone, {}, 0, "task", "test"))])
    for call in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(NotImplementedError, match="omnicompose"):
            call([])


def test_results_in_lmms_evals_files(tmp_path: Path) -> None:
    options = EvaluationOptions(out_dir=tmp_path, modalities=("all", "none"))
    assert ask(FakeAnswerer(), [FakeTask()], options, (Path("omni"), Share())) is not None
    results, *samples = write_lmms_files(tmp_path)
    found = json.loads(results.read_text())
    assert {"results", "configs", "versions", "n-shot", "n-samples", "config"} <= found.keys()
    name = "fake/common:image+audio:image+audio:letter"
    assert found["n-samples"][name] == {"original": 12, "effective": 12}
    assert 0 <= found["results"][name]["accuracy,none"] <= 1
    lines = [json.loads(line) for line in samples[0].read_text().splitlines()]
    assert [line["doc_id"] for line in lines] == list(range(12))
    assert list(lines[0]) == [
        "doc_id",
        "target",
        "filtered_resps",
        "token_counts",
        "doc_hash",
        "accuracy",
        "input",
    ]
    assert len(samples) == 2
