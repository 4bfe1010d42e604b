"""Progress of an epoch: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time

from tqdm import tqdm

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 30.0


class EpochProgress:
    """Rows done of one epoch; logged every LINE_EVERY_SECONDS where stderr is no terminal; nothing below level INFO."""

    def __init__(self, title: str, num_rows: int, done_rows: int) -> None:
        self.title, self.num_rows, self.done = title, num_rows, done_rows
        self._started, self._started_at, self._logged = time.perf_counter(), done_rows, time.perf_counter()
        is_log = not sys.stderr.isatty() or not log.isEnabledFor(logging.INFO)
        self._bar = tqdm(total=num_rows, initial=done_rows, desc=title, unit="row", leave=False, disable=is_log)

    def advance(self, rows: int) -> None:
        """`rows` more are done."""
        self.done += rows
        self._bar.update(rows)
        now = time.perf_counter()
        if self._bar.disable and now - self._logged >= LINE_EVERY_SECONDS:
            self._logged = now
            rate = (self.done - self._started_at) / (now - self._started)
            left = (self.num_rows - self.done) / rate
            log.info(f"{self.title}: {self.done / self.num_rows:.0%}, {rate:,.0f} rows/s, {left:,.0f} s left")

    def close(self) -> None:
        self._bar.close()
