"""The zoo's tokenizer and chat template, trained in memory on the world's own sentences.

Byte-level BPE: any text can be encoded, while every word of the zoo's questions is one token.
"""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from omnicompose.zoo.questions import (
    common_text,
    describe_text,
    open_text,
    true_text,
    yesno_text,
)
from omnicompose.zoo.words import CAPTIONS, NOUNS, facts
from omnicompose.zoo.world import MODALITY_SLOTS, NUMBERS, SLOTS

PAD, BOS, EOS, USER, ASSISTANT = "<pad>", "<bos>", "<eos>", "<|user|>", "<|assistant|>"

# No space or line break after <|assistant|>: a reply begins with the very token that begins the
# option's line in the question. The generation block marks what a training loss looks at.
CHAT_TEMPLATE = """\
{%- set media = {
    'image': 'picture: <image>\\n', 'audio': 'sound: <audio>\\n', 'video': 'clip: <video>\\n'
} -%}
{%- macro spoken(content) -%}
  {%- if content is string -%}
    {{- content -}}
  {%- else -%}
    {%- for entry in content -%}
      {{- entry['text'] if entry['type'] == 'text' else media[entry['type']] -}}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{{- bos_token -}}
{%- for message in messages -%}
  {%- if message['role'] == 'assistant' -%}
    {{- '<|assistant|>' -}}
    {%- generation -%}{{- spoken(message['content']) + eos_token -}}{%- endgeneration -%}
  {%- else -%}
    {{- '<|user|>' + spoken(message['content']) -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def make_tokenizer(sentences: Sequence[str] | None = None) -> PreTrainedTokenizerFast:
    """Train the tokenizer; the same on every machine.

    Args:
        sentences: every word in them becomes one token; None: the world's own.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,  # never reached: training ends when every word of the corpus is one token
        special_tokens=[PAD, BOS, EOS, USER, ASSISTANT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus() if sentences is None else sentences, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=[USER, ASSISTANT],
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def corpus() -> list[str]:
    """Sentences in which every word of the zoo occurs, where it occurs in questions and replies."""
    sentences = [
        "yes",
        "no",
        *(word for words in SLOTS.values() for word in words),
    ]
    for modality, slots in MODALITY_SLOTS.items():
        spoken = [phrase for slot in slots for phrase in facts(slot)]
        sentences += [describe_text(modality), f"{NOUNS[modality]}: A"]
        sentences += [open_text(modality, slot) for slot in slots]
        sentences += [yesno_text(modality, phrase) for phrase in spoken]
        sentences += [true_text(modality, (p,) * 4) for p in spoken]
        sentences += [common_text((p,) * 4) for p in spoken]
        for style in CAPTIONS[modality]:
            for place in range(len(NUMBERS)):
                words = {slot: SLOTS[slot][place % len(SLOTS[slot])] for slot in slots}
                sentences.append(style.format(**words))
    return sentences
