"""The queue at its end: the answer under way is ended where it is, the others are refused."""

import asyncio
from threading import Event

import pytest

from omnicompose.serving import queue as queues
from omnicompose.serving.answering import Ending, Listener
from omnicompose.serving.chat import ChatRequest, read_request
from omnicompose.serving.limits import ServingOptions

OPTIONS = ServingOptions()
BEGUN = Event()


def request() -> ChatRequest:
    return read_request({"messages": [{"role": "user", "content": "x"}]}, OPTIONS)


def endless(_: object, asked: ChatRequest, options: ServingOptions, listener: Listener) -> Ending:
    """An answer that goes on until nobody wants it."""
    listener.text("so far")
    BEGUN.set()
    assert listener.gone.wait(30), "nobody stopped it"
    return Ending(reason="length", prompt_tokens=1, answer_tokens=1)


async def whole(queue: queues.AnswerQueue) -> list[object]:
    try:
        return [piece async for piece in queue.ask(request())]
    except queues.BusyError as error:
        return [str(error)]


async def stopped(queue: queues.AnswerQueue) -> list[list[object]]:
    """What three get: the one being answered, one that waits, one that comes too late."""
    first, second = (asyncio.create_task(whole(queue)) for _ in range(2))
    assert await asyncio.to_thread(BEGUN.wait, 30)
    assert queue.waiting == 2
    await asyncio.to_thread(queue.close)
    return [await first, await second, await whole(queue)]


def test_closing_ends_what_is_made_and_refuses_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "answer", endless)
    queue = queues.AnswerQueue(object(), OPTIONS)
    first, *others = asyncio.run(stopped(queue))
    assert first[0] == "so far"
    assert first[-1].reason == "length"
    assert others == [["the server is stopping."]] * 2
    assert queue.waiting == 0
