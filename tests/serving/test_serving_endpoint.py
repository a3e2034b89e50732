"""The OpenAI-compatible endpoint: its official client, a crowd, and everything sent wrongly."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from openai import BadRequestError, OpenAI

COMPLETIONS = "/v1/chat/completions"


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def parts(media: dict[str, Path]) -> list[dict[str, object]]:
    return [
        {
            "type": "image_url",
            "image_url": {"url": f"data:image/png;base64,{encoded(media['image'])}"},
        },
        {"type": "input_audio", "input_audio": {"data": encoded(media["audio"]), "format": "wav"}},
        {"type": "text", "text": "What do these have in common?"},
    ]


def chat(content: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": content}]


@pytest.fixture
def client(served: object) -> OpenAI:
    return OpenAI(base_url=f"{served.address}/v1", api_key="none", max_retries=0)


def post(served: object, body: object, **headers: str) -> httpx2.Response:
    return httpx2.post(served.address + COMPLETIONS, json=body, headers=headers, timeout=120)


def test_the_official_client_asks_about_a_picture_and_a_sound(
    client: OpenAI, media: dict[str, Path]
) -> None:
    whole = client.chat.completions.create(model="omni", messages=chat(parts(media)))
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    shown = whole.omnicompose["inputs"]
    assert [(one["modality"], one["tokens"]) for one in shown] == [("image", 16), ("audio", 4)]
    pieces = client.chat.completions.create(
        model="omni",
        messages=chat(parts(media)),
        stream=True,
        stream_options={"include_usage": True},
    )
    events = list(pieces)
    text = "".join(one.choices[0].delta.content or "" for one in events if one.choices)
    assert text.strip() == whole.choices[0].message.content
    assert len(events) > 3
    assert events[-1].usage == whole.usage
    assert client.models.list().data[0].id == "omni"


def test_a_dialogue_goes_on_and_stops_where_told(client: OpenAI) -> None:
    messages = [*chat("Which number?"), {"role": "assistant", "content": "zero (A)"}]
    more = client.chat.completions.create(
        model="omni", messages=[*messages, *chat("And now?")], max_tokens=3
    )
    assert more.usage.completion_tokens <= 3
    plain = client.chat.completions.create(model="omni", messages=chat("Which number?"))
    text = plain.choices[0].message.content
    cut = client.chat.completions.create(
        model="omni", messages=chat("Which number?"), stop=[text[2:4]]
    )
    assert cut.choices[0].message.content == text[:2].strip()
    assert cut.choices[0].finish_reason == "stop"


def test_a_seed_gives_the_same_answer_again(client: OpenAI) -> None:
    said = [
        client.chat.completions.create(
            model="omni", messages=chat("Say something."), temperature=1.5, seed=7, max_tokens=8
        )
        .choices[0]
        .message.content
        for _ in range(2)
    ]
    assert said[0] == said[1]


def test_fifty_at_once_are_all_answered(served: object, media: dict[str, Path]) -> None:
    body = {"messages": chat(parts(media)), "max_tokens": 8}
    with ThreadPoolExecutor(50) as crowd:
        answers = list(crowd.map(lambda _: post(served, body), range(50)))
    assert [answer.status_code for answer in answers] == [200] * 50
    texts = {answer.json()["choices"][0]["message"]["content"] for answer in answers}
    assert len(texts) == 1
    assert served.queue.waiting == 0


WRONG = {
    "not an object": [1],
    "no messages": {},
    "no message": {"messages": []},
    "a strange role": {"messages": [{"role": "root", "content": "x"}]},
    "no content": {"messages": [{"role": "user"}]},
    "a strange part": {"messages": chat([{"type": "file", "file": {"file_id": "1"}}])},
    "a path": {"messages": chat([{"type": "image_url", "image_url": {"url": "/etc/passwd"}}])},
    "a file address": {
        "messages": chat([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}])
    },
    "an address": {
        "messages": chat([{"type": "video_url", "video_url": {"url": "http://127.0.0.1/x"}}])
    },
    "no base64": {"messages": chat([{"type": "input_audio", "input_audio": {"data": "%%%"}}])},
    "an empty medium": {"messages": chat([{"type": "input_audio", "input_audio": {"data": ""}}])},
    "too large a medium": {
        "messages": chat([{"type": "input_audio", "input_audio": {"data": "A" * 1_600_000}}])
    },
    "no picture": {
        "messages": chat(
            [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}]
        )
    },
    "media of the assistant": {
        "messages": [
            {
                "role": "assistant",
                "content": [{"type": "input_audio", "input_audio": {"data": "aGVsbG8="}}],
            }
        ]
    },
    "too many answers": {"messages": chat("x"), "n": 2},
    "tools": {"messages": chat("x"), "tools": [{"type": "function"}]},
    "too many tokens": {"messages": chat("x"), "max_tokens": 10**6},
    "too long a text": {"messages": chat("x " * 60_000)},
    "longer than the model reads": {"messages": chat("number " * 3000)},
    "a strange temperature": {"messages": chat("x"), "temperature": "hot"},
    "no words": {"messages": chat(" ")},
    "a strange stop": {"messages": chat("x"), "stop": [""]},
    "endless stops": {"messages": chat("x"), "stop": ["a"] * 9},
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_refused_in_words(served: object, what: str) -> None:
    answer = post(served, WRONG[what])
    assert answer.status_code == 400, answer.text
    message = answer.json()["error"]["message"]
    assert message
    assert "omnicompose-upload" not in message


def test_raw_bodies_do_no_harm(served: object) -> None:
    address = served.address + COMPLETIONS
    json_type = {"Content-Type": "application/json"}
    assert httpx2.post(address, content=b"{", headers=json_type).status_code == 400
    assert httpx2.post(address, content=b"[" * 100_000, headers=json_type).status_code == 400
    assert httpx2.post(address, content=b"\xff\xfe", headers=json_type).status_code == 400
    plain = httpx2.post(address, content=b"{}", headers={"Content-Type": "text/plain"})
    assert plain.status_code == 400
    large = httpx2.post(address, content=b" " * (3 << 20), headers=json_type, timeout=60)
    assert large.status_code == 413
    assert "at most" in large.json()["error"]["message"]
    assert httpx2.get(served.address + "/health").json() == {"status": "ok", "waiting": 0}


def test_another_name_of_this_machine_is_refused(served: object) -> None:
    """A page elsewhere may let its own name point to 127.0.0.1."""
    answer = httpx2.get(served.address + "/", headers={"Host": "evil.example"})
    assert answer.status_code == 421
    assert httpx2.get(served.address + "/").headers["content-security-policy"]
    assert httpx2.get(served.address + "/openapi.json").status_code == 404
    assert httpx2.get(served.address + "/../../etc/passwd").status_code == 404


def test_the_client_sees_errors_as_its_own(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="expected the medium inside the request"):
        client.chat.completions.create(
            model="omni",
            messages=chat([{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]),
        )


def test_who_goes_away_makes_room(served: object) -> None:
    body = {"messages": chat("Which number?"), "stream": True, "max_tokens": 500}
    with httpx2.stream("POST", served.address + COMPLETIONS, json=body, timeout=60) as answer:
        first = next(answer.iter_lines())
        assert json.loads(first.removeprefix("data: "))["choices"][0]["delta"]["role"]
    assert post(served, {"messages": chat("Which number?"), "max_tokens": 2}).status_code == 200


def test_a_full_queue_says_come_again(served: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from omnicompose.serving.limits import ServingOptions

    monkeypatch.setattr(served.queue, "options", ServingOptions(waiting=0))
    answer = post(served, {"messages": chat("Which number?")})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
