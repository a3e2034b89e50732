"""The HTTP side: a chat page, and OpenAI's chat completions with whole or streamed answers."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from omnicompose.errors import OmniComposeError, RequestError
from omnicompose.serving.answering import Ending, Shown
from omnicompose.serving.chat import ChatRequest, read_request
from omnicompose.serving.limits import ServingOptions
from omnicompose.serving.queue import AnswerQueue, BusyError, Piece

PAGE = "page.html"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "img-src data: blob:; media-src data: blob:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
LOOPBACKS = ("127.0.0.1", "localhost", "::1")
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


class TooLargeError(RequestError):
    """A body beyond the limit."""


def make_app(queue: AnswerQueue, model: str, about: Mapping[str, object]) -> FastAPI:
    """The application.

    Args:
        queue: answers requests.
        model: the name that clients are told.
        about: modalities and limits, for the page.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _guard(app, queue.options)
    _add_facts(app, queue, {"model": model, **about})
    _add_chat(app, queue, model)
    return app


def _guard(app: FastAPI, options: ServingOptions) -> None:
    """Only names of this machine: a page elsewhere may have its own name point here."""

    @app.middleware("http")
    async def guard(request: Request, call_next):  # type: ignore[no-untyped-def]
        if options.host in LOOPBACKS and _host(request) not in LOCAL_NAMES:
            return _problem(421, "this server answers to its own name only.")
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response


def _add_facts(app: FastAPI, queue: AnswerQueue, about: Mapping[str, object]) -> None:
    """The page, and what is known without asking the model."""
    page = files("omnicompose.serving").joinpath(PAGE).read_text(encoding="utf-8")

    @app.get("/")
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/about")
    async def show_about() -> JSONResponse:
        return JSONResponse(dict(about))

    @app.get("/health")
    async def show_health() -> JSONResponse:
        return JSONResponse({"status": "ok", "waiting": queue.waiting})

    @app.get("/v1/models")
    async def list_models() -> JSONResponse:
        fields = {"object": "model", "created": 0, "owned_by": "omnicompose"}
        return JSONResponse({"object": "list", "data": [{"id": about["model"], **fields}]})


def _add_chat(app: FastAPI, queue: AnswerQueue, model: str) -> None:
    """Chat completions, whole or streamed."""

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        try:
            asked = read_request(await _body(request, queue.options), queue.options)
            pieces = queue.ask(asked)
            first = await anext(pieces)  # what is wrong with a request shows here
        except OmniComposeError as error:
            return _refusal(error)
        except Exception:
            return _problem(500, "a fault of this server; its log says more.")
        heading = _Heading(model)
        if asked.stream:
            events = _events(heading, asked, first, pieces)
            return StreamingResponse(events, media_type="text/event-stream")
        return await _whole(heading, first, pieces)


class _Heading:
    """What all pieces of one answer have in common."""

    def __init__(self, model: str) -> None:
        self.fields = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def chunk(self, delta: Mapping[str, object], reason: str | None = None) -> dict[str, object]:
        choice = {"index": 0, "delta": dict(delta), "finish_reason": reason, "logprobs": None}
        return {**self.fields, "object": "chat.completion.chunk", "choices": [choice]}


async def _body(request: Request, options: ServingOptions) -> object:
    """The JSON of a request, read no further than the limit.

    Raises:
        RequestError: too large, not JSON, or sent as something else.
    """
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        # Pages of other sites can send other types without being asked for leave.
        raise RequestError("expected Content-Type: application/json.")
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > options.body_bytes:
            raise TooLargeError(f"a request may have {options.body_bytes:,} bytes at most.")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON ({type(error).__name__}).") from error


async def _whole(heading: _Heading, first: Piece, pieces: AsyncIterator[Piece]) -> Response:
    shown, texts, ending = _inputs(first), [], None
    try:
        async for piece in pieces:
            if isinstance(piece, str):
                texts.append(piece)
            elif isinstance(piece, Ending):
                ending = piece
    except OmniComposeError as error:
        return _refusal(error)
    except Exception:
        return _problem(500, "a fault of this server; its log says more.")
    assert ending is not None  # the queue gives it last, or raises
    message = {"role": "assistant", "content": "".join(texts).strip(), "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": ending.reason, "logprobs": None}
    return JSONResponse(
        {
            **heading.fields,
            "object": "chat.completion",
            "choices": [choice],
            "usage": _usage(ending),
            "omnicompose": shown,
        }
    )


async def _events(
    heading: _Heading, asked: ChatRequest, first: Piece, pieces: AsyncIterator[Piece]
) -> AsyncIterator[str]:
    """Server-sent events: what was shown, each piece of the answer, how it ended."""
    opening = heading.chunk({"role": "assistant", "content": ""})
    yield _event(opening | {"omnicompose": _inputs(first)})
    try:
        async for piece in pieces:
            if isinstance(piece, str):
                yield _event(heading.chunk({"content": piece}))
            elif isinstance(piece, Ending):
                yield _event(heading.chunk({}, piece.reason))
                if asked.usage:
                    yield _event(heading.chunk({}) | {"choices": [], "usage": _usage(piece)})
    except OmniComposeError as error:
        yield _event({"error": _error(str(error), 400)})
    except Exception:
        yield _event({"error": _error("a fault of this server; its log says more.", 500)})
    yield "data: [DONE]\n\n"


def _event(data: Mapping[str, object]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _inputs(first: Piece) -> dict[str, object]:
    shown = first if isinstance(first, list) else []
    return {"inputs": [one.to_json() for one in shown if isinstance(one, Shown)]}


def _usage(ending: Ending) -> dict[str, int]:
    return {
        "prompt_tokens": ending.prompt_tokens,
        "completion_tokens": ending.answer_tokens,
        "total_tokens": ending.prompt_tokens + ending.answer_tokens,
    }


def _refusal(error: OmniComposeError) -> Response:
    codes: dict[type[OmniComposeError], int] = {BusyError: 503, TooLargeError: 413}
    return _problem(codes.get(type(error), 400), str(error))


def _problem(code: int, message: str) -> JSONResponse:
    headers = {"Retry-After": "5"} if code == 503 else {}
    return JSONResponse({"error": _error(message, code)}, code, headers)


def _error(message: str, code: int) -> dict[str, object]:
    kind = "invalid_request_error" if code < 500 else "server_error"
    return {"message": message, "type": kind, "code": code, "param": None}


def _host(request: Request) -> str:
    """The name that the client used, without the port."""
    name = request.headers.get("host", "").lower()
    return name.rsplit(":", 1)[0] if not name.endswith("]") else name
