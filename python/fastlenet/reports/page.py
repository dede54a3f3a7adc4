"""A report as one page that needs no other file, and as a part of a notebook."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from fastlenet.config import config
from fastlenet.reports import confusions, gallery, inside, results, trained
from fastlenet.reports.findings import Findings
from fastlenet.reports.markup import Markup, join, tag

__all__ = ["as_fragment", "as_page"]

_ROOT = "fastlenet-report"  # the class of the element that the style applies to
# Nothing is executed, and nothing is fetched: a browser refuses it, whatever the names of classes and files may contain.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
# What a notebook must not get: the rules for the whole page.
_PAGE_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0; background: #ffffff; }
@media (prefers-color-scheme: dark) { body { background: #15171a; } }
@media print { body { background: #ffffff; } }
"""

Section = Callable[[Findings, str], Markup]  # from what was found, and a mark that ends the names which must be unique


def _plain(section: Callable[[Findings], Markup]) -> Section:
    return lambda findings, mark: section(findings)


# The sections of the page in order: the word in their address, and their title.
_SECTIONS: Mapping[str, tuple[str, Section]] = {
    "confusions": ("Confusions", _plain(confusions.confusions)),
    "classes": ("Precision and recall", _plain(results.classes)),
    "calibration": ("Calibration", _plain(results.calibration)),
    "errors": ("Worst errors", _plain(gallery.errors)),
    "filters": ("Filters", _plain(inside.filters)),
    "activations": ("Activations", lambda findings, mark: inside.activations(findings, f"example{mark}")),
    "costs": ("What each layer costs", _plain(inside.layer_costs)),
    "curves": ("Learning curves", _plain(trained.curves)),
    "recipe": ("Recipe", _plain(trained.recipe)),
}


def as_page(findings: Findings) -> str:
    """Returns a whole HTML page."""
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content=f"fastlenet {config()['version']}"),
        tag("title", _title(findings)),
        tag("link", rel="icon", href="data:,"),
        Markup(f"<style>{_style()}{_PAGE_STYLE}</style>"),
    ]
    body = tag("body", tag("main", _contents(findings, "h1", "h2", mark=""), class_=_ROOT))
    return f"<!DOCTYPE html>\n{tag('html', tag('head', *head), body, lang='en')}\n"


def as_fragment(findings: Findings) -> str:
    """Returns an element with its style, for a notebook."""
    mark = f"-{secrets.token_hex(4)}"  # so that the links of two reports in one notebook differ
    return tag("div", Markup(f"<style>{_style()}</style>"), _contents(findings, "h3", "h4", mark), class_=_ROOT)


@cache
def _style() -> str:
    """The style, in which & stands for the report's element: written twice, it wins over a notebook's rules for tables."""
    text = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    return text.replace("&", f".{_ROOT}.{_ROOT}")


def _title(findings: Findings) -> str:
    subject = findings.subject
    network = subject.network if subject.networks == 1 else f"{subject.networks} x {subject.network}"
    return f"{network} on {subject.data}" if subject.data else network


def _contents(findings: Findings, title: str, heading: str, mark: str) -> Markup:
    """The report, with these elements for its title and its sections' headings. mark: ends the names that must be unique."""
    links = [tag("a", words, href=f"#{name}{mark}") for name, (words, _) in _SECTIONS.items()]
    sections = [
        tag("section", tag(heading, words, id=f"{name}{mark}"), section(findings, mark), data_section=name)
        for name, (words, section) in _SECTIONS.items()
    ]
    top = tag("header", tag(title, _title(findings)), results.accuracy(findings), data_section="accuracy")
    foot = tag("footer", f"fastlenet {config()['version']}. This page needs no other file and no network.")
    return join(top, tag("nav", *links, aria_label="sections"), *sections, foot)
