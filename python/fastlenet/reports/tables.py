"""Tables of a page, in boxes that scroll by themselves, and numbers as the page writes them."""

from __future__ import annotations

import math

from fastlenet.reports.markup import Markup, tag

__all__ = ["percent", "scrolled", "table"]


def percent(share: float) -> str:
    """A share for a reader; a dash for NaN."""
    return "\N{EN DASH}" if math.isnan(share) else f"{share:.2%}".replace("%", " %")


def scrolled(*children: object, label: str) -> Markup:
    """A box that scrolls by itself, by the keyboard too, where its contents are wider than the page."""
    return tag("div", *children, class_="scroll", tabindex="0", role="region", aria_label=label)


def table(head: list[object], rows: list[list[object]], *, class_: str = "", caption: str) -> Markup:
    """A table in a box that scrolls. The first cell of a row is its heading."""
    top = tag("tr", *(tag("th", cell, scope="col") for cell in head))
    body = [tag("tr", tag("th", row[0], scope="row", title=row[0]), *(tag("td", cell) for cell in row[1:])) for row in rows]
    whole = tag("table", tag("caption", caption), tag("thead", top), tag("tbody", *body), class_=class_ or None)
    return scrolled(whole, label=caption)
