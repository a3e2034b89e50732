"""One decision about tokens: the composite's vocabulary, its placeholders and its chat template."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import PlanError
from omnicompose.modalities import MODALITIES

FLATTEN_TYPED_CONTENT = """\
{%- set flattened = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- set line = namespace(text='') -%}
{%- if message['content'] is string -%}
{%- set line.text = message['content'] -%}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}
{%- set line.text = line.text + part['text'] -%}
{%- else -%}
{%- set line.text = line.text + '<' + part['type'] + '>\\n' -%}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- set flattened.messages = flattened.messages + [dict(message, content=line.text)] -%}
{%- endfor -%}
{%- set messages = flattened.messages -%}
"""
"""Put before a text-only template: typed content becomes text with one placeholder per medium."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placeholder:
    """The token that stands for one media embedding in a prompt.

    Attributes:
        token: its text.
        token_id: its id in the composite.
    """

    token: str
    token_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The composite's token table.

    Attributes:
        base_rows: rows of the base's embedding table, padding included; all are kept.
        num_tokens: tokens after the placeholders were added.
        num_rows: rows of the composite's table: the greater of both.
        placeholders: modality to its token.
        chat_template: the composite's template, or None where the base has none.
    """

    base_rows: int
    num_tokens: int
    num_rows: int
    placeholders: Mapping[str, Placeholder]
    chat_template: str | None


def plan_vocabulary(
    tokenizer_folder: Path, base_rows: int, modalities: Sequence[str]
) -> Vocabulary:
    """Add one placeholder per modality to the base's tokenizer, after its last token.

    A placeholder that the base's tokenizer already has keeps its id.

    Raises:
        PlanError: the base has no tokenizer.json.
    """
    known = _token_ids(tokenizer_folder)
    next_id = max(known.values(), default=-1) + 1
    placeholders: dict[str, Placeholder] = {}
    for modality in modalities:
        token = MODALITIES[modality].placeholder
        token_id = known.get(token)
        if token_id is None:
            token_id, next_id = next_id, next_id + 1
        placeholders[modality] = Placeholder(token=token, token_id=token_id)
    return Vocabulary(
        base_rows=base_rows,
        num_tokens=next_id,
        num_rows=max(base_rows, next_id),
        placeholders=placeholders,
        chat_template=typed_chat_template(read_chat_template(tokenizer_folder), placeholders),
    )


def typed_chat_template(
    template: str | None, placeholders: Mapping[str, Placeholder]
) -> str | None:
    """A template that understands typed content; one that already writes placeholders is kept."""
    if template is None or all(p.token in template for p in placeholders.values()):
        return template
    return FLATTEN_TYPED_CONTENT + template


def read_chat_template(folder: Path) -> str | None:
    """The chat template of a tokenizer folder, from its own file or from its configuration."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    template = (
        json.loads(config.read_text("utf-8")).get("chat_template") if config.is_file() else None
    )
    return template if isinstance(template, str) else None


def _token_ids(folder: Path) -> dict[str, int]:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise PlanError(
            f"{folder}: the base has no tokenizer.json, so placeholders cannot be added. "
            "Save its tokenizer with AutoTokenizer.from_pretrained(...).save_pretrained(...)."
        )
    from tokenizers import Tokenizer

    vocabulary: dict[str, int] = Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)
    return vocabulary
