"""Building blocks of the page: escaped text, tables, figures, notes. Everything inline: one file, no requests."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

CSS = Path(__file__).with_name("page.css")
MISSING = "–"


def number(value: float | None, digits: int = 4) -> str:
    """A number with fixed digits; a dash for None."""
    return MISSING if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """A difference with its sign."""
    return MISSING if value is None else f"{value:+.{digits}f}"


def percent(value: float | None) -> str:
    """A rate in percent."""
    return MISSING if value is None else f"{100 * value:.1f} %"


def difference(left: float | None, right: float | None) -> float | None:
    """left - right, None where either is."""
    return None if left is None or right is None else left - right


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str, words: Sequence[int] = ()) -> str:
    """A table of texts (escaped here); `words` are columns that may wrap and stand to the left."""
    css = [' class="words"' if n in words else "" for n in range(len(head))]
    top = "".join(f'<th scope="col"{css[n]}>{escape(name)}</th>' for n, name in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{css[n]}>{escape(cell)}</td>" for n, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def folded(summary: str, body: str) -> str:
    """Something to open on demand."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def figure(picture: str | None, instead: str) -> str:
    """A figure, or a note that says why there is none."""
    return note(instead) if picture is None else f"<figure>{picture}</figure>"


def note(words: str) -> str:
    """A quiet remark."""
    return f'<p class="note">{escape(words)}</p>'


def warning(words: str) -> str:
    """A remark not to be missed."""
    return f'<p class="warn">{escape(words)}</p>'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Tiles of name and value."""
    tiles = "".join(
        f"<div><dt>{escape(name)}</dt><dd{' class=long' if len(value) > 22 else ''}>{escape(value)}</dd></div>"
        for name, value in pairs
    )
    return f'<dl class="facts">{tiles}</dl>'


def page(title: str, body: str) -> str:
    """The whole document with its style inside."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{CSS.read_text(encoding='utf-8')}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )
