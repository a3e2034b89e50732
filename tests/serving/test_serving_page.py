"""The chat page in a real browser: upload, ask, see the answer come and where each input went."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = {"wide": (1280, 800), "narrow": (390, 844)}
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        profile = tmp_path_factory.mktemp("profile")
        context = play.chromium.launch_persistent_context(
            str(profile), executable_path=str(CHROMIUM), headless=True, args=FLAGS
        )
        yield context
        context.close()


def ask(page: "Page", address: str, media: dict[str, Path]) -> list[str]:
    """Upload one file of each sense, ask, and wait for the answer; complaints of the page."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((address, "data:", "blob:"))
            else complaints.append(request.url)
        ),
    )
    page.goto(address)
    for name, path in media.items():
        page.set_input_files(f"#pick-{name}", str(path))
        page.locator(f".chip.{name}").wait_for()
    page.fill("#question", "What do these have in common?")
    page.click("#send")
    page.locator(".assistant .bubble:not(.waiting)").wait_for(timeout=60_000)
    return complaints


@pytest.mark.parametrize("size", SIZES)
def test_the_page_shows_answer_and_routes(
    browser: object, served: object, media: dict[str, Path], tmp_path: Path, size: str
) -> None:
    page = browser.new_page()
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    assert ask(page, served.address, media) == []
    answer = page.locator(".assistant .bubble").inner_text()
    assert answer.strip()
    assert page.locator(".bubble.failed").count() == 0
    captions = page.locator("figcaption").all_inner_texts()
    assert [text.split("\n")[0] for text in captions] == [
        "Picture, 16 tokens",
        "Sound, 4 tokens",
        "Clip, 6 tokens",
    ]
    assert "clip_vision → mlp → text stream" in captions[0].replace("\xa0", " ")
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0
    folder = Path(os.environ.get("OMNICOMPOSE_SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / f"chat-{size}.png")
    page.close()


def test_the_answer_comes_in_pieces(browser: object, served: object) -> None:
    page = browser.new_page()
    page.goto(served.address)
    watch = """() => {
      window.seen = [];
      new MutationObserver(() => window.seen.push(
        document.querySelector('.assistant .bubble')?.textContent ?? ''))
        .observe(document.getElementById('turns'), {childList: true, subtree: true});
    }"""
    page.evaluate(watch)
    page.fill("#question", "Which number?")
    page.press("#question", "Enter")
    page.locator(".assistant .bubble:not(.waiting)").wait_for(timeout=60_000)
    seen = [text for text in page.evaluate("window.seen") if text]
    assert len(set(seen)) > 1
    assert all(later.startswith(earlier) for earlier, later in pairwise(seen))
    page.close()


def test_a_file_of_another_kind_is_refused_in_words(
    browser: object, served: object, tmp_path: Path
) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    page = browser.new_page()
    page.goto(served.address)
    page.set_input_files("#pick-image", str(tmp_path / "notes.png"))
    page.fill("#question", "What is this?")
    page.click("#send")
    failed = page.locator(".bubble.failed")
    failed.wait_for(timeout=60_000)
    assert "given as image, but found nothing" in failed.inner_text()
    assert "/tmp" not in failed.inner_text()
    page.close()


def test_text_is_never_markup(browser: object, served: object) -> None:
    page = browser.new_page()
    page.goto(served.address)
    page.fill("#question", "<img src=x onerror=\"document.title='harm'\"> <image>")
    page.click("#send")
    page.locator(".assistant .bubble:not(.waiting)").wait_for(timeout=60_000)
    assert page.title() == "omni"
    assert page.locator(".user .bubble img").count() == 0
    page.close()
