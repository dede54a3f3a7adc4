"""Checks before ranks share a run: no rank has failed, and all have the same settings and data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

from fastlenet.distributed.exchange import TreeRanks
from fastlenet.streams import one_line
from fastlenet.training.ranks import RanksError

__all__ = ["expect_same", "together"]

Made = TypeVar("Made")


def together(ranks: TreeRanks, prepare: Callable[[], Made]) -> Made:
    """Returns what `prepare` returns, if it succeeds on all ranks.

    A rank on which it raises an Exception raises this; the others then raise RanksError, which names that rank.
    """
    failure = None
    try:
        made = prepare()
    except Exception as error:
        failure = error
    text = "" if failure is None else one_line(str(failure)) or type(failure).__name__
    texts = ranks.gather_texts(text)
    if failure is not None:
        raise failure
    for name, reason in zip(ranks.names, texts, strict=True):
        if reason:
            raise RanksError(f"{name}: {reason}")
    return made


def expect_same(ranks: TreeRanks, facts: Mapping[str, str]) -> None:
    """Raise RanksError, which names a rank, unless all ranks have the same facts. facts: by name, the names are the same."""
    everyone = [json.loads(text) for text in ranks.gather_texts(json.dumps(dict(facts)))]
    for name, theirs in zip(ranks.names, everyone, strict=True):
        for fact, value in everyone[0].items():
            if theirs.get(fact) != value:
                raise RanksError(f"{name} has {fact} {one_line(str(theirs.get(fact)))}, {ranks.names[0]} has {one_line(value)}")
