"""StreamedRows: training data that does not fit into memory, shuffled through buckets on disk.

Once per training the rows are read from Delta piece by piece, and each is written to one of P buckets drawn by a hash
of (seed, ds, instance_id): nothing depends on how files lie. In an epoch the buckets come in an order of (seed, epoch),
each is loaded while the one before it trains, permuted by another hash, and batches run on over the buckets' borders.
How a row lies in its bucket: spill.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.gather import gather_behaviours, take
from msr_models.data.memory import require_streamable
from msr_models.data.reader import WindowFacts, WindowReader
from msr_models.data.source import TrainingData, of_all_negatives
from msr_models.data.spill import (
    END,
    KEY,
    LABEL,
    RANK,
    SCENARIO,
    START,
    TAIL_WORDS,
    WORD,
    Spill,
    hashed,
    words,
    write_buckets,
)
from msr_models.sets.masks import at_ratio
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.pipeline_spec import RankScope

# Rows of a bucket, on average. It decides the order of rows, so it must not depend on the machine's memory.
BUCKET_ROWS = 1_000_000


class StreamedRows(TrainingData):
    """All rows of some days, in batches on the CPU. A context manager: leaving it removes the buckets."""

    def __init__(self, spill: Spill, ratio: float | None = None) -> None:
        self.spill = spill
        self._ratio = ratio

    def __enter__(self) -> StreamedRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the buckets, also those of `with_ratio`'s other views of them."""
        self.spill.folder.cleanup()

    @property
    def facts(self) -> WindowFacts:
        """Layout, versions and fingerprints: equal to those of a `Window` of the same days."""
        return self.spill.facts

    @property
    def num_rows(self) -> int:
        return sum(self.spill.rows_P)

    @property
    def num_scenarios(self) -> int:
        return len(self.spill.scenario_names)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def negatives_kept(self) -> tuple[float, ...] | None:
        return self.spill.negatives_kept

    def with_ratio(self, ratio: float) -> StreamedRows:
        """The same buckets with the rows shared at this ratio, as in `Window.with_ratio`."""
        return StreamedRows(self.spill, ratio)

    def require_both_labels(self) -> None:
        positives = int(self.spill.tally.labels_K2[:, 1].sum())
        if positives in (0, self.num_rows):
            raise TrainingError(
                f"all {self.num_rows} labels of {self.spill.place} are {0 if positives == 0 else 1}: "
                "nothing can be learned; check columns.label of the data set, or take more days"
            )

    def label_counts(self) -> tuple[Tensor, Tensor]:
        counts_K2 = torch.from_numpy(self.spill.tally.labels_K2)
        return counts_K2.sum(1), counts_K2[:, 1]

    def further_counts(self) -> Tensor:
        return self.spill.tally.further_J2K

    def label_weights(self) -> tuple[Tensor, Tensor]:
        sums_K2 = torch.from_numpy(self.spill.tally.weights_K2)
        return of_all_negatives(sums_K2.sum(1), sums_K2[:, 1], self.negatives_kept)

    def batches(
        self, batch_size: int, seed: int, epoch: int, *, first_batch: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Buckets before `first_batch` are not read."""
        pieces: list[Tensor] = []
        filled = 0
        for rows_NW, order_N in self._buckets(seed, epoch, first_batch * batch_size):
            at = 0
            while at < len(order_N):
                taken = min(batch_size - filled, len(order_N) - at)
                # Row i of the global batch is this process's where i % world == rank.
                mine = order_N[at : at + taken][(rank - filled) % world :: world]
                pieces.append(take(rows_NW, mine))
                at, filled = at + taken, filled + taken
                if filled == batch_size:
                    yield self._batch(pieces)
                    pieces, filled = [], 0
            del rows_NW, order_N  # not to hold three buckets when the next one comes
        if filled:
            yield self._batch(pieces)

    def _buckets(self, seed: int, epoch: int, skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(rows, the order they come in) of each bucket in the epoch's order, without the first `skip` rows."""
        order_P = np.random.default_rng([seed, epoch]).permutation(len(self.spill.rows_P)).tolist()
        wanted: list[tuple[int, int]] = []  # (bucket, rows of it to skip)
        for bucket in order_P:
            rows = self.spill.rows_P[bucket]
            if skip < rows:
                wanted.append((bucket, skip))
            skip = max(0, skip - rows)
        thread = ThreadPoolExecutor(1, "bucket")
        try:
            coming = [thread.submit(self._load, *wanted[0], seed, epoch)] if wanted else []
            for following in (*wanted[1:], None):
                if not coming:
                    return
                ready = coming.pop().result()
                # Submitted before this one trains, so that reading hides behind training.
                if following is not None:
                    coming.append(thread.submit(self._load, *following, seed, epoch))
                yield ready
                del ready
        finally:
            thread.shutdown(cancel_futures=True)

    def _load(self, bucket: int, skip: int, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        rows_NW = self.spill.load(bucket)
        keys_N = words(rows_NW, self.spill.num_slots + KEY, np.uint64)
        order_N = np.argsort(hashed(keys_N, seed, epoch))
        return rows_NW, torch.from_numpy(order_N[skip:])

    def _batch(self, pieces: Sequence[Tensor]) -> Batch:
        rows_BW = pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))
        slots = self.spill.num_slots
        start_B, end_B = (torch.from_numpy(words(rows_BW, slots + at, np.int64)) for at in (START, END))
        shared_B = torch.zeros(len(rows_BW), dtype=torch.bool)
        if self._ratio is not None and self.spill.has_ranks:
            shared_B = torch.from_numpy(at_ratio(words(rows_BW, slots + RANK, np.float64), self._ratio))
        spill, length = self.spill, self.facts.layout.hist_length
        behind = rows_BW[:, slots + TAIL_WORDS :].contiguous().view(torch.float32)
        widths = [spill.num_further, spill.num_dense, int(spill.has_weights)]
        further, dense, weight = torch.split(behind, widths, dim=1)
        ids_BLA, scenario_BL = gather_behaviours(spill.hist_ids_HA, spill.hist_scenario_H, start_B, end_B, length)
        return Batch(
            slot_ids_BS=rows_BW[:, :slots].contiguous(),
            hist_ids_BLA=ids_BLA,
            hist_scenario_BL=scenario_BL,
            scenario_B=rows_BW[:, slots + SCENARIO].long(),
            label_B=torch.from_numpy(words(rows_BW, slots + LABEL, np.float32)),
            shared_B=shared_B,
            further_BJ=further if further.shape[1] else None,
            dense_BZ=dense if spill.num_dense else None,
            weight_B=weight.flatten() if spill.has_weights else None,
        )


def open_streamed_rows(
    dataset: DatasetSpec,
    days: Sequence[date],
    *,
    seed: int,
    shared_set_id: str | None = None,
    rank_scope: RankScope = "global",
    versions: Mapping[str, int] | None = None,
    known_on: date | None = None,
    folder: Path | None = None,
    memory_gb: float | None = None,
    bucket_rows: int = BUCKET_ROWS,
    negatives_kept: tuple[float, ...] | None = None,
) -> StreamedRows:
    """Write the rows of `days` into buckets in a temporary directory of `folder` (default: TMPDIR).

    known_on: as of `load_window`; negatives_kept: the share of each scenario's negatives to keep. The order of batches
    depends on seed and bucket_rows beside the rows. Raises what `load_window` raises, and TrainingError where two
    buckets do not fit into memory or all of them not onto the disk.
    """
    made = tempfile.TemporaryDirectory(prefix="msr-rows-", dir=folder, ignore_cleanup_errors=True)
    try:
        reader = WindowReader(
            dataset,
            days,
            lambda name, shape, dtype: np.memmap(Path(made.name) / name, dtype=dtype, mode="w+", shape=shape),
            shared_set_id=shared_set_id,
            rank_scope=rank_scope,
            versions=versions,
            known_on=known_on,
        )
        behind = reader.num_further + reader.num_dense + dataset.has_weights
        row_bytes = (reader.num_slots + TAIL_WORDS + behind) * WORD
        num_buckets = max(1, -(-reader.num_rows // bucket_rows))
        require_streamable(
            Path(made.name),
            disk_bytes=reader.num_rows * row_bytes + reader.histories.num_bytes,
            bucket_bytes=-(-reader.num_rows // num_buckets) * (row_bytes + 24),
            memory_gb=memory_gb,
        )
        rows_P, tally = write_buckets(reader, made, num_buckets, seed, negatives_kept)
        return StreamedRows(
            Spill(
                folder=made,
                facts=reader.finish(),
                place=f"{dataset.name} in {reader.days[0]} .. {reader.days[-1]}",
                scenario_names=dataset.scenario.names,
                num_slots=reader.num_slots,
                num_further=reader.num_further,
                num_dense=reader.num_dense,
                has_ranks=reader.has_ranks,
                has_weights=dataset.has_weights,
                rows_P=rows_P,
                tally=tally,
                hist_ids_HA=torch.from_numpy(reader.histories.ids_HA),
                hist_scenario_H=torch.from_numpy(reader.histories.scenario_H),
                negatives_kept=negatives_kept,
            )
        )
    except BaseException:  # also on Ctrl-C: the buckets lie on disk
        made.cleanup()
        raise
