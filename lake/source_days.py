"""The days that a raw log has files for, from their names alone."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path

from schemas.dataset_spec import DatasetSpec

_DAY = r"(?P<day>\d{4}-\d{2}-\d{2})"


def source_days(dataset: DatasetSpec) -> set[date] | None:
    """Days with a file or folder at the source's path; None where they cannot be listed.

    That is a source whose path has no {ds}, a remote one, or a generated log without an end.
    """
    source, days = dataset.source, dataset.days
    if source.adapter == "generated":
        if days.end is None:
            return None
        return {days.start + timedelta(days=n) for n in range((days.end - days.start).days + 1)}
    path = source.path or ""
    if "{ds}" not in path or "://" in path:
        return None
    days_of: dict[Path, date | None] = {Path(Path(path).anchor or "."): None}
    for part in Path(path).relative_to(Path(path).anchor).parts:
        days_of = _children(days_of, part)
    return {day for day in days_of.values() if day is not None}


def _children(folders: dict[Path, date | None], part: str) -> dict[Path, date | None]:
    """Entries of `folders` (with the day in their path so far) that match one part of the source's path."""
    if not re.search(r"[*?{]", part):
        return {folder / part: day for folder, day in folders.items() if (folder / part).exists()}
    found: dict[Path, date | None] = {}
    for folder, day in folders.items():
        pattern = re.compile(_pattern(part, day))
        for child in sorted(folder.iterdir()) if folder.is_dir() else []:
            if match := pattern.fullmatch(child.name):
                found[child] = day or _parsed(match)
    return found


def _pattern(part: str, day: date | None) -> str:
    """A path's part as a regular expression: {ds} is the day, the same one throughout; * and ? as in a shell."""
    wildcards = re.escape(part).replace(r"\*", ".*").replace(r"\?", ".")
    first, *rest = wildcards.split(re.escape("{ds}"))
    again = str(day) if day else r"(?P=day)"
    return first + "".join((again if day or n else _DAY) + text for n, text in enumerate(rest))


def _parsed(match: re.Match[str]) -> date | None:
    try:
        return date.fromisoformat(match["day"]) if "day" in match.re.groupindex else None
    except ValueError:
        return None
