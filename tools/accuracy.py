#!/usr/bin/env python3
"""Copy the output of python -m fastlenet.train. Fail unless its final accuracy is at least the given per cent.

python -m fastlenet.train | tools/accuracy.py 99.25
"""

from __future__ import annotations

import re
import sys


def main() -> int:
    least = float(sys.argv[1])
    text = ""
    for line in sys.stdin:
        print(line, end="", flush=True)
        text += line
    found = re.search(r"final accuracy (\d+\.\d+)%", text)
    if found is None or float(found[1]) < least:
        print(
            f"FAILED: expected a final accuracy of at least {least}%, got {found[1] + '%' if found else 'none'}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
