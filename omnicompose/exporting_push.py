"""Put a finished folder on the model hub: first say what would go there, then send it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import ExportError
from omnicompose.export import MANIFEST_FILE, Manifest
from omnicompose.exporting import refuse_changed

REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What goes to the hub.

    Attributes:
        folder: the finished folder.
        repository: `owner/name`.
        private: whether only its owner sees it.
        files: every file, those of the manifest and the manifest itself; nothing else is sent.
    """

    folder: Path
    repository: str
    private: bool
    files: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The upload as plain data, sizes included."""
        sizes = {name: (self.folder / name).stat().st_size for name in self.files}
        return {
            "repository": self.repository,
            "private": self.private,
            "files": sizes,
            "bytes": sum(sizes.values()),
        }


def plan_upload(folder: Path, repository: str, *, private: bool = False) -> Upload:
    """Check a folder against its manifest and list what would be sent; asks no network.

    Raises:
        ExportError: a file is not what the manifest says, or the repository has no proper name.
    """
    if not REPOSITORY.fullmatch(repository):
        raise ExportError(f"{repository!r}: expected the repository as owner/name.")
    manifest = Manifest.read(folder)
    refuse_changed(folder, manifest)
    names = (*(record.path for record in manifest.outputs), MANIFEST_FILE)
    return Upload(folder=folder, repository=repository, private=private, files=tuple(sorted(names)))


def push(upload: Upload) -> str:
    """Send the files in one commit; the address of the repository.

    The token is taken from the environment (HF_TOKEN) and from nowhere else.

    Raises:
        ExportError: there is no token, or the hub refuses.
    """
    token = os.environ.get("HF_TOKEN")
    if not token:
        raise ExportError("push: HF_TOKEN is not set. Put a token that may write there.")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    hub = HfApi(token=token)
    try:
        address = hub.create_repo(upload.repository, private=upload.private, exist_ok=True)
        hub.upload_folder(
            repo_id=upload.repository,
            folder_path=upload.folder,
            allow_patterns=list(upload.files),
            commit_message="Upload a composite made by omnicompose",
        )
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"{upload.repository}: the hub did not take it: {reason}") from error
    return str(address)
