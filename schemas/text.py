"""Text for readers: hints, short digests, aligned and Markdown tables."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Sequence


def did_you_mean(value: str, known: Iterable[str], otherwise: str = "") -> str:
    """`did you mean 'x'?` for the closest of `known`; `otherwise` where none is close."""
    close = difflib.get_close_matches(value, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise


def short_digest(content: str | bytes, length: int = 16) -> str:
    """The first `length` hex digits of the SHA-256 of `content` (texts as UTF-8)."""
    data = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()[:length]


def aligned_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(c.rjust(w) if n else c.ljust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, each row a line: the first column to the left, the others to the right."""
    lines = [columns, ["---", *("--:" for _ in columns[1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
