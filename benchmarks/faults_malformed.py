"""Malformed inputs, wrong by construction: recipes, checkpoints, composites, media, data."""

import json
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from omnicompose.ask import ask
from omnicompose.composer import compose
from omnicompose.evaluation import EvaluationOptions, evaluate
from omnicompose.training.records import read_records
from omnicompose.zoo.catalog import zoo_path
from omnicompose.zoo.media import held_out_media

RECIPE = """\
base: zoo:base
experts:
  audio: {source: @, weight: 0.5}
text: {method: ties, parameters: {density: 0.2}}
modality: merged
dtype: float32
seed: 0
"""
WEIGHTS = "model.safetensors"
KEYS = ("base", "experts", "text", "modality", "dtype", "seed")
NEVER_RIGHT = (
    "{}",
    "[]",
    "nan",
    "-1",
    "'\\0'",
    "[[[[1]]]]",
    "{source: 3}",
    "zoo:nothing",
    "~~",
    "''",
)
"""Values that no key of a recipe takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """One input that must be refused.

    Attributes:
        kind: of input.
        what: is wrong with it.
        attempt: uses it; must raise a clear error and leave no finished folder.
        out: that folder.
    """

    kind: str
    what: str
    attempt: Callable[[], None]
    out: Path


def malformed_inputs(folder: Path, omni: Path, number: int, seed: int) -> list[Malformed]:
    """`number` inputs, as many of each kind, made in `folder`."""
    rng = random.Random(seed)
    makers = (_recipe, _checkpoint, _tokenizer, _composite, _medium, _data)
    made = []
    for place in range(number):
        own = folder / str(place)
        own.mkdir(parents=True)
        made.append(makers[place % len(makers)](own, omni, rng))
    return made


def _compose_with(own: Path, text: str, kind: str, what: str) -> Malformed:
    recipe, out = own / "recipe.yaml", own / "out"
    recipe.write_text(text, encoding="utf-8", errors="surrogatepass")

    def attempt() -> None:
        compose(recipe, out)

    return Malformed(kind=kind, what=what, attempt=attempt, out=out)


def _recipe(own: Path, _: Path, rng: random.Random) -> Malformed:
    text = RECIPE.replace("@", "zoo:audio-standard")
    key = rng.choice(KEYS)
    lines = text.splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith(key))
    choice = rng.randrange(6)
    if choice == 0:
        lines[at] = lines[at].replace(key, key + rng.choice("xyz_"), 1)
        what = f"unknown key for {key}"
    elif choice == 1:
        value = rng.choice(NEVER_RIGHT)
        lines[at] = f"{key}: {value}"
        lines = [line for line in lines if not line.startswith(" ") or key != "experts"]
        what = f"{key}: {value}"
    elif choice == 2:
        lines.insert(at, lines[at] if key != "experts" else "experts: {}")
        what = f"{key} twice"
    elif choice == 3:
        lines[at] = "\t" + lines[at] + " : : ["
        what = f"broken YAML at {key}"
    elif choice == 4:
        lines = ["experts: {audio: {source: zoo:audio-standard, weight: .inf}}", "base: zoo:base"]
        what = "an infinite weight"
    else:
        lines = [
            *lines,
            "overrides: [{match: '*', method: " + rng.choice(("tie", "x", "''")) + "}]",
        ]
        what = "an unknown method"
    return _compose_with(own, "\n".join(lines) + "\n", "recipe", what)


def _expert(own: Path) -> Path:
    return Path(shutil.copytree(zoo_path("audio-standard"), own / "expert"))


def _checkpoint(own: Path, _: Path, rng: random.Random) -> Malformed:
    expert = _expert(own)
    weights = rng.choice(sorted(expert.rglob("*.safetensors")))
    data = bytearray(weights.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    name = rng.choice([key for key in header if key != "__metadata__"])
    choice = rng.randrange(8)
    if choice == 0:
        data, what = data[: rng.randrange(len(data) - 1)], "cut off"
    elif choice == 1:
        data[:8], what = (
            struct.pack("<Q", rng.choice((0, 1, 2**40, 2**63))),
            "a wrong header length",
        )
    elif choice == 2:
        data[8 + rng.randrange(length - 1)] = 0
        what = "a zero in the header"
    elif choice == 3:
        data, what = data + bytes(rng.randrange(1, 100)), "bytes beyond the last tensor"
    else:
        edits: dict[int, Callable[[], object]] = {
            4: lambda: header.pop(name),
            5: lambda: header[name].update(shape=[7, *header[name]["shape"]]),
            6: lambda: header[name].update(dtype=rng.choice(("F7", "I64", None))),
            7: lambda: header[name].update(data_offsets=[0, 10**12]),
        }
        edits[choice]()
        what = ("a tensor gone", "a wrong shape", "a wrong dtype", "wrong offsets")[choice - 4]
        data = _with_header(header, data[8 + length :])
    weights.write_bytes(data)
    text = RECIPE.replace("@", str(expert))
    return _compose_with(own, text, "checkpoint", f"{weights.name}: {what} ({name})")


def _with_header(header: object, body: bytes) -> bytearray:
    text = json.dumps(header).encode()
    return bytearray(struct.pack("<Q", len(text)) + text + body)


def _tokenizer(own: Path, _: Path, rng: random.Random) -> Malformed:
    base = Path(shutil.copytree(zoo_path("base"), own / "base"))
    path = base / "tokenizer.json"
    text = path.read_text()
    choice = rng.randrange(5)
    if choice == 0:
        text, what = text[: rng.randrange(len(text) - 2)], "cut off"
    elif choice == 1:
        text, what = rng.choice(("", "[]", "{}", "null", '"x"', "\0")), "something else"
    elif choice == 2:
        data = json.loads(text)
        data.pop("model")
        text, what = json.dumps(data), "no model"
    elif choice == 3:
        data = json.loads(text)
        data["model"]["type"] = "Nothing"
        text, what = json.dumps(data), "an unknown model"
    else:
        path.unlink()
        (base / "tokenizer_config.json").unlink(missing_ok=True)
        text, what = "", "no tokenizer"
    if choice != 4:
        path.write_text(text)
    recipe = RECIPE.replace("zoo:base", str(base)).replace("@", "zoo:audio-standard")
    recipe += "allow_different_base: true\n"
    return _compose_with(own, recipe, "tokenizer", what)


def _composite(own: Path, omni: Path, rng: random.Random) -> Malformed:
    """A finished folder that was damaged later, and is asked a question."""
    folder = Path(shutil.copytree(omni, own / "omni"))
    name = rng.choice(("config.json", "processor_config.json", "tokenizer.json", WEIGHTS))
    path = folder / name
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    choice = rng.randrange(4)
    if choice == 0:
        data, what = data[: rng.randrange(len(data) - 2)], "cut off"
    elif choice == 1:
        data, what = rng.choice((b"", b"[]", b"null", b'"x"', b"\xff\xfe")), "something else"
    elif choice == 2:
        path.unlink()
        what = "gone"
    elif name == WEIGHTS:
        header = json.loads(data[8 : 8 + length])
        header.pop(rng.choice([key for key in header if "norm" not in key]))
        data, what = bytes(_with_header(header, data[8 + length :])), "a tensor gone"
    else:
        data, what = b"{}", "empty"
    if choice != 2:
        path.write_bytes(data)

    def attempt() -> None:
        ask(folder, "What is this?", [])

    return Malformed(kind="composites", what=f"{name}: {what}", attempt=attempt, out=own / "out")


def _medium(own: Path, omni: Path, rng: random.Random) -> Malformed:
    modality = rng.choice(("image", "audio", "video"))
    medium = rng.choice([one for one in held_out_media().media if one.item.modality == modality])
    path = own / Path(medium.name).name
    choice = rng.randrange(5)
    asked = modality
    if choice == 0:
        path.write_bytes(medium.data[: rng.randrange(1, 40)])
        what = "a few bytes of it"
    elif choice == 1:
        path.write_bytes(rng.randbytes(len(medium.data)))
        what = "noise"
    elif choice == 2:
        path.write_bytes(b"")
        what = "an empty file"
    elif choice == 3:
        path.write_bytes(medium.data)
        asked = {"image": "audio", "audio": "image", "video": "audio"}[modality]
        what = f"given as {asked}"
    else:
        path.mkdir()
        what = "a folder"

    def attempt() -> None:
        ask(omni, "What is this?", [(asked, path)])

    return Malformed(kind="media", what=f"{modality}: {what}", attempt=attempt, out=own / "out")


def _data(own: Path, omni: Path, rng: random.Random) -> Malformed:
    choice = rng.randrange(6)
    record = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    broken: list[tuple[str, str]] = [
        ("cut off", json.dumps(record)[:-9]),
        ("no messages", "{}"),
        ("a list", "[1, 2]"),
        ("no answer", json.dumps({"messages": record["messages"][:1]})),
        ("an unknown role", json.dumps({"messages": [{"role": "cat", "content": "x"}]})),
        ("empty", ""),
    ]
    what, text = broken[choice]
    good = [json.dumps(record)] * rng.randrange(3) if text else []
    path = own / "records.jsonl"
    path.write_text("\n".join([*good, text]) + "\n" * bool(text))

    def attempt() -> None:
        if rng.random() < 0.3:
            options = EvaluationOptions(out_dir=own / "out", data_dir=own / "nowhere", limit=1)
            evaluate(omni, ["mme"], options)
        read_records([path], ("image",))

    return Malformed(kind="datasets", what=what, attempt=attempt, out=own / "out")


def kinds(made: list[Malformed]) -> Iterator[str]:
    """The kinds in the order in which they first appear."""
    yield from dict.fromkeys(one.kind for one in made)
