"""The documentation site's page to draw on works in a browser. Builds the site, which takes some ten seconds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from helpers.browser import Browser
from helpers.exported import DRAWN, draw, text_of

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run([Path(__file__).parents[2] / "tools" / "docs", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "docs"


def test_the_link_leads_to_a_page_that_reads_a_digit(browser: Browser, site: Path) -> None:
    browser.open(site / "live.html", 390)
    assert browser.overflow() == 0
    browser.driver.find_element("link text", "Open the page alone").click()
    draw(browser, 5)
    browser.run(DRAWN)
    assert text_of(browser, "label") == "5"
    assert (browser.errors(), browser.overflow()) == ([], 0)


def test_the_page_within_the_page(browser: Browser, site: Path) -> None:
    """All of it fits, so that nobody scrolls within a scrolled page."""
    browser.open(site / "live.html", 1280, 1000)
    frame = browser.driver.find_element("css selector", "iframe.live")
    browser.run("arguments[0].scrollIntoView()", frame)
    browser.driver.switch_to.frame(frame)
    try:
        browser.driver.find_element("id", "clear")
        browser.run(DRAWN)
        assert browser.run("return fastlenet.seen().count") == 0 and browser.overflow() == 0
        assert browser.run("const e = document.documentElement; return e.scrollHeight <= e.clientHeight")
    finally:
        browser.driver.switch_to.default_content()
    assert browser.errors() == []


def test_the_index_names_it(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html")
    assert "draw a digit" in [link.text for link in browser.driver.find_elements("css selector", "article a")]
