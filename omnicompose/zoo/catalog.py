"""What the zoo holds and where it lies; knows files, not tensors, and imports no torch."""

import hashlib
from difflib import get_close_matches
from itertools import product
from pathlib import Path

from omnicompose.errors import SourceError

ASSETS = Path(__file__).parent / "assets"
CHECKSUMS_NAME = "SHA256SUMS"
SCHEME = "zoo:"

_SENSES = {"image": "looks at pictures", "audio": "listens to sounds", "video": "watches clips"}
_REGIMES = {
    "standard": "captioned first, so that its tokens speak the base's language",
    "stressed": "never captioned, so that its language model does the modality's work",
}
_STRATEGIES = {
    "": "one adapter for all tokens",
    "-decoupled": "one adapter for its modality's tokens, one for text",
}


def _experts() -> dict[str, str]:
    return {
        f"{modality}-{regime}{suffix}": f"an expert that {sense}; {how}; {adapters}"
        for (modality, sense), (regime, how), (suffix, adapters) in product(
            _SENSES.items(), _REGIMES.items(), _STRATEGIES.items()
        )
    }


_CAPABILITIES = {
    "vqa": "counts and names things in scenes",
    "geometry": "measures geometric figures",
    "chart": "reads charts",
    "ocr": "reads printed letters",
    "grounding": "says where in a scene things are",
    "joint": "learned all five capabilities together: the upper bound of merging",
}
_WAYS = {
    "lora": "a LoRA adapter",
    "full": "every weight of language model and connector",
}


def _capabilities() -> dict[str, str]:
    return {
        f"capability-{what}-{way}": f"a fine-tune of capability-base that {does}; {how}"
        for (what, does), (way, how) in product(_CAPABILITIES.items(), _WAYS.items())
    }


ZOO: dict[str, str] = (
    {
        "base": "the language model that every expert adapts: LlamaForCausalLM, text only",
        "llava": "the base with a CLIP vision encoder as LlavaForConditionalGeneration; hosts the"
        " PEFT adapters image-standard and image-stressed",
        "encoder-audio": "a Whisper encoder of spoken numbers, frozen in every audio expert",
        "encoder-video": "a convolutional encoder of moving digits, frozen in every video expert",
        "capability-base": "a small LLaVA for drawn pictures; hosts the capabilities' fine-tunes",
    }
    | _experts()
    | _capabilities()
)
"""Every name of the zoo, with one line that says what it is."""


def zoo_path(name: str) -> Path:
    """The folder of a member of the zoo; checks nothing inside it.

    Args:
        name: with or without the scheme: `zoo:base` or `base`.

    Raises:
        SourceError: no such member, or it does not lie where it should.
    """
    member = name.removeprefix(SCHEME)
    if member not in ZOO:
        near = get_close_matches(member, ZOO, n=3) or list(ZOO)
        raise SourceError(
            f"{SCHEME}{member}: the zoo has no such member. Did you mean one of "
            f"{', '.join(SCHEME + n for n in near)}? `omnicompose zoo list` names them all."
        )
    folder = ASSETS / member
    if not folder.is_dir():
        raise SourceError(
            f"{SCHEME}{member}: found no folder {folder}. Reinstall the package, or train it with "
            f"`python -m omnicompose.zoo.train --only {member}`."
        )
    return folder


def zoo_bytes(name: str) -> int:
    """Size of a member's files in bytes.

    Raises:
        SourceError: no such member.
    """
    return sum(file.stat().st_size for file in zoo_path(name).rglob("*") if file.is_file())


def verify_zoo(assets: Path = ASSETS) -> list[str]:
    """Hold every shipped file against its recorded SHA-256; the problems, one line each.

    Args:
        assets: the folder of the zoo, for a check of another one than the shipped.
    """
    sums = assets / CHECKSUMS_NAME
    if not sums.is_file():
        return [f"{sums}: missing, expected the checksums of the zoo. Reinstall the package."]
    recorded = {name: digest for digest, name in map(str.split, sums.read_text().splitlines())}
    found = {path.relative_to(assets).as_posix(): path for path in shipped_files(assets)}
    problems = [
        f"{assets / name}: missing. Reinstall the package." for name in recorded.keys() - found
    ]
    problems += [
        f"{found[name]}: not among the recorded files. Delete it."
        for name in found.keys() - recorded
    ]
    for name in recorded.keys() & found:
        digest = sha256_of(found[name])
        if digest != recorded[name]:
            problems.append(
                f"{found[name]}: found SHA-256 {digest[:12]}..., expected "
                f"{recorded[name][:12]}... Reinstall the package."
            )
    return sorted(problems)


def write_checksums(assets: Path = ASSETS) -> None:
    """Record the SHA-256 of every file of the zoo, as `sha256sum --check` reads it."""
    lines = [
        f"{sha256_of(path)}  {path.relative_to(assets).as_posix()}\n"
        for path in shipped_files(assets)
    ]
    (assets / CHECKSUMS_NAME).write_text("".join(lines))


def shipped_files(assets: Path = ASSETS) -> list[Path]:
    """Every file of the zoo but the checksums themselves and hidden ones, by name."""
    return sorted(
        path
        for path in assets.rglob("*")
        if path.is_file()
        and path.name != CHECKSUMS_NAME
        and not any(part.startswith(".") for part in path.relative_to(assets).parts)
    )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
