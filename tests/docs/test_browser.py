"""The browser that other tests open pages with notices what is wrong with a page, and points as a hand does."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.browser import Browser, Pointer

pytestmark = pytest.mark.browser

QUIET = "<!doctype html><title>quiet</title><link rel=icon href='data:,'>"


def page(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "page.html"
    path.write_text(QUIET + body)
    return path


def test_a_quiet_page_is_quiet(browser: Browser, tmp_path: Path) -> None:
    browser.open(page(tmp_path, "<p>text"), 390)
    assert browser.driver.title == "quiet"
    assert (browser.errors(), browser.requests(), browser.overflow()) == ([], [], 0)


def test_errors_requests_and_overflow_are_noticed(browser: Browser, tmp_path: Path) -> None:
    asks = "<script>fetch('http://127.0.0.1:9/a').catch(() => 0); throw new Error('broken')</script>"
    browser.open(page(tmp_path, f"<div style='width:500px'>wide</div>{asks}"), 390)
    assert browser.overflow() >= 110
    assert any("broken" in line for line in browser.errors())
    assert browser.requests() == ["http://127.0.0.1:9/a"]
    browser.open(page(tmp_path, ""))
    assert (browser.errors(), browser.requests()) == ([], [])


@pytest.mark.parametrize("dark", [False, True])
def test_the_media_are_what_was_asked_for(browser: Browser, tmp_path: Path, dark: bool) -> None:
    browser.open(page(tmp_path, ""), 390, 700, dark=dark)
    assert browser.run("return matchMedia('(prefers-color-scheme: dark)').matches") is dark
    assert browser.run("return [innerWidth, innerHeight]") == [390, 700]


@pytest.mark.parametrize("pointer", ["mouse", "touch", "pen"])
def test_a_stroke_is_made_of_real_pointer_events(browser: Browser, tmp_path: Path, pointer: Pointer) -> None:
    noted = "e => seen.push([e.type, e.pointerType, e.isTrusted, e.offsetX, e.offsetY])"
    script = f"for (const n of ['pointerdown', 'pointermove', 'pointerup']) box.addEventListener(n, {noted})"
    box = "<div id=box style='width:200px;height:100px;touch-action:none'></div>"
    browser.open(page(tmp_path, f"{box}<script>const seen = []; {script}</script>"), touch=pointer == "touch")
    browser.stroke("#box", [(0.1, 0.5), (0.5, 0.5), (0.9, 0.2)], pointer)
    seen = browser.run("return seen")
    down = next(index for index, event in enumerate(seen) if event[0] == "pointerdown")
    assert [event[0] for event in seen[down:]] == ["pointerdown", "pointermove", "pointermove", "pointerup"]
    assert {(event[1], event[2]) for event in seen[down:]} == {(pointer, True)}
    assert [event[3:] for event in seen[down : down + 3]] == [[20, 50], [100, 50], [180, 20]]
