"""The exception tree: every class has the exit code that its docstring promises."""

import re

import pytest

from harness.core import errors
from harness.core.errors import ChunkMissing, ReadFailures, TtftError, known

CLASSES = [member for member in vars(errors).values() if isinstance(member, type) and issubclass(member, TtftError)]


def test_the_drawn_tree_is_the_real_one() -> None:
    """Class and exit code of each line of the module's docstring, and no class left out."""
    drawn = {name: int(code) for name, code in re.findall(r"^[│├└─ ]*(\w+) +(\d)(?: |$)", errors.__doc__ or "", re.MULTILINE)}
    assert drawn == {cls.__name__: cls.exit_code for cls in CLASSES}


def test_the_drawn_indentation_is_the_inheritance() -> None:
    stack: list[str] = []
    for indent, name in re.findall(r"^([│├└─ ]*)(\w+) +\d(?: |$)", errors.__doc__ or "", re.MULTILINE):
        del stack[len(indent) // 4 :]
        if stack:
            assert getattr(errors, name).__base__ is getattr(errors, stack[-1])
        stack.append(name)


def test_read_failures_say_which_and_why() -> None:
    error = ReadFailures({3: ChunkMissing("chunk a is not there"), 5: ChunkMissing("chunk b is not there")})
    assert set(error.failures) == {3, 5}
    assert str(error) == "2 of the reads failed, the first with: chunk a is not there"


@pytest.mark.parametrize(
    ("name", "names", "message"),
    [
        (
            "chunkwize",
            ["layerwise", "chunkwise"],
            "unknown engine 'chunkwize' (did you mean 'chunkwise'?); known: chunkwise, layerwise",
        ),
        ("zzz", ["layerwise", "chunkwise"], "unknown engine 'zzz'; known: chunkwise, layerwise"),
        ("zzz", [], "unknown engine 'zzz'; known: none"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(name: str, names: list[str], message: str) -> None:
    assert str(known("engine", name, names)) == message
