"""Which shared set a day may use."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from msr_models.sets.catalogue import find_shared_set, read_catalogue
from schemas.errors import SharedSetError
from tests.support.set_tables import write_pin
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


OTHER = tiny_dataset().search.model_copy(update={"seed": 7}).model_dump_json()


@pytest.mark.parametrize(
    ("used", "other"),
    [
        ({"set": "a"}, {"set": "b", "config": OTHER}),
        ({"set": "a", "start": D[0]}, {"set": "b", "config": OTHER, "start": D[1]}),
        ({"set": "a", "start": D[1]}, {"set": "b", "start": D[0]}),
        ({"set": "a", "features_version": 10}, {"set": "b", "features_version": 9}),
        ({"set": "b"}, {"set": "a"}),
        ({"set": "b", "config": OTHER}, {"set": "a", "config": OTHER}),
    ],
    ids=["settings", "settings before start", "start", "corrected features", "id", "id among others"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_of_sets_of_one_window_end_the_one_that_the_yaml_describes_is_used(
    lake: Path, used: dict[str, Any], other: dict[str, Any], turned: bool
) -> None:
    """Whatever their names and whichever was searched first."""
    spec = tiny_dataset()
    for known in (used, other)[:: -1 if turned else 1]:
        facts = dict(known)
        write_shared_set(spec, facts.pop("set"), (facts.pop("start", D[1]), D[3]), **facts)
    found = find_shared_set(spec, D[4])
    assert found is not None and found.shared_set_id == used["set"]
    write_pin(spec, D[4], other["set"])
    pinned = find_shared_set(spec, D[4])
    assert pinned is not None and pinned.shared_set_id == other["set"]


def test_a_pinned_set_is_used_from_its_day_on_until_the_pin_ends(lake: Path) -> None:
    spec = tiny_dataset()
    write_shared_set(spec, "early", (D[0], D[1]))
    write_shared_set(spec, "middle", (D[0], D[3]))
    write_shared_set(spec, "late", (D[1], D[4]))
    write_pin(spec, D[8], "middle")
    write_pin(spec, D[6], "early")
    write_pin(spec, D[7], None)
    found = [find_shared_set(spec, ds) for ds in D]
    expected = [None, None, "early", "early", "middle", "late", "early", "late", "middle", "middle"]
    assert [s.shared_set_id if s else None for s in found] == expected


@pytest.mark.parametrize(
    ("window_end", "changes", "reason"),
    [
        (D[2], {"status": "retired"}, r"was retired \(test\)"),
        (D[6], {}, "must not see"),
        (D[2], {"vocabulary_version": "20260101-00000000"}, "lineage '00000000'"),
    ],
)
def test_a_pinned_set_that_cannot_be_used_stops_its_days_alone(
    lake: Path, window_end: date, changes: dict[str, Any], reason: str
) -> None:
    """No other set is used silently in place of a pinned one."""
    spec = tiny_dataset()
    write_shared_set(spec, "other", (D[0], D[1]))
    write_shared_set(spec, "set", (D[0], window_end), **changes)
    write_pin(spec, D[5], "set")
    with pytest.raises(SharedSetError, match=rf"2026-01-06 cannot use .*{reason}.*unpin --from 2026-01-06"):
        find_shared_set(spec, D[5])
    earlier = find_shared_set(spec, D[2])
    assert earlier is not None and earlier.shared_set_id == "other"


def test_a_set_that_is_named_is_checked(lake: Path) -> None:
    spec = tiny_dataset()
    with pytest.raises(SharedSetError, match=r"'set' is not in .*search_shared_instances --dataset tiny"):
        read_catalogue(spec).get("set")
    write_shared_set(spec, "set", (D[0], D[3]))
    write_shared_set(spec, "bad", (D[0], D[3]), status="rejected")
    write_shared_set(spec, "old", (D[0], D[3]), status="retired")
    write_shared_set(spec, "foreign", (D[0], D[3]), vocabulary_version="20260101-00000000")
    assert read_catalogue(spec).get("set", D[4]).last_day == D[3]
    with pytest.raises(SharedSetError, match=r"days up to 2026-01-04, which 2026-01-04 must not see.* list"):
        read_catalogue(spec).get("set", D[3])
    with pytest.raises(SharedSetError, match=r"bad was rejected \(test\).*jobs.shared_sets --dataset tiny list"):
        read_catalogue(spec).get("bad", D[4])
    with pytest.raises(SharedSetError, match=r"old was retired \(test\)"):
        read_catalogue(spec).get("old", D[4])
    search = "search_shared_instances --dataset tiny --ds 2026-01-05"
    with pytest.raises(SharedSetError, match=rf"'tiny'.*00000000.*'tiny'.*{spec.lineage}.*{search}"):
        read_catalogue(spec).get("foreign", D[4])
    with pytest.raises(SharedSetError, match=r"known: .*set"):
        read_catalogue(spec).get("none", D[4])


def test_a_set_of_another_data_set_is_named_with_both(lake: Path) -> None:
    """A lake's folder that was copied under another name."""
    spec = tiny_dataset()
    write_shared_set(tiny_dataset("elsewhere"), "set", (D[0], D[3]))
    (lake / "elsewhere").rename(lake / "tiny")
    assert find_shared_set(spec, D[4]) is None
    with pytest.raises(SharedSetError, match=r"searched in 'elsewhere'.*data set 'tiny'.*search_shared_instances"):
        read_catalogue(spec).get("set", D[4])
