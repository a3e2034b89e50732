"""The report in a real browser: every table and plot there is, on a desk and on a telephone."""

import html
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_fakes import FakeAnswerer, FakeTask
from evaluation_media import put
from PIL import Image
from test_evaluation_report import knows_more_with_more, write_results

from omnicompose.evaluation import write_report
from omnicompose.evaluation.interference import FILE_NAME, Interference, Layer
from omnicompose.evaluation.sample import Medium, Sample, open_medium

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
        if (found := shutil.which(name))
    ),
    None,
)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
FLAGS += ["--hide-scrollbars", "--window-size=1500,1000"]
WHITE = 255
NAMES = ("image", "audio", "video")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


class Shows(FakeTask):
    """Real pictures, sounds and clips, and kinds of questions."""

    def samples(self, media_dir: Path, limit: int | None) -> list[Sample]:
        kinds = ("Counting", "Attribute Recognition")
        return [
            replace(s, category=kinds[i % 2])
            for i, s in enumerate(super().samples(media_dir, limit))
        ]

    def _medium(self, media_dir: Path, modality: str, i: int) -> Medium:
        path = (
            media_dir / f"{modality}{i}{dict(image='.png', audio='.flac', video='.mp4')[modality]}"
        )
        put(path, modality, i % 20)
        return open_medium(modality, path)


def layer(name: str) -> Layer:
    pairs = ("audio+image", "audio+video", "image+video")
    return Layer(
        name=name,
        parameters=9,
        norms=dict.fromkeys(NAMES, 0.1234),
        cosine=dict.fromkeys(pairs, -0.02),
        conflict=dict.fromkeys(pairs, 0.49),
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("browser")
    task = Shows(num=40, modalities=NAMES, questions_per_cluster=1)
    asked = {"modalities": ("subsets", "captions", "swapped"), "scores": ("letter", "generate")}
    write_results(out / "all", FakeAnswerer(say=knows_more_with_more), task, **asked)
    write_results(out / "expert", FakeAnswerer(digest="expert"), task, **asked)
    layers = tuple(layer(name) for name in ("0", "1", "outside"))
    measured = Interference(text="task_arithmetic", modality="exact", layers=layers)
    (out / "all" / FILE_NAME).write_text(measured.model_dump_json())
    return write_report(out / "all", {"image": out / "expert"}).read_text(encoding="utf-8")


def browse(page: Path, profile: Path, *flags: str) -> str:
    """What chromium prints of a page, with a profile of its own."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout


def framed(page: str, width: int, path: Path) -> Path:
    """A page as wide as a screen: a window of its own would be 500 wide at least."""
    measure = "innerWidth + (root.scrollWidth <= root.clientWidth ? ' fits' : ' overflows')"
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
    script = (
        "const root = document.documentElement; parent.document.title = "
        f"{measure} + ', ' + {wide}.length + ' tables scroll'"
    )
    inner = html.escape(page.replace("</body>", f"<script>{script}</script></body>"))
    style = f"position: absolute; left: 0; top: 0; width: {width}px; height: 980px; border: 0"
    path.write_text(f'<iframe srcdoc="{inner}" style="{style}"></iframe>', encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overflows_in_a_browser(page: str, tmp_path: Path, width: int) -> None:
    frame = framed(page, width, tmp_path / "frame.html")
    shot = tmp_path / "shot.png"
    dump = browse(frame, tmp_path / "profile", "--dump-dom")
    assert f"<title>{width} fits, " in dump
    if width == 1280:
        assert "0 tables scroll" in dump
    browse(frame, tmp_path / "again", f"--screenshot={shot}")
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert (pixels[:, width:] == WHITE).all()
    assert len(np.unique(pixels[:900, :width].reshape(-1, 3), axis=0)) > 20
    margin = pixels[:900, width - 4 : width].reshape(-1, 3)
    assert len(np.unique(margin, axis=0)) == 1  # nothing is cut off at the edge of the page
