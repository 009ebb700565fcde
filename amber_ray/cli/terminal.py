"""What the command says and where: answers on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDE = 200


def say(text: str) -> None:
    """One line of the answer."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """One line beside the answer."""
    sys.stderr.write(text + "\n")


def write_bytes(data: bytes) -> None:
    """Binary output, past the text layer."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def console() -> Console:
    """The answer's console; wide when it is not a terminal, so that `grep` sees whole rows."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, soft_wrap=False)


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table; a column whose name begins with ">" is aligned to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        made.add_column(
            column.removeprefix(">"), justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    return made


def cell(text: object) -> str:
    """Any text as a table cell: square brackets are not markup."""
    from rich.markup import escape

    return escape(str(text))


def count(number: int, noun: str) -> str:
    """`1 value`, `2,000 values`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def seconds(value: float | None) -> str:
    """A duration for people."""
    if value is None:
        return ""
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"
