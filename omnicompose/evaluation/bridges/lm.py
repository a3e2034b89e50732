"""A model for lm-eval: `python -m omnicompose.evaluation.bridges.lm --model omnicompose ...`.

lm-eval's tasks are text only; they show what composing did to the language model. Everything but
loading is lm-eval's own, so likelihoods and replies are made as for any other model.
"""

from pathlib import Path

from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from omnicompose.evaluation.loading import load_composite


@register_model("omnicompose")
class OmniComposeText(HFLM):  # type: ignore[misc]
    """A composite asked in text alone."""

    def __init__(
        self,
        pretrained: str,
        device: str = "cpu",
        dtype: str = "auto",
        batch_size: int | str = 16,
        max_batch_size: int | None = 64,
    ) -> None:
        """Load a composite; its language model answers.

        Args:
            pretrained: its folder.
            device: where it runs.
            dtype: of the computation.
            batch_size: requests at once.
            max_batch_size: for `batch_size=auto`.
        """
        composite = load_composite(Path(pretrained), device, dtype)
        super().__init__(
            pretrained=composite.model,
            backend="causal",
            tokenizer=composite.processor.tokenizer,
            batch_size=batch_size,
            max_batch_size=max_batch_size,
        )


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
