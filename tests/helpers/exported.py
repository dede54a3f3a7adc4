"""What exported files hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

__all__ = ["model_of"]


def model_of(page: Path) -> dict[str, Any]:
    """What the page's script reads: the end of a script element is found as a browser finds it."""
    found = re.search(r'<script type="application/json" id="model">(.*?)</script', page.read_text("utf-8"), re.S | re.I)
    assert found is not None
    known: dict[str, Any] = json.loads(found[1])
    return known
