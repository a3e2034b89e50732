"""How media stand in prompts: what an expert's own template writes for one, and the composite's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
@MEDIA@{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- set flattened.messages = flattened.messages + [dict(message, content=@CONTENT@)] -%}
{%- endfor -%}
{%- set messages = flattened.messages -%}
"""
"""Put before another template: typed content becomes text with one placeholder per medium."""
EVERY_MEDIUM = """\
{%- else -%}
{%- set line.text = line.text + '<' + part['type'] + '>\\n' -%}
"""
ONE_MEDIUM = """\
{%- elif part['type'] == '@NAME@' -%}
{%- set line.text = line.text + @TEXT@ -%}
"""
PLAIN_CONTENT = "line.text"
TYPED_CONTENT = "[{'type': 'text', 'text': line.text}]"
QUESTION = "omnicompose-question"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPrompt:
    """What an expert's chat template writes for one medium.

    Attributes:
        text: with the expert's own placeholder in it.
        after: white space between it and the words that follow.
    """

    text: str
    after: str


def read_chat_template(folder: Path) -> str | None:
    """The chat template of a folder: a file of its own, or an entry of a configuration."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        config = folder / name
        if config.is_file():
            template = json.loads(config.read_text("utf-8")).get("chat_template")
            if isinstance(template, str):
                return template
    return None


def media_prompt(template: str | None, modality: str) -> MediaPrompt | None:
    """What a template writes for one medium; None where it does not say."""
    if template is None:
        return None
    words = {"type": "text", "text": QUESTION}
    alone = _render(template, [words])
    shown = _render(template, [{"type": modality}, words])
    if alone is None or shown is None or QUESTION not in alone or QUESTION not in shown:
        return None
    before = alone.index(QUESTION)
    written = shown[: shown.index(QUESTION)]
    if written[:before] != alone[:before] or not written[before:].strip():
        return None
    text = written[before:]
    return MediaPrompt(text=text.strip(), after=text[len(text.rstrip()) :])


def typed_template(template: str | None, after: Mapping[str, str]) -> str | None:
    """A template that understands typed content of the composite's media.

    Args:
        template: of the base or an expert; one that writes the composite's placeholders is kept.
        after: modality to what stands between its placeholder and the words that follow.
    """
    if template is None or all(MODALITIES[name].placeholder in template for name in after):
        return template
    content = PLAIN_CONTENT if _reads_strings(template) else TYPED_CONTENT
    flatten = FLATTEN_TYPED_CONTENT.replace("@CONTENT@", content)
    if all(space == "\n" for space in after.values()):
        return flatten.replace("@MEDIA@", EVERY_MEDIUM) + template
    media = "".join(
        ONE_MEDIUM.replace("@NAME@", name).replace(
            "@TEXT@", json.dumps(MODALITIES[name].placeholder + space)
        )
        for name, space in after.items()
    )
    return flatten.replace("@MEDIA@", media) + template


def _reads_strings(template: str) -> bool:
    """Whether words given as a plain string come out; some templates look for typed items only."""
    rendered = _render(template, QUESTION)
    return rendered is None or QUESTION in rendered


def _render(template: str, content: object) -> str | None:
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    chat = [{"role": "user", "content": content}]
    try:
        rendered, _ = render_jinja_template([chat], chat_template=template)
    except (TemplateError, TypeError, KeyError, ValueError):
        return None
    return str(rendered[0])
