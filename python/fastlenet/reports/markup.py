"""HTML and SVG as text that is safe by construction: whatever is not markup is escaped."""

from __future__ import annotations

from html import escape

__all__ = ["Markup", "join", "tag"]

_VOID = ("img", "meta", "link", "br", "input")  # elements of HTML without an end
# Characters that HTML or UTF-8 lack, and those that turn the direction of the text around them.
_REFUSED = (*range(9), 11, 12, *range(14, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_REPLACED = dict.fromkeys([*_REFUSED, *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], "\N{REPLACEMENT CHARACTER}")


class Markup(str):
    """Text that is HTML already."""


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Returns an element. Children that are not Markup are escaped; None is left out.

    attributes: by name, in which _ stands for -, and a last _ is left out, as in class_. One that is None or False is left out.
    """
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_safe(value)}"' if value is not True else f" {key}"
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{words}>")
    return Markup(f"<{name}{words}>{join(*children)}</{name}>")


def join(*children: object) -> Markup:
    """Returns the children one after the other, escaped unless they are Markup; None is left out."""
    return Markup("".join(child if isinstance(child, Markup) else _safe(child) for child in children if child is not None))


def _safe(value: object) -> str:
    return escape(str(value).translate(_REPLACED))
