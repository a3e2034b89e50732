"""Fixtures of the modeling room."""

import pytest
from tiny_composite import clip, make_model, make_processor, picture, sound, tiny_config

from omnicompose.modeling import OmniComposeForConditionalGeneration, OmniComposeProcessor


@pytest.fixture(scope="session")
def model() -> OmniComposeForConditionalGeneration:
    return make_model(tiny_config())


@pytest.fixture(scope="session")
def processor() -> OmniComposeProcessor:
    return make_processor()


@pytest.fixture(scope="session")
def ask(processor):
    """Model inputs of user turns given as items: ("image", 1), "text", ("audio", 2), ..."""
    make = {"image": picture, "audio": sound, "video": clip}

    def content(items: tuple) -> list[dict]:
        return [
            {"type": "text", "text": item}
            if isinstance(item, str)
            else {"type": item[0], item[0]: make[item[0]](item[1])}
            for item in items
        ]

    def build(*chats: tuple, history: list[dict] | None = None):
        turns = [[*(history or []), {"role": "user", "content": content(chat)}] for chat in chats]
        return processor.apply_chat_template(
            turns,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
        )

    return build
