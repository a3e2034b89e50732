"""Records: every mistake is found before training starts, by file, line and field."""

import json
from pathlib import Path

import pytest
from PIL import Image

from omnicompose.errors import TrainingError
from omnicompose.training.records import MAX_SHOWN, read_records

ASKED = {"role": "user", "content": "What is it?"}
SAID = {"role": "assistant", "content": "A seven."}


def problems(folder: Path, *lines: object) -> list[str]:
    path = folder / "bad.jsonl"
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    with pytest.raises(TrainingError) as caught:
        read_records([path], ["image"])
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


def shown(**item: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": [item]}, SAID]}


def asked(**change: object) -> dict[str, object]:
    return {"messages": [{**ASKED, **change}, SAID]}


def test_good_records_of_several_files(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    content = [{"type": "image", "path": "a.png"}, {"type": "text", "text": "What?"}]
    line = json.dumps({"id": "x", "messages": [{"role": "user", "content": content}, SAID]})
    (tmp_path / "one.jsonl").write_text(line + "\n\n")
    (tmp_path / "two.jsonl").write_text(json.dumps({"messages": [ASKED, SAID]}))
    one, two = read_records([tmp_path / "one.jsonl", tmp_path / "two.jsonl"], ["image"])
    assert one.where == f"{tmp_path / 'one.jsonl'}:1"
    assert one.messages[0]["content"] == [{"type": "image"}, {"type": "text", "text": "What?"}]
    assert one.media == (("image", tmp_path / "a.png"),)
    assert two.media == () and two.messages == (ASKED, SAID)


MALFORMED = [
    ("{", "not JSON: Expecting property name enclosed in double quotes at column 2."),
    ("[" * 100_000, "not JSON that can be read: it is nested too deep."),
    ([1], "found list '[1]', expected an object with `messages`."),
    ({"message": []}, "unknown key 'message'; known keys: id, messages."),
    ({"messages": []}, "messages: found list '[]', expected a list of messages."),
    ({"messages": [ASKED]}, "messages: no assistant turn, so there is nothing to learn."),
    ({"messages": [SAID, ASKED]}, "messages: the last turn is of 'user', expected the"),
    ({"messages": ["hi", SAID]}, "messages.0: found str 'hi', expected an object with `role`"),
    (asked(role="human"), "messages.0.role: found 'human', expected one of system, user, assis"),
    (asked(weight=1), "messages.0: unknown key 'weight'; known keys: role, content."),
    (asked(content=" "), "messages.0.content: found ' ', expected words."),
    (asked(content=None), "messages.0.content: found nothing, expected text or a list of items."),
    (asked(content=["x"]), "messages.0.content.0: found str 'x', expected an object with `type`"),
    (asked(content="<image> what?"), "messages.0.content: found '<image>' in the words"),
    (shown(type="text", text=""), "messages.0.content.0.text: found '', expected words."),
    (shown(type="text", text="an <audio>"), "messages.0.content.0.text: found '<audio>' in the"),
    (shown(type="video", path="a"), "messages.0.content.0.type: found 'video', but this model"),
    (shown(type="image"), "messages.0.content.0.path: found None, expected the path of the image."),
    (shown(type="image", path="no.png"), "no.png: there is no such file. Correct the path of the"),
    (shown(type="image", path="bad.jsonl"), "bad.jsonl: given as image, but found nothing that"),
    (
        {"messages": [ASKED, {**SAID, "content": [{"type": "image", "path": "a"}]}]},
        "messages.1.content.0.type: found 'image', but an assistant says words only.",
    ),
]


@pytest.mark.parametrize(("record", "problem"), MALFORMED)
def test_a_malformed_record(tmp_path: Path, record: object, problem: str) -> None:
    found = problems(tmp_path, {"messages": [ASKED, SAID]}, record)
    assert any(line.startswith("2: ") and problem in line for line in found), found


def test_all_mistakes_of_all_lines_are_told(tmp_path: Path) -> None:
    found = problems(tmp_path, "{", {"messages": []}, shown(type="image"))
    assert [line.split(":")[0] for line in found] == ["1", "2", "3"]


def test_a_flood_of_mistakes_is_cut(tmp_path: Path) -> None:
    found = problems(tmp_path, *["{"] * (MAX_SHOWN + 7))
    assert len(found) == MAX_SHOWN + 1 and found[-1] == "and 7 more mistakes."


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(TrainingError, match=r"empty\.jsonl: found no records"):
        read_records([tmp_path / "empty.jsonl"], [])
    (tmp_path / "latin.jsonl").write_bytes(b"\xff")
    with pytest.raises(TrainingError, match="cannot be read as UTF-8"):
        read_records([tmp_path / "latin.jsonl"], [])
