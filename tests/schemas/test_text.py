"""Hints, digests and text tables."""

from __future__ import annotations

import hashlib
from datetime import date

from schemas.commands import command, day_options
from schemas.text import aligned_table, did_you_mean, markdown_table, short_digest


def test_a_hint_names_the_closest_name_or_nothing() -> None:
    assert did_you_mean("satr", ["star", "mmoe"]) == "did you mean 'star'?"
    assert did_you_mean("zzz", ["star", "mmoe"]) == ""
    assert did_you_mean("zzz", ["star"], otherwise="known: star") == "known: star"


def test_a_short_digest_is_the_beginning_of_sha256() -> None:
    assert short_digest("é", 8) == short_digest("é".encode(), 8) == hashlib.sha256("é".encode()).hexdigest()[:8]
    assert len(short_digest(b"")) == 16


def test_tables_are_aligned() -> None:
    rows = [("name", "rows"), ("a", "12"), ("longer", "")]
    assert aligned_table(rows) == ["name    rows", "a         12", "longer"]
    assert markdown_table(rows[0], rows[1:2]) == "| name | rows |\n| --- | --: |\n| a | 12 |\n"


def test_commands_are_written_as_they_are_called() -> None:
    days = [date(2026, 1, 3), date(2026, 1, 1)]
    assert day_options(days) == "--from 2026-01-01 --to 2026-01-03"
    assert (
        command("evaluate", "shop", day_options(days[:1])) == "python -m jobs.evaluate --dataset shop --ds 2026-01-03"
    )
