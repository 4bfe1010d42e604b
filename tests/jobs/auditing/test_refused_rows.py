"""What a day with too many refused rows says: counts, the likely cause, the remedy, examples."""

from __future__ import annotations

import re

import pytest

from jobs.auditing.refused_rows import Refused, describe_refused, too_many_refused
from schemas.dataset_spec import DatasetSpec
from tests.support.own_log import spec

OWN = DatasetSpec.model_validate(spec(audit={"max_refused_share": 0.05}))


@pytest.mark.parametrize(
    ("reason", "details", "cause"),
    [
        ("time_outside_day", [("at=2026-03-01T23:00:00", 9)], r"another time zone \(days\.time_zone\).*T23:00:00' \(9"),
        ("bad_time", [("at=03/01/2026", 9)], r"columns\.event_time\.format 'iso' does not fit '03/01/2026' \(9 rows\)"),
        ("bad_number", [("paid=2,5", 9)], r"a decimal comma: write numbers with a point; found '2,5'"),
        ("bad_number", [("paid=cheap", 9)], r"no numbers: found 'cheap'"),
        (
            "unknown_scenario",
            [("where=Web ", 7), ("where=tv", 2)],
            r"case or spelling of the scenarios: where has",
        ),
        ("unknown_scenario", [("where=tv", 9)], r"scenario\.values lacks values of the log: .*'tv' \(9 rows\)"),
        ("bad_label", [("liked=Y", 9)], r"liked must be 0 or 1, or set columns\.label\.threshold; found 'Y'"),
        ("bad_weight", [("w=-1", 9)], r"must be a finite number >= 0 \(columns\.weight\); found '-1' \(9 rows\)"),
        ("duplicate", [("natural key {}", 9)], r"\(who, what, at\) does not identify a row: .*columns\.natural_key"),
        ("null_user", [("who=null", 9)], r"column who is empty: is it the right one in columns\.user\?"),
        ("unreadable_record", [("x", 9)], r"source\.format, source\.delimiter or source\.header"),
        ("some_new_reason", [("x=1", 9)], r"some_new_reason: found '1' \(9 rows\)"),
    ],
)
def test_the_likely_cause_is_named(reason: str, details: list[tuple[str, int]], cause: str) -> None:
    refused = Refused(rows_in=10, reasons={reason: 9}, details={reason: details}, examples=['{"a":1}', "x" * 500])
    text = describe_refused(refused, OWN)
    head = (
        rf"^9 of 10 rows were refused \(90\.0%\), more than audit\.max_refused_share 0\.05: {reason} 9\. Likely cause: "
    )
    rest = rf"{reason}: .*Fix that, or raise audit\.max_refused_share.* Examples of {reason}: "
    assert re.search(head, text) and re.search(cause, text) and re.search(rest, text), text
    assert '{"a":1} ; xxx' in text and len(text) < 1000


def test_more_than_the_share_is_too_many() -> None:
    assert not too_many_refused(40, {"bad_time": 1, "duplicate": 1}, OWN)
    assert too_many_refused(40, {"bad_time": 1, "duplicate": 2}, OWN)
    assert not too_many_refused(10, {"bad_time": 10}, DatasetSpec.model_validate(spec()))
