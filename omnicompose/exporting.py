"""Pass a composite on: a self-contained copy with its results in the model card."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkdtemp

from omnicompose.card_results import read_rows
from omnicompose.errors import ExportError
from omnicompose.export import Manifest, hash_folder, refuse_existing, verify
from omnicompose.export_code import add_code
from omnicompose.model_card import CARD_FILE, CardFacts, model_card

REWRITTEN = (CARD_FILE, "config.json", "processor_config.json", ".py")
"""Files that an export writes anew; the others are linked to, or copied to another disk."""


def export_composite(
    folder: Path, out: Path, *, results: Sequence[Path] = (), overwrite: bool = False
) -> Manifest:
    """Copy a composite into a folder that loads without omnicompose, results in its card.

    Args:
        folder: written by `omnicompose compose`.
        out: the folder to make.
        results: folders of `omnicompose evaluate`, for the card.
        overwrite: replace `out` if it exists.

    Raises:
        ExportError: the folder is not what its manifest says, or the output exists.
    """
    refuse_existing(out, overwrite=overwrite)
    manifest = checked_manifest(folder)
    rows = read_rows(results)
    written: list[Manifest] = []

    def fill(part: Path) -> None:
        for record in manifest.outputs:
            _hand_on(folder / record.path, part / record.path)
        add_code(part)
        (part / CARD_FILE).write_text(model_card(_facts(manifest, part), rows), encoding="utf-8")
        written.append(_rewritten(manifest, part))

    finish(out, fill, overwrite=overwrite)
    return written[0]


def checked_manifest(folder: Path) -> Manifest:
    """The manifest of a composite whose files are what it says.

    Raises:
        ExportError: they are not, or the folder is no composite.
    """
    manifest = Manifest.read(folder)
    if manifest.kind != "composite":
        raise ExportError(
            f"{folder}: found the result of `omnicompose {manifest.kind}`, expected a composite. "
            "A merged model is an ordinary model of its family: pass its folder on as it is."
        )
    refuse_changed(folder, manifest)
    return manifest


def refuse_changed(folder: Path, manifest: Manifest) -> None:
    """Refuse a folder that is not what its manifest says, or a manifest that leaves its folder.

    Raises:
        ExportError: every such file.
    """
    root = folder.resolve()
    outside = [
        f"{record.path}: lies outside {folder}; it is not passed on. Compose again."
        for record in manifest.outputs
        if not (folder / record.path).resolve().is_relative_to(root)
    ]
    if problems := [*outside, *verify(folder)]:
        raise ExportError("\n".join(problems))


def finish(out: Path, fill: Callable[[Path], None], *, overwrite: bool) -> None:
    """Fill a hidden folder beside `out` and give it its name only when it is whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        fill(part)
        part.chmod(0o755)
        if overwrite and out.exists():
            shutil.rmtree(out)
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _hand_on(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.name.endswith(REWRITTEN):
        shutil.copyfile(source, target)
        return
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _facts(manifest: Manifest, folder: Path) -> CardFacts:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return CardFacts(
        recipe=manifest.recipe,
        facts=manifest.facts,
        modalities=config["modalities"],
        plan_sha256=manifest.plan_sha256,
        version=str(manifest.to_json()["omnicompose"]),
        transformers=config["transformers_version"],
    )


def _rewritten(manifest: Manifest, folder: Path) -> Manifest:
    """The manifest with the records of what was written anew; the weights keep theirs."""
    anew = {record.path: record for record in hash_folder(folder, REWRITTEN)}
    kept = {record.path: record for record in manifest.outputs}
    changed = Manifest(
        kind=manifest.kind,
        recipe=manifest.recipe,
        plan_sha256=manifest.plan_sha256,
        inputs=manifest.inputs,
        outputs=tuple((kept | anew).values()),
        facts=manifest.facts,
    )
    changed.write(folder)
    return changed
