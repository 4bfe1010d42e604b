"""Which shared set a day may use."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from msr_models.data.shared_sets import find_shared_set, get_shared_set
from schemas.errors import SharedSetError
from tests.support.tiny_lake import tiny_dataset, write_shared_set

D = [date(2026, 1, d) for d in range(1, 11)]


def test_a_day_sees_the_newest_accepted_set_that_ends_before_it(lake: Path) -> None:
    spec = tiny_dataset()
    assert find_shared_set(spec, D[9]) is None
    write_shared_set(spec, "early", (D[0], D[3]))
    write_shared_set(spec, "late", (D[1], D[5]))
    write_shared_set(spec, "bad", (D[1], D[6]), status="rejected")
    write_shared_set(spec, "old", (D[1], D[6]), status="retired")
    write_shared_set(spec, "foreign", (D[1], D[6]), vocabulary_version="20260101-00000000")
    found = [find_shared_set(spec, ds) for ds in D]
    assert [s.shared_set_id if s else None for s in found] == [None] * 4 + ["early"] * 2 + ["late"] * 4


def test_asking_for_a_set_by_name(lake: Path) -> None:
    spec = tiny_dataset()
    with pytest.raises(SharedSetError, match=r"'set' is not in .*search_shared_instances"):
        get_shared_set(spec, "set")
    write_shared_set(spec, "set", (D[0], D[3]))
    write_shared_set(spec, "bad", (D[0], D[3]), status="rejected")
    write_shared_set(spec, "foreign", (D[0], D[3]), vocabulary_version="20260101-00000000")
    assert get_shared_set(spec, "set", D[4]).window_end == D[3]
    with pytest.raises(SharedSetError, match=r"days up to 2026-01-04, which 2026-01-04 must not see"):
        get_shared_set(spec, "set", D[3])
    with pytest.raises(SharedSetError, match=r"bad was rejected \(test\)"):
        get_shared_set(spec, "bad", D[4])
    with pytest.raises(SharedSetError, match=rf"00000000.*{spec.lineage}"):
        get_shared_set(spec, "foreign", D[4])
    with pytest.raises(SharedSetError, match=r"known: .*set"):
        get_shared_set(spec, "none", D[4])
