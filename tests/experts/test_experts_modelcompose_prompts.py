"""Prompts and their tokens against the published implementation (tests/goldens/parity)."""

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from omnicompose.experts.modelcompose_profile import CHAT_TEMPLATES
from omnicompose.modalities import MODALITIES
from omnicompose.modeling import OmniComposeProcessor

FILE = Path(__file__).parents[1] / "goldens" / "parity" / "prompts.json"
GOLDEN = json.loads(FILE.read_text())
CASES = [case for case in GOLDEN["cases"] if "prompt" in case]
SENTINELS = {-200: "<image>", -203: "<audio>", -204: "<video>", -205: "<point>"}


@pytest.fixture(scope="module")
def tokenizer():
    """One token per character, id = 10 + code point; <s> before every text."""
    vocabulary = {"<s>": 1, "<unk>": 0, **{chr(code): 10 + code for code in range(300)}}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    made.add_special_tokens([AddedToken(token, special=True) for token in SENTINELS.values()])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", unk_token="<unk>")


def messages(case):
    for question, answer in case["messages"]:
        yield {"role": "user", "content": question}
        if answer is not None:
            yield {"role": "assistant", "content": answer}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["prompt"][:12] + case["prompt"][-12:])
def test_prompt_and_tokens_of_the_published_code(case, tokenizer) -> None:
    modalities = {
        name: {"token": modality.placeholder, "token_id": -1}
        for name, modality in MODALITIES.items()
    }
    for entry in modalities.values():
        entry["token_id"] = tokenizer.convert_tokens_to_ids(entry["token"])
    template = CHAT_TEMPLATES[case["template"]]
    processor = OmniComposeProcessor(
        tokenizer=tokenizer, chat_template=template, modalities=modalities
    )
    prompt = processor.apply_chat_template(list(messages(case)), add_generation_prompt=True)
    assert prompt == case["prompt"]
    words = {i: tokenizer.convert_tokens_to_ids(SENTINELS[i]) for i in SENTINELS}
    expected = [words.get(i, i) for i in case["ids_modal"]]
    assert tokenizer(prompt).input_ids == expected
