"""A table as a value, and its two plain renderings; the page's template renders the same value as HTML."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.text import markdown, printable, shortened

if TYPE_CHECKING:
    from rich.table import Table as RichTable

LONGEST_NAME = 60
"""Characters of a row's name in the terminal; files have all of them."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell, and what qualifies it: on the page below it, elsewhere behind it in brackets."""

    text: str
    below: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below a head. The first ``left`` columns name the row and stand on the left.

    Of the first ``bare`` columns only the page shows what qualifies a cell: elsewhere they would be too wide.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    left: int = 1
    bare: int = 1

    def texts(self, row: Sequence[Cell]) -> list[str]:
        """A row for readers of one line per row."""
        return [f"{cell.text} ({cell.below})" if cell.below and at >= self.bare else cell.text for at, cell in enumerate(row)]

    def to_markdown(self) -> str:
        """The table without its caption; nothing in a cell is markup."""
        dashes = ["---"] * self.left + ["---:"] * (len(self.head) - self.left)
        rows = [[markdown(text) for text in texts] for texts in (self.head, *map(self.texts, self.rows))]
        return "\n".join("| " + " | ".join(line) + " |" for line in (rows[0], dashes, *rows[1:]))

    def to_terminal(self, titled: bool = False) -> "RichTable":
        """The table for rich, with its caption above it if ``titled``; nothing in a cell is markup."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as RichTable
        from rich.text import Text

        shown = RichTable(box=SIMPLE_HEAD, pad_edge=False, title=Text(self.caption) if titled else None, title_justify="left")
        for at, name in enumerate(self.head):
            head = Text(printable(name).replace(" (", "\n("))
            if at < self.left:
                shown.add_column(head, overflow="fold", min_width=8)
            else:
                shown.add_column(head, justify="right", overflow="fold", no_wrap=at < self.bare)
        for row in self.rows:
            texts = [
                shortened(printable(text), LONGEST_NAME) if at < self.left else text for at, text in enumerate(self.texts(row))
            ]
            shown.add_row(*(Text(printable(text)) for text in texts))
        return shown
