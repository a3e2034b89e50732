"""The parts of a composite's processor, each of which may be missing."""

from collections.abc import Callable

SUB_PROCESSORS = ("image_processor", "feature_extractor", "video_processor", "tokenizer")


class SubProcessors:
    """`get_attributes` of a processor whose parts are optional.

    transformers asks the class which parts there can be, and an instance which ones to save.
    """

    def __get__(self, instance: object, owner: type) -> Callable[[], list[str]]:
        """The parts that there can be, or those that an instance has."""
        present = [n for n in SUB_PROCESSORS if instance is None or getattr(instance, n, None)]
        return lambda: list(present)


def able_to_pad(tokenizer: object) -> object:
    """The tokenizer, with its end token for padding where it has none, as Llama's has none.

    What is padded is masked out, so the token itself is never seen.
    """
    if getattr(tokenizer, "pad_token", "") is None:
        setattr(tokenizer, "pad_token", getattr(tokenizer, "eos_token", None))  # noqa: B010
    return tokenizer
