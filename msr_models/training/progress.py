"""Progress of an epoch: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

LINE_EVERY_SECONDS = 30.0


class EpochProgress:
    """Rows done of one epoch. `say` gets a line every LINE_EVERY_SECONDS where stderr is no terminal."""

    def __init__(self, title: str, num_rows: int, done_rows: int, say: Callable[[str], None]) -> None:
        self.title, self.num_rows, self.done, self.say = title, num_rows, done_rows, say
        self._begun, self._begun_at, self._said = time.perf_counter(), done_rows, time.perf_counter()
        is_log = not sys.stderr.isatty()
        self._bar = tqdm(total=num_rows, initial=done_rows, desc=title, unit="row", leave=False, disable=is_log)

    def advance(self, rows: int) -> None:
        """`rows` more are done."""
        self.done += rows
        self._bar.update(rows)
        now = time.perf_counter()
        if self._bar.disable and now - self._said >= LINE_EVERY_SECONDS:
            self._said = now
            rate = (self.done - self._begun_at) / (now - self._begun)
            left = (self.num_rows - self.done) / rate
            self.say(f"{self.title}: {self.done / self.num_rows:.0%}, {rate:,.0f} rows/s, {left:,.0f} s left")

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()
