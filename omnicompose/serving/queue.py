"""One model, one queue: requests wait their turn; a thread of its own computes the answers."""

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Event

from omnicompose.errors import OmniComposeError, RequestError
from omnicompose.replier import Replier
from omnicompose.serving.answering import Ending, Listener, Shown, answer
from omnicompose.serving.chat import ChatRequest
from omnicompose.serving.limits import ServingOptions

LOG = logging.getLogger(__name__)
Piece = list[Shown] | str | Ending | Exception
"""What comes back, in this order: what was shown, texts, how it ended; or why it failed."""
STOPPING = "the server is stopping."


class BusyError(RequestError):
    """Too many requests wait already."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Job:
    request: ChatRequest
    gone: Event
    pieces: "asyncio.Queue[Piece]"
    loop: asyncio.AbstractEventLoop

    def put(self, piece: Piece) -> None:
        """Hand a piece to the waiting request, from any thread."""
        with suppress(RuntimeError):  # the loop has ended: nobody listens any more
            self.loop.call_soon_threadsafe(self.pieces.put_nowait, piece)


class AnswerQueue:
    """Answers requests one after the other, in the order in which they came."""

    def __init__(self, replier: Replier, options: ServingOptions) -> None:
        """Take over a loaded composite.

        Args:
            replier: used by this queue's thread alone.
            options: the limits.
        """
        self._replier = replier
        self.options = options
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._open: set[_Job] = set()
        self._stopping = False

    @property
    def waiting(self) -> int:
        """Requests that have no whole answer yet."""
        return len(self._open)

    async def ask(self, request: ChatRequest) -> AsyncIterator[Piece]:
        """The pieces of an answer as they come.

        Raises:
            BusyError: too many wait, or the server is stopping.
            OmniComposeError: the request cannot be answered.
        """
        if self._stopping:
            raise BusyError(STOPPING)
        if self.waiting >= self.options.waiting:
            raise BusyError(f"{self.waiting} requests wait already. Come again later.")
        loop = asyncio.get_running_loop()
        job = _Job(request=request, gone=Event(), pieces=asyncio.Queue(), loop=loop)
        self._open.add(job)
        self._thread.submit(self._work, job)
        try:
            while not isinstance(piece := await job.pieces.get(), Ending):
                if isinstance(piece, Exception):
                    raise piece
                yield piece
            yield piece
        finally:
            job.gone.set()
            self._open.discard(job)

    def _work(self, job: _Job) -> None:
        if job.gone.is_set():
            job.put(BusyError(STOPPING))  # to a client that left, this says nothing
            return
        listener = Listener(shown=job.put, text=job.put, gone=job.gone)
        try:
            job.put(answer(self._replier, job.request, self.options, listener))
        except OmniComposeError as error:
            job.put(error)
        except Exception as error:  # whatever it is, the next request must be answered
            LOG.exception("an answer failed")
            job.put(error)

    def close(self) -> None:
        """End the answer that is being made where it is, refuse what waits and what is to come."""
        self._stopping = True
        for job in list(self._open):
            job.gone.set()
        self._thread.shutdown(wait=True)
