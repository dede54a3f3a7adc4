"""fastlenet bench --amx-soak: does this machine lose the contents of AMX's tiles?"""

from __future__ import annotations

import json
import math
import os

from fastlenet import _core
from fastlenet.cli.command import UsageError

__all__ = ["soak"]

_WAITS = ("yield", "spin", "sleep")  # how a thread gives up its core between loading tiles and using them
_THREADS_PER_CPU = 4
_TILES = "tdpbf16ps"


def soak(seconds: float, as_json: bool, lose_every: int = 0) -> int:
    """Soak the tiles for `seconds`, and print what was found. Returns the exit code.

    With FASTLENET_BF16=tdpbf16ps-emulated, soaks the emulation, which loses nothing by itself. lose_every: lose the tiles of
    every so many rounds on purpose. Raises UsageError where tiles cannot be used.
    """
    emulated = f"{_TILES}-emulated"
    unit = emulated if os.environ.get("FASTLENET_BF16") == emulated else _TILES
    threads = _THREADS_PER_CPU * (os.cpu_count() or 1)
    rounds = lost = undetected = 0
    pieces = max(1, math.ceil(seconds / len(_WAITS)))  # of up to a second, so that Ctrl-C ends it
    for wait in _WAITS * pieces:
        try:
            found = _core.soak_tiles(unit, threads, seconds / len(_WAITS) / pieces, wait, lose_every)
        except ValueError as error:
            raise UsageError(f"--amx-soak: {error}") from None
        rounds, lost, undetected = rounds + found[0], lost + found[1], undetected + found[2]
    verdict = "reliable" if lost == 0 else "loses tiles, and the sentinel tells" if undetected == 0 else "loses tiles unnoticed"
    if as_json:
        facts = {"unit": unit, "threads": threads, "rounds": rounds, "lost": lost, "undetected": undetected}
        print(json.dumps(facts | {"verdict": verdict}), flush=True)
    else:
        print(f"{unit}: {verdict}; {rounds:,} rounds on {threads} threads, {lost:,} lost, {undetected:,} of them undetected")
    return 1 if undetected else 0
