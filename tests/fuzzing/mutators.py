"""Changes to files that keep their checksums and lengths right, so that the fuzzer reaches what lies behind them.

Each takes the bytes, the fuzzer's own change of bytes, and random numbers. A file that cannot be taken apart is changed as
bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Change = Callable[[bytes], bytes]
Mutator = Callable[[bytes, Change, random.Random], bytes]

_ODD: tuple[Any, ...] = (
    *(0, 1, -1, 2, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**400),
    *(0.0, -0.0, 0.5, 1e-320, 1e308, 1e309, -1e309, float("nan")),
    *(True, False, None, "", "x", "\x00", "\ud800", "é\n", "x" * 300, "1", "float32", "F32", "BF16", "U8", "<f4"),
    *([], {}, [0], [[]], {"": 0}, [1, 28, 28], ["x"], {"x": {}}),
)


def other_json(value: Any, draw: random.Random) -> Any:
    """The value with one place in it replaced, removed, repeated or renamed."""
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(places) < 5000:
        each = waiting.pop()
        if isinstance(each, dict):
            places += [(each, key) for key in each]
            waiting += each.values()
        elif isinstance(each, list):
            places += [(each, key) for key in range(len(each))]
            waiting += each
    if not places:
        return draw.choice(_ODD)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        within, key = draw.choice(places)
        try:
            there, kind = within[key], draw.randrange(10)
        except (KeyError, IndexError):
            continue  # removed before
        if kind == 0:
            del within[key]
        elif kind == 1:
            other, name = draw.choice(places)
            within[key] = other.get(name) if isinstance(other, dict) else other[name] if name < len(other) else None
        elif kind == 2 and isinstance(within, dict):
            within[str(draw.choice(_ODD))] = within.pop(key)
        elif kind == 2 and isinstance(within, list):
            within.insert(draw.randrange(len(within) + 1), there)
        elif kind <= 5 and isinstance(there, (int, float)) and not isinstance(there, bool):
            within[key] = there + draw.choice((1, -1, 2**31, -there, 0.5, there))
        else:
            within[key] = draw.choice(_ODD)
        if _deep(value):
            break
    return value


def _deep(value: Any, left: int = 30) -> bool:
    """Whether it is nested deeply, or within itself."""
    if isinstance(value, (dict, list)):
        inner = value.values() if isinstance(value, dict) else value
        return left == 0 or any(_deep(each, left - 1) for each in list(inner)[:200])
    return False


def _text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


def _json(text: bytes, change: Change, draw: random.Random) -> bytes:
    if draw.random() < 0.3:
        return change(text)
    try:
        value = other_json(json.loads(text), draw)
        return change(text) if _deep(value) else _text(value)
    except (ValueError, RecursionError, OverflowError):
        return change(text)


def json_lines(content: bytes, change: Change, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    kind = draw.randrange(10)
    if kind == 0:
        return change(content)
    place = draw.randrange(len(lines))
    if kind == 1:
        lines.insert(place, draw.choice(lines))
    elif kind == 2:
        del lines[place]
    else:
        lines[place] = _json(lines[place], change, draw)
    return b"\n".join(lines)


def json_head(content: bytes, change: Change, draw: random.Random) -> bytes:
    """A line of JSON with bytes behind it; the JSON may have JSON as text within."""
    head, newline, rest = content.partition(b"\n")
    kind = draw.randrange(8)
    if kind == 0:
        return change(content)
    if kind == 1:
        return head + newline + change(rest)
    try:
        said = json.loads(head)
        if kind < 5:
            said["config"] = _json(said["config"].encode(), change, draw).decode("utf-8", "replace")
            return _text(said) + newline + rest
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    return _json(head, change, draw) + newline + rest


# --- safetensors ---


def _taken_apart(content: bytes) -> tuple[bytes, bytes]:
    length = int.from_bytes(content[:8], "little")
    return content[8 : 8 + length], content[8 + length :]


def _joined(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def safetensors_file(content: bytes, change: Change, draw: random.Random) -> bytes:
    header, data = _taken_apart(content)
    kind = draw.randrange(8)
    if kind == 0 or len(content) < 9:
        return change(content)
    if kind == 1:
        return _joined(header, change(data) or data)
    if kind in (2, 3):  # the words beside the tensors may be JSON themselves
        try:
            described = json.loads(header)
            words = described["__metadata__"]
            name = draw.choice(sorted(words))
            words[name] = _json(words[name].encode(), change, draw).decode("utf-8", "replace")
            return _joined(_text(described), data)
        except (ValueError, KeyError, AttributeError, TypeError, IndexError, RecursionError):
            pass
    return _joined(_json(header, change, draw), data)


def state_file(content: bytes, change: Change, draw: random.Random) -> bytes:
    """A training state, most often with its checksum made right again."""
    changed = safetensors_file(content, change, draw)
    return with_digest(changed) if draw.random() < 0.8 else changed


def with_digest(content: bytes) -> bytes:
    """The same file with the checksum of its tensors and facts, as fastlenet.training.checkpoint computes it."""
    header, data = _taken_apart(content)
    try:
        described = json.loads(header)
        saved = json.loads(described["__metadata__"]["fastlenet"])
        digest = hashlib.sha256(json.dumps(saved["facts"], sort_keys=True).encode())
        names = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U8": "|u1", "U64": "<u8", "I32": "<i4", "BOOL": "|b1"}
        for name in sorted(set(described) - {"__metadata__"}):
            entry = described[name]
            start, end = entry["data_offsets"]
            digest.update(f"{name} {np.dtype(names[entry['dtype']]).str} {tuple(entry['shape'])}".encode())
            digest.update(data[start:end])
        saved["digest"] = digest.hexdigest()
        described["__metadata__"]["fastlenet"] = json.dumps(saved)
        return _joined(_text(described), data)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError, OverflowError):
        return content


# --- containers ---


def gzip_file(content: bytes, change: Change, draw: random.Random) -> bytes:
    """What is compressed is changed, and compressed anew."""
    if draw.random() < 0.3:
        return change(content)
    try:
        inner = zlib.decompressobj(31).decompress(content, 1 << 20)
    except zlib.error:
        return change(content)
    inner = change(inner)
    if draw.random() < 0.2:
        inner += bytes(draw.choice((1, 1000, 100_000)))
    cut = draw.randrange(len(inner) + 1) if draw.random() < 0.2 else len(inner)
    made = gzip.compress(inner[:cut], draw.randrange(10), mtime=0)
    return made + (gzip.compress(inner[cut:], mtime=0) if cut < len(inner) else b"") + bytes(draw.choice((0, 0, 0, 3)))


def zip_file(content: bytes, change: Change, draw: random.Random) -> bytes:
    """A member is changed, renamed, removed or repeated, and the archive written anew with right checksums."""
    if draw.random() < 0.2:
        return change(content)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as old:
            members = [
                (info.filename, old.read(info), info.compress_type) for info in old.infolist()[:64] if info.file_size < 1 << 20
            ]
    except Exception:  # what damaged bytes make zipfile raise
        return change(content)
    if not members:
        return change(content)
    place = draw.randrange(len(members))
    name, member, way = members[place]
    kind = draw.randrange(12)
    if kind == 0:
        del members[place]
    elif kind == 1:
        members[place] = draw.choice(members)[0], member, way
    elif kind == 2:
        members[place] = change(name.encode()).decode("utf-8", "replace").replace("\0", "")[:500], member, way
    elif kind == 3:
        members[place] = name, member, draw.choice((0, 8, 12, 14))
    elif kind == 4:
        members[place] = name, member + bytes(draw.choice((1, 1000, 1 << 17))), 8
    elif member[:1] in (b"{", b"["):
        members[place] = name, _json(member, change, draw), way
    else:
        members[place] = name, change(member), way
    made = io.BytesIO()
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(made, "w") as new:
            warnings.simplefilter("ignore")  # of a name twice
            for name, member, way in dict((each[0], each) for each in members).values() if draw.random() < 0.9 else members:
                new.writestr(zipfile.ZipInfo(name), member, way)
    except Exception:  # a name that no archive can hold, or twice the same
        return change(content)
    return made.getvalue()


def png_file(content: bytes, change: Change, draw: random.Random) -> bytes:
    """A chunk is changed, and its checksum made right; the pixels are decompressed before and compressed after."""
    if content[:4] != b"\x89PNG" or draw.random() < 0.25:
        return change(content)
    chunks, at = [], 8
    while at + 12 <= len(content) and len(chunks) < 64:
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return change(content)
    place = draw.randrange(len(chunks))
    kind, body = chunks[place]
    if kind == b"IDAT":
        try:
            body = zlib.compress(change(zlib.decompressobj().decompress(body, 1 << 20)))
        except zlib.error:
            body = change(body)
    else:
        body = change(body)
    chunks[place] = kind, body
    if draw.random() < 0.1:
        chunks.insert(draw.randrange(len(chunks)), draw.choice(chunks))
    return content[:8] + b"".join(
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks if len(k) == 4
    )
