"""A model for lmms-eval: `lmms-eval --model omnicompose --model_args pretrained=DIR --tasks ...`.

Every request goes the way that `omnicompose evaluate` goes: batches, media encoded once, greedy.
"""

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.answerer import Prepared, Prompt
from omnicompose.evaluation.bridges.turns import cut, token_limit, user_turn
from omnicompose.evaluation.loading import load_composite

if TYPE_CHECKING:
    from lmms_eval.api.instance import Instance

manifest = ModelManifest(
    model_id="omnicompose",
    chat_class_path="omnicompose.evaluation.bridges.lmms.OmniCompose",
)
"""What lmms-eval finds under its entry point."""


class OmniCompose(lmms):  # type: ignore[misc]
    """A composite as a chat model of lmms-eval."""

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        device: str = "cpu",
        dtype: str = "auto",
        batch_size: int | str = 16,
        max_batch_size: int | None = None,
    ) -> None:
        """Load a composite.

        Args:
            pretrained: its folder.
            device: where it runs.
            dtype: of the computation.
            batch_size: requests at once.
            max_batch_size: passed by lmms-eval; not used.
        """
        super().__init__()
        self._composite = load_composite(Path(pretrained), device, dtype)
        self._batch_size = int(batch_size)
        self._folder = Path(tempfile.mkdtemp(prefix="omnicompose-media-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def generate_until(self, requests: "Sequence[Instance]") -> list[str]:
        """Greedy replies to requests, in their order."""
        replies: list[str] = []
        for start in range(0, len(requests), self._batch_size):
            replies += self._reply(requests[start : start + self._batch_size])
        return replies

    def loglikelihood(self, requests: "Sequence[Instance]") -> list[tuple[float, bool]]:
        """Not offered: lmms-eval's chat models only generate."""
        raise NotImplementedError("omnicompose: use omnicompose evaluate --score letter")

    def generate_until_multi_round(self, requests: "Sequence[Instance]") -> list[str]:
        """Not offered: a composite is asked one question at a time."""
        raise NotImplementedError("omnicompose: composites answer one turn")

    def _reply(self, batch: "Sequence[Instance]") -> list[str]:
        contents, limits = [], []
        for request in batch:
            _, to_messages, settings, doc_id, task, split = request.args
            messages = to_messages(self.task_dict[task][split][doc_id])
            contents.append(user_turn(messages, self._folder))
            limits.append((token_limit(settings), settings.get("until")))
        texts = self._composite.render(contents)
        outcomes = self._composite.prepare(
            [Prompt(content=c, text=t) for c, t in zip(contents, texts, strict=True)]
        )
        ready = [outcome for outcome in outcomes if isinstance(outcome, Prepared)]
        if len(ready) < len(outcomes):
            raise EvaluationError(next(o.reason for o in outcomes if not isinstance(o, Prepared)))
        replies = self._composite.generate(ready, max(limit for limit, _ in limits))
        return [cut(reply, until) for reply, (_, until) in zip(replies, limits, strict=True)]
