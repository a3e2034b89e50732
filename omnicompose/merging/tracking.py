"""Progress in bytes, added up from several threads."""

import threading
from typing import Literal

from omnicompose.merging.options import Progress, Report


class Tracker:
    """Adds up finished bytes and reports them, from one thread at a time."""

    def __init__(
        self, stage: Literal["observe", "write"], total_bytes: int, report: Report | None
    ) -> None:
        """Start at nothing."""
        self._stage, self._total_bytes, self._report = stage, total_bytes, report
        self._done_bytes = 0
        self._lock = threading.Lock()

    def add(self, num_bytes: int, tensor: str) -> None:
        """Count a finished tensor."""
        with self._lock:
            self._done_bytes += num_bytes
            if self._report is not None:
                progress = Progress(
                    stage=self._stage,
                    done_bytes=self._done_bytes,
                    total_bytes=self._total_bytes,
                    tensor=tensor,
                )
                self._report(progress)
