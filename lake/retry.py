"""Retry Delta commits that lost a race against another writer."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt

COMMIT_ATTEMPTS = 12

T = TypeVar("T")


def commit_with_retries(commit: Callable[[], T], is_lost_race: Callable[[BaseException], bool]) -> T:
    """Run `commit`, again after a growing pause where `is_lost_race` says that another writer won.

    Each attempt must read the table anew. Raises what the last attempt raised.
    """
    retrying = Retrying(
        retry=retry_if_exception(is_lost_race),
        stop=stop_after_attempt(COMMIT_ATTEMPTS),
        # The spread grows with the pause, so that writers which collided do not stay in step
        wait=lambda state: random.uniform(0.05, 0.3) * state.attempt_number,
        reraise=True,
    )
    return retrying(commit)
