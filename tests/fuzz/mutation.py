"""Wrong inputs made of good ones: bytes changed, values of JSON swapped, numbers grown, texts nested and repeated."""

import bz2
import copy
import gzip
import json
import lzma
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

ODD_NUMBERS = (
    b"0", b"-0", b"-1", b"1.5", b"1e308", b"1e999", b"-1e999", b"1e-999", b"NaN", b"nan", b"Infinity", b"-inf", b"2147483648",
    b"4294967296", b"9007199254740993", b"9223372036854775808", b"18446744073709551616", b"0x10", b"1_000", b"1" * 400,
    b"9" * 5000, "٣".encode(), "²".encode(), b"+7", b" 7 ", b"07", b"true", b"null",
)  # fmt: skip
ODD_TEXTS = (
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\x1b[31m", b"\r", b"\n", b"\r\n", b"\t", b'"', b"'", b"\\",
    b",", b";", b":", b"=", b"@", b"#", b"?", b"&", b"%", b"%00", b"%2F", b"%zz", b"+", b"|", b"..", b"/", b"//", b"://", b"[",
    b"]", b"{", b"}", b"{}", b"[]", b"null", b"-", b"*", b"$", b"~", b"\\ud800", "\u202e".encode(), "\u2028".encode(),
    "é".encode(), "\U0001f600".encode(), b"=cmd()", b"<b>", b"data: ", b"x" * 700, b"x" * 5000, b"," * 300, b"a=1," * 100,
    b"\xf0\x9f",
)  # fmt: skip
DEPTHS = (3,) * 8 + (50,) * 6 + (300,) * 4 + (3000,) * 2 + (100_000,)

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, 1e308, -1e308, float("inf"), float("nan"), 2**31, 2**53 + 1, 2**63, 2**64, 10**30,
    -(10**30), "", "0", "1", "nan", "x" * 3000, "\x00", "\x1b[31m", "\ud800", "a\nb", "=1+1", "redis://u:hunter2@h:1", [], {},
    [[]], [None], [1, "a", None], {"": None}, {"a": {"b": []}}, [{}], [0] * 3000,
)  # fmt: skip

_NUMBER = re.compile(rb"\d+(?:\.\d+)?")
_WORD = re.compile(rb"[A-Za-z_]\w*|\d+(?:\.\d+)?")


def mutated(rng: random.Random, seeds: Sequence[bytes], packed: bool) -> bytes:
    """One input made of a good one. ``packed``: also compressed, as files may be."""
    data = rng.choice(seeds)
    if rng.random() < 0.5 and (changed := _json_changed(rng, data)) is not None:
        data = changed
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        data = rng.choice(_CHANGES)(rng, data, seeds)
    if packed and rng.random() < 0.15:
        data = rng.choice((gzip.compress, bz2.compress, lzma.compress))(data[:200_000])
        if rng.random() < 0.5:
            data = rng.choice((_flip, _cut, _truncated))(rng, data, seeds)
    return data


def _place(rng: random.Random, data: bytes, longest: int = 40) -> tuple[int, int]:
    begin = rng.randrange(len(data) + 1)
    return begin, min(len(data), begin + rng.randrange(longest))


def _flip(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return b"\x00"
    changed, at = bytearray(data), rng.randrange(len(data))
    changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _any_byte(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    begin, _end = _place(rng, data)
    return data[:begin] + bytes([rng.randrange(256)]) + data[begin + 1 :]


def _cut(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    begin, end = _place(rng, data)
    return data[:begin] + data[end:]


def _doubled(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    begin, end = _place(rng, data, 200)
    return data[:end] + data[begin:end] * rng.choice((1, 1, 2, 50)) + data[end:]


def _truncated(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _put(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    begin, end = _place(rng, data, 8)
    return data[:begin] + rng.choice(ODD_TEXTS) + data[rng.choice((begin, end)) :]


def _number(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    found = list(_NUMBER.finditer(data[:100_000]))
    if not found:
        return _put(rng, data, seeds)
    at = rng.choice(found)
    return data[: at.start()] + rng.choice(ODD_NUMBERS) + data[at.end() :]


def _word(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """A word in place of another, of this input or of any good one."""
    mine, others = list(_WORD.finditer(data[:100_000])), _WORD.findall(rng.choice(seeds)[:100_000])
    if not mine or not others:
        return _put(rng, data, seeds)
    at, other = rng.choice(mine), bytes(rng.choice(others))
    return data[: at.start()] + other + data[at.end() :]


def _spliced(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = rng.choice(seeds)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _lines(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Lines left out, doubled or in another order."""
    lines = data.splitlines(keepends=True)
    if len(lines) < 2:
        return _doubled(rng, data, seeds)
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(3)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(to, lines[at])
    else:
        lines[at], lines[to] = lines[to], lines[at]
    return b"".join(lines)


def _nested(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    depth, begin = rng.choice(DEPTHS), _place(rng, data)[0]
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"(", b")"), (b"a.", b""), (b"x+", b"")))
    return data[:begin] + opening * depth + closing * rng.choice((0, depth)) + data[begin:]


_CHANGES: tuple[Callable[[random.Random, bytes, Sequence[bytes]], bytes], ...] = (
    _flip, _any_byte, _cut, _doubled, _truncated, _put, _put, _number, _number, _word, _word, _spliced, _lines, _nested,
)  # fmt: skip


def _json_changed(rng: random.Random, data: bytes) -> bytes | None:
    """With values of its JSON changed: of the whole of it, or of one line; None where there is none."""
    whole = _parsed(data)
    if whole is not _NONE:
        return _written(rng, _tree_changed(rng, whole))
    lines = data.splitlines(keepends=True)
    if not lines:
        return None
    at = rng.randrange(len(lines))
    begin = lines[at].find(b"{")
    value = _parsed(lines[at][begin:]) if begin >= 0 else _NONE
    if value is _NONE:
        return None
    lines[at] = lines[at][:begin] + _written(rng, _tree_changed(rng, value)) + b"\n"
    return b"".join(lines)


_NONE = object()


def _parsed(data: bytes) -> Any:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _NONE
    return value if isinstance(value, dict | list) else _NONE


def _tree_changed(rng: random.Random, value: Any) -> Any:
    """One to three places of it."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        holders = list(_holders(value))
        if not holders:
            return _odd(rng)
        holder = rng.choice(holders)
        key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        kind = rng.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[rng.choice(("", "x" * 2000, "\x1b", f"{key} ", str(key).upper()))] = holder.pop(key)
        elif kind == 2:
            other = rng.choice(holders)
            taken = rng.choice(list(other.values()) if isinstance(other, dict) else other) if other else None
            holder[key] = json.loads(json.dumps(taken))  # a copy: a tree has no cycles
        elif kind == 3 and isinstance(holder, list):
            holder *= rng.choice((2, 100))
        elif kind == 4:
            holder[key] = {"a": holder[key]} if rng.random() < 0.5 else [holder[key]]
        else:
            holder[key] = _odd(rng)
    return value


def _odd(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(ODD_VALUES))


def _holders(value: Any) -> Any:
    """Every dict and list of a tree that is not empty."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, dict | list) and one:
            yield one
            stack += one.values() if isinstance(one, dict) else one[:50]


def _written(rng: random.Random, value: Any) -> bytes:
    text = json.dumps(value)
    if rng.random() < 0.1 and (names := re.findall(r'"[^"\\]{1,30}": ', text)):  # a name that stands twice
        name = rng.choice(names)
        text = text.replace(name, f"{name}{rng.choice(('1', 'null', '[]'))}, {name}", 1)
    return text.encode()
