r"""What the MCUB tasks share: their JSON, as `omnicompose mcub build` writes it too.

    [{"id": "7", "conversations": [{"from": "human", "value": "<image>\nWhich ...?\nA. x"},
                                   {"from": "gpt", "value": null}],
      "modal_inputs": {"vision": ["a.png"]}}]

The answers are another file of the same shape, whose last turn is one letter.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.sample import LETTERS, Medium, Options, Part, Sample, Shown
from omnicompose.evaluation.task import TaskSpec
from omnicompose.evaluation.tasks.files import FileTask
from omnicompose.evaluation.tasks.records import Record, json_list

MODALITIES = {"vision": "image"} | {name: name for name in ("image", "audio", "video", "point")}
"""Names of modalities in `modal_inputs`, and ours."""
ANSWERS = "MCUB-answer.json"
TAG = re.compile(r"(?P<before>[^\n<]*)<(?P<name>image|audio|video|point)>(?P<after>[ \t]*\n?)")
STYLES = {
    "{letter}. {choice}": re.compile(r"^(?P<letter>[A-J])\. (?P<choice>.*)$", re.MULTILINE),
    "{choice} ({letter})": re.compile(r"^(?P<choice>.*) \((?P<letter>[A-J])\)$", re.MULTILINE),
}
"""Options as MCUB writes them, and words first, as a small model must (see the zoo's questions)."""


def mcub_task(name: str, file_name: str, what: str) -> FileTask:
    """One of the MCUB tasks."""
    spec = mcub_spec(
        name,
        file_name,
        summary=f"What do {what} have in common? 4 options, written by GPT-4 from captions.",
        location="the ModelCompose project's data (arXiv 2402.12750), data/test",
        licence="the authors' own terms: read them at the location",
        cluster_field="id: every question has media of its own",
    )
    return FileTask(spec=spec, read=lambda folder: read_mcub(folder, file_name))


def mcub_spec(
    name: str, file_name: str, *, summary: str, location: str, licence: str, cluster_field: str
) -> TaskSpec:
    """What all tasks of this format declare."""
    return TaskSpec(
        name=name,
        version=1,
        summary=summary,
        location=location,
        licence=licence,
        cluster_field=cluster_field,
        # The human turn of the file; a tag becomes its medium, and goes with the rest of its line
        # when the medium is taken away. What stands between two media is the chat template's.
        prompt="<image>\n<audio>\n...QUESTION\nA. ...\nB. ...\nC. ...\nD. ...",
        chance=0.25,
        official="first_character",
        max_new_tokens=128,
        layout=(file_name, ANSWERS),
        citation="arXiv 2402.12750",
    )


def read_mcub(folder: Path, file_name: str) -> Iterator[Sample]:
    """The questions of one file, with the answers of the key beside it."""
    key = {record.name("id"): _last_turn(record) for record in json_list(folder / ANSWERS)}
    for record in json_list(folder / file_name):
        yield _sample(record, key, folder)


def _sample(record: Record, key: Mapping[str, str], folder: Path) -> Sample:
    name = record.name("id")
    if name not in key:
        raise EvaluationError(
            f"{record.where}: id: found {name!r}, expected one that {ANSWERS} answers. "
            "Both files must be of one release."
        )
    style, choices = _options(_question(record))
    if key[name] not in tuple(LETTERS[: len(choices)]):
        raise EvaluationError(
            f"{record.where}: found {len(choices)} options and the answer {key[name]!r}, expected "
            "lines `A. ...` and the letter of one of them."
        )
    return Sample(
        id=name,
        cluster=record.name("cluster") if "cluster" in record.values else name,
        content=_content(record, folder),
        choices=choices,
        answer=LETTERS.index(key[name]),
        openings=choices if style.startswith("{choice}") else (),
    )


def _content(record: Record, folder: Path) -> tuple[Part, ...]:
    question, media = _question(record), _media(record, folder)
    captions = _by_modality(record.record("captions")) if "captions" in record.values else {}
    content: list[Part] = []
    end = 0
    for tag in TAG.finditer(question):
        content += [question[end : tag.start()]] if tag.start() > end else []
        content.append(_shown(tag, media, captions, record))
        end = tag.end()
    if left := sum(map(len, media.values())):
        raise EvaluationError(
            f"{record.where}: modal_inputs: found {left} more media than tags in the question; "
            "expected one tag for each."
        )
    return (*content, *_with_options(question[end:]))


def _shown(
    tag: re.Match[str],
    media: dict[str, list[Path]],
    captions: dict[str, list[str]],
    record: Record,
) -> Shown:
    modality = tag["name"]
    if not media.get(modality):
        raise EvaluationError(
            f"{record.where}: found a tag <{modality}> more than modal_inputs has media; "
            "expected one medium for each tag."
        )
    medium = Medium(modality=modality, path=media[modality].pop(0))
    told = captions.get(modality)
    caption = f"{tag['before']}{told.pop(0)}{tag['after']}" if told else None
    return Shown(medium=medium, caption=caption, frame=(tag["before"], tag["after"]))


def _with_options(text: str) -> tuple[Part, ...]:
    """The text with its block of options as options, if they are one block."""
    style, choices = _options(text)
    options = Options(style=style)
    start = text.find(options.text(choices)) if choices else -1
    if start < 0:
        return (text,)
    end = start + len(options.text(choices))
    return tuple(part for part in (text[:start], options, text[end:]) if part)


def _options(question: str) -> tuple[str, tuple[str, ...]]:
    """How the options are written, and the options."""
    for style, line in STYLES.items():
        found = [(match["letter"], match["choice"]) for match in line.finditer(question)]
        if found and "".join(letter for letter, _ in found) == LETTERS[: len(found)]:
            return style, tuple(choice for _, choice in found)
    return "", ()


def _media(record: Record, folder: Path) -> dict[str, list[Path]]:
    named = _by_modality(record.record("modal_inputs"))
    return {modality: [folder / path for path in paths] for modality, paths in named.items()}


def _by_modality(record: Record) -> dict[str, list[str]]:
    return {
        MODALITIES[name]: list(record.texts(name)) for name in record.values if name in MODALITIES
    }


def _question(record: Record) -> str:
    return record.records("conversations")[0].text("value")


def _last_turn(record: Record) -> str:
    return record.records("conversations")[-1].text("value").strip()
