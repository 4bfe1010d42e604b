"""Retry Delta commits that lost a race against another writer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_incrementing, wait_random

COMMIT_ATTEMPTS = 12

T = TypeVar("T")


def commit_with_retries(commit: Callable[[], T], is_lost_race: Callable[[BaseException], bool]) -> T:
    """Run `commit`, again after a growing pause where `is_lost_race` says that another writer won.

    Each attempt must read the table anew. Raises what the last attempt raised.
    """
    retrying = Retrying(
        retry=retry_if_exception(is_lost_race),
        stop=stop_after_attempt(COMMIT_ATTEMPTS),
        wait=wait_incrementing(start=0.05, increment=0.15) + wait_random(0, 0.2),
        reraise=True,
    )
    return retrying(commit)
