"""The page of a report in a browser: quiet, as wide as a phone, legible by day and by night, with the report's numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.browser import Browser
from helpers.reports import KINDS, report_of

pytestmark = pytest.mark.browser

SECTIONS = ("accuracy", "confusions", "classes", "calibration", "errors", "filters", "activations", "costs", "curves", "recipe")

# The contrast of each text with what is behind it, by the formula of WCAG 2.2; of texts in charts by their fill.
CONTRASTS = """
const numbers = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
const over = (top, below) => {
  const a = top.length > 3 ? top[3] : 1;
  return [0, 1, 2].map(i => top[i] * a + below[i] * (1 - a));
};
const behind = element => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.push(numbers(getComputedStyle(e).backgroundColor));
  return layers.reverse().reduce((below, top) => top.length ? over(top, below) : below, [255, 255, 255]);
};
const light = c => c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const found = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  if (!own || ['STYLE', 'SCRIPT', 'TITLE'].includes(element.tagName.toUpperCase())) continue;
  const style = getComputedStyle(element), below = behind(element);
  const ink = over(numbers(element.closest('svg') ? style.fill : style.color), below);
  const [a, b] = [light(ink), light(below)].sort((x, y) => y - x);
  const name = element.tagName + '.' + element.getAttribute('class');
  found.push([(a + 0.05) / (b + 0.05), name, element.textContent.slice(0, 30)]);
}
return found;
"""


# What JupyterLab says of the elements of an output, with values of its light theme.
JUPYTER = """
.jp-RenderedHTMLCommon { color: #333; font-family: serif; font-size: 14px; line-height: 1.6; overflow: auto; }
.jp-RenderedHTMLCommon strong { font-weight: bold; }
.jp-RenderedHTMLCommon a:link { text-decoration: none; color: #2196f3; }
.jp-RenderedHTMLCommon h3, .jp-RenderedHTMLCommon h4 { line-height: 1; font-weight: 500; margin: 1em 0 0.5em; }
.jp-RenderedHTMLCommon h3:first-child, .jp-RenderedHTMLCommon h4:first-child { margin-top: 0.5em; }
.jp-RenderedHTMLCommon h3:last-child, .jp-RenderedHTMLCommon h4:last-child { margin-bottom: 0.5em; }
.jp-RenderedHTMLCommon h3 { font-size: 1.4em; } .jp-RenderedHTMLCommon h4 { font-size: 1.2em; }
.jp-RenderedHTMLCommon ul:not(.list-inline) { padding-left: 2em; }
.jp-RenderedHTMLCommon ul { list-style: disc; margin-bottom: 1em; }
.jp-RenderedHTMLCommon dt { float: left; width: 20%; }
.jp-RenderedHTMLCommon pre, .jp-RenderedHTMLCommon code { border: 0; background-color: #fff; color: #111; font-family: serif;
  font-size: inherit; line-height: 1.3; padding: 0; white-space: pre-wrap; }
.jp-RenderedHTMLCommon :not(pre) > code { background-color: #eee; padding: 1px 5px; }
.jp-RenderedHTMLCommon table { border-collapse: collapse; border-spacing: 0; border: none; color: #444; font-size: 12px;
  table-layout: fixed; margin-left: auto; margin-bottom: 1em; margin-right: auto; }
.jp-RenderedHTMLCommon thead { border-bottom: 1px solid #bbb; vertical-align: bottom; }
.jp-RenderedHTMLCommon td, .jp-RenderedHTMLCommon th, .jp-RenderedHTMLCommon tr { vertical-align: middle; padding: 0.5em;
  line-height: normal; white-space: normal; max-width: none; border: none; }
:not(.jp-RenderedMarkdown).jp-RenderedHTMLCommon td, :not(.jp-RenderedMarkdown).jp-RenderedHTMLCommon th { text-align: right; }
.jp-RenderedHTMLCommon th { font-weight: bold; }
.jp-RenderedHTMLCommon tbody tr:nth-child(odd) { background: #fff; }
.jp-RenderedHTMLCommon tbody tr:nth-child(even) { background: #f5f5f5; }
.jp-RenderedHTMLCommon p { text-align: left; margin: 0; margin-bottom: 1em; }
.jp-RenderedHTMLCommon img, .jp-RenderedHTMLCommon svg { max-width: 100%; height: auto; }
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("reports")
    for kind in KINDS:
        report_of(kind).save(folder / f"{kind}.html")
    yield {kind: folder / f"{kind}.html" for kind in KINDS}


def open_all(browser: Browser) -> None:
    browser.run("for (const e of document.querySelectorAll('details')) { e.removeAttribute('name'); e.open = true; }")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_quiet_and_fits(kind: str, width: int, dark: bool, browser: Browser, pages: dict[str, Path]) -> None:
    """No error, no request, nothing to scroll sideways, with everything opened too; every picture is decoded."""
    browser.open(pages[kind], width, dark=dark)
    assert browser.overflow() == 0
    open_all(browser)
    assert browser.overflow() == 0
    pictures = "return [...document.images].map(i => [i.complete && i.naturalWidth > 0, i.getBoundingClientRect().width])"
    assert all(decoded and wide > 0 for decoded, wide in browser.run(pictures))
    outside = """return [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') && !e.closest('svg')
      && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert browser.run(outside) == []
    assert (browser.errors(), browser.requests()) == ([], [])
    assert tuple(browser.run("return [...document.querySelectorAll('[data-section]')].map(e => e.dataset.section)")) == SECTIONS


def test_the_numbers_in_the_page(browser: Browser, pages: dict[str, Path]) -> None:
    report = report_of("mnist")
    browser.open(pages["mnist"], 390)
    cells = "return [...document.querySelectorAll('.matrix tbody tr')].map(r => [...r.cells].slice(1).map(c => c.innerText))"
    matrix = [[0 if cell == "\N{MIDDLE DOT}" else int(cell.replace(",", "")) for cell in row] for row in browser.run(cells)]
    assert matrix == report.confusion_matrix.tolist()
    assert browser.run("return document.querySelector('.number').innerText") == f"{report.accuracy:.2%}".replace("%", " %")
    tiles = browser.run("return [...document.querySelectorAll('.gallery li')].map(e => e.innerText)")
    assert len(tiles) == len(report.errors)
    assert sum("doubtful label" in tile for tile in tiles) == sum(e.label_error is not None for e in report.errors) == 8
    curves = browser.run("return [...document.querySelectorAll('[data-section=curves] polyline')].length")
    assert curves == 4


def test_ten_classes_fit_on_a_phone(browser: Browser, pages: dict[str, Path]) -> None:
    """The matrix and the classes are seen whole; only the table of costs scrolls in its box."""
    browser.open(pages["mnist"], 390)
    open_all(browser)
    script = "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.ariaLabel)"
    assert browser.run(script) == ["what each layer costs for one image"]


def test_an_example_is_chosen_without_a_script(browser: Browser, pages: dict[str, Path]) -> None:
    """By the keyboard: opening one closes the other."""
    from selenium.webdriver.common.keys import Keys

    browser.open(pages["mnist"], 1280)
    opened = "return [...document.querySelectorAll('.example')].map(e => e.open)"
    assert browser.run(opened) == [True, False, False, False, False]
    browser.run("document.querySelectorAll('.example summary')[2].focus()")
    browser.keys(Keys.ENTER)
    assert browser.run(opened) == [False, False, True, False, False]


@pytest.mark.parametrize("kind", ["mnist", "names", "hundred"])
def test_dark_mode_and_contrast(kind: str, browser: Browser, pages: dict[str, Path]) -> None:
    """The colours change with the system's, and every text stands out from what is behind it by 4.5 to 1 in both."""
    paper = "return getComputedStyle(document.querySelector('main')).backgroundColor"
    papers = set()
    for dark in (False, True):
        browser.open(pages[kind], 1280, dark=dark)
        open_all(browser)
        papers.add(browser.run(paper))
        assert browser.run("return getComputedStyle(document.body).backgroundColor") == browser.run(paper)
        found = browser.run(CONTRASTS)
        assert len(found) > 300
        assert [entry for entry in found if entry[0] < 4.5] == []
    assert papers == {"rgb(255, 255, 255)", "rgb(21, 23, 26)"}


def test_low_contrast_is_noticed(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><link rel=icon href='data:,'><p style='color:#888'>pale</p><p>black</p>")
    browser.open(page)
    assert [round(entry[0], 1) for entry in browser.run(CONTRASTS)] == [3.5, 21.0]


def test_the_charts_texts_do_not_overlap(browser: Browser, pages: dict[str, Path]) -> None:
    """Also where two curves end at one height."""
    script = """
    const found = [];
    for (const svg of document.querySelectorAll('.chart svg')) {
      const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
      boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
        const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
        const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
        if (wide > 1 && high > 3) found.push([a, b]);
      }));
    }
    return found;
    """
    for kind in KINDS:
        for width in (390, 1280):
            browser.open(pages[kind], width)
            assert browser.run(script) == [], kind


def test_beside_other_output_in_a_notebook(browser: Browser, tmp_path: Path) -> None:
    """The host's elements look the same with and without the report; its theme decides the report's colours."""
    host = (
        "<h1>host</h1><table border=1><tr><th>a</th><td>b</td></tr></table><details><summary>c</summary></details><svg></svg>"
    )
    fragment = report_of("without_errors")._repr_html_()
    seen: list[Any] = []
    look = """return [...document.querySelectorAll('.host *')].map(e => { const s = getComputedStyle(e);
      return [...s].map(name => s.getPropertyValue(name)).join(); })"""
    for number, body in enumerate(["", fragment, fragment + fragment]):
        page = tmp_path / f"{number}.html"
        page.write_text(f"<!doctype html><link rel=icon href='data:,'><div class=host>{host}</div><div>{body}</div>")
        browser.open(page, 800)
        seen.append(browser.run(look))
        assert (browser.errors(), browser.requests(), browser.overflow()) == ([], [], 0)
    assert seen[0] == seen[1] == seen[2]
    for theme, paper in (("true", "rgb(255, 255, 255)"), ("false", "rgb(21, 23, 26)")):
        for dark in (False, True):
            browser.open(tmp_path / "1.html", 800, dark=dark)
            browser.run(f"document.body.setAttribute('data-jp-theme-light', '{theme}')")
            assert browser.run("return getComputedStyle(document.querySelector('.fastlenet-report')).backgroundColor") == paper


@pytest.mark.parametrize("kind", ["mnist", "hundred"])
def test_a_notebooks_style_changes_nothing_in_a_report(kind: str, browser: Browser, tmp_path: Path) -> None:
    """Each element has the same style and place with JupyterLab's rules for outputs and without them."""
    fragment = report_of(kind)._repr_html_()
    look = """const origin = document.querySelector('.fastlenet-report').getBoundingClientRect();
      return [...document.querySelectorAll('.fastlenet-report *')].map(e => {
        const s = getComputedStyle(e), box = e.getBoundingClientRect();
        const names = ['color', 'backgroundColor', 'font', 'textAlign', 'borderTop', 'borderBottom', 'padding', 'margin',
          'float', 'listStyle', 'whiteSpace', 'textDecorationLine', 'verticalAlign'];
        const place = [box.left - origin.left, box.top - origin.top, box.width, box.height].map(Math.round);
        return [e.tagName + '.' + e.getAttribute('class'), ...names.map(n => s[n]), ...place].join(' | ');
      })"""
    seen: list[list[str]] = []
    for number, style in enumerate(["", JUPYTER]):
        page = tmp_path / f"{number}.html"
        page.write_text(
            f"<!doctype html><link rel=icon href='data:,'><style>{style}</style>"
            f"<div style='width: 1000px; padding: 0'><div class=jp-RenderedHTMLCommon style='padding: 0'>{fragment}</div></div>"
        )
        browser.open(page, 1280)
        seen.append(browser.run(look))
    differing = [pair for pair in zip(*seen, strict=True) if pair[0] != pair[1]]
    assert len(seen[0]) > 500 and differing[:3] == []


def test_the_pixels_of_a_picture(browser: Browser, pages: dict[str, Path]) -> None:
    """The first error's picture is the image: as the browser decodes it."""
    browser.open(pages["mnist"], 1280)
    script = """
    const image = document.querySelector('.gallery img'), canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const drawn = canvas.getContext('2d'); drawn.drawImage(image, 0, 0);
    return [...drawn.getImageData(0, 0, canvas.width, canvas.height).data].filter((_, i) => i % 4 === 0);
    """
    image = report_of("mnist").errors[0].image
    brightened = np.rint(image * (255 / image.max())).astype(int)
    assert browser.run(script) == brightened.reshape(-1).tolist()


def test_on_paper(browser: Browser, pages: dict[str, Path]) -> None:
    """Printed black on white, in dark mode too, and the wide tables are not cut off."""
    browser.open(pages["mnist"], 1280, dark=True)
    browser.cdp("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.run("return getComputedStyle(document.querySelector('main')).backgroundColor") == "rgb(255, 255, 255)"
        assert browser.run("return getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
        assert browser.run("return getComputedStyle(document.querySelector('nav')).display") == "none"
    finally:
        browser.cdp("Emulation.setEmulatedMedia", media="")
