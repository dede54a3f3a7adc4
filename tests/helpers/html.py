"""HTML as a tree, in which every element must be closed where it was opened."""

from __future__ import annotations

from html.parser import HTMLParser
from xml.etree.ElementTree import Element, TreeBuilder

__all__ = ["tree", "words"]

_VOID = ("img", "meta", "link", "br", "input")


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.builder, self.open = TreeBuilder(), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"an attribute twice in <{tag}>"
        self.builder.start(tag, {name: value or "" for name, value in attrs})
        self.open.append(tag)
        if tag in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()
        self.builder.end(tag)

    def handle_data(self, data: str) -> None:
        if self.open:
            self.builder.data(data)
        else:
            assert not data.strip(), f"text outside of all elements: {data!r}"


def tree(text: str) -> Element:
    """The root element. Raises AssertionError for elements that are closed elsewhere than opened, or never."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    assert parser.open == [], f"never closed: {parser.open}"
    root: Element = parser.builder.close()
    return root


def words(element: Element) -> str:
    """All text within an element."""
    return " ".join("".join(element.itertext()).split())
