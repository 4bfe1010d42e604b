"""Copies batches to a device, two ahead of their consumer."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Generator, Iterator
from dataclasses import fields, replace
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from msr_models.data.batch import Batch

AHEAD = 2
# What the thread hands over: a batch and the end of its copy, an exception, or None at the end.
_Item = tuple[Batch, torch.cuda.Event] | BaseException | None


class Prefetch(Iterator[Batch]):
    """Batches of `source` on `device`, in order.

    On a GPU a thread pins each batch and copies it on a stream of its own while the device computes. Elsewhere, and
    where they are on the device already, they pass through. An exception of `source` reaches the consumer.
    Leaving the context, `close`, or dropping the iterator ends the thread and closes `source`.
    """

    def __init__(self, source: Iterator[Batch], device: torch.device | str) -> None:
        self._device = torch.device(device)
        self._source = source
        self._queue: queue.Queue[_Item] | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        if self._device.type == "cuda":
            self._queue = queue.Queue(AHEAD)
            arguments = (source, self._device, self._queue, self._stop)
            # The thread knows nothing of self: an iterator that is dropped can be collected, which stops it.
            self._thread = threading.Thread(target=_copy_all, args=arguments, name="prefetch", daemon=True)
            weakref.finalize(self, self._stop.set)
            self._thread.start()

    def __next__(self) -> Batch:
        return next(self._source).to(self._device) if self._queue is None else self._next_copied(self._queue)

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread and close the source; further batches raise StopIteration."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        else:
            _close(self._source)
        self._queue, self._source = None, iter(())

    def _next_copied(self, copied: queue.Queue[_Item]) -> Batch:
        item = copied.get()
        if item is None or isinstance(item, BaseException):
            self.close()
            raise StopIteration if item is None else item
        batch, done = item
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(done)
        for tensor in _tensors(batch).values():
            # Its memory belongs to the copying stream, which must not reuse it while this one computes.
            tensor.record_stream(stream)
        return batch


def _copy_all(source: Iterator[Batch], device: torch.device, copied: queue.Queue[_Item], stop: threading.Event) -> None:
    try:
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # untyped in torch, as events are
        for batch in source:
            with torch.cuda.stream(stream):
                on_device = batch if batch.label_B.device.type == "cuda" else _pinned(batch).to(device)
                done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # untyped in torch
                done.record(stream)
            if not _put(copied, (on_device, done), stop):
                break
        else:
            _put(copied, None, stop)
    except BaseException as error:  # raised again in the consumer
        _put(copied, error, stop)
    finally:
        _close(source)


def _put(copied: queue.Queue[_Item], item: _Item, stop: threading.Event) -> bool:
    """Wait for room; False where nobody takes batches any more."""
    while not stop.is_set():
        try:
            copied.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False


def _tensors(batch: Batch) -> dict[str, Tensor]:
    return {f.name: value for f in fields(batch) if isinstance(value := getattr(batch, f.name), Tensor)}


def _pinned(batch: Batch) -> Batch:
    pinned: dict[str, Any] = {name: tensor.pin_memory() for name, tensor in _tensors(batch).items()}
    return replace(batch, **pinned)


def _close(source: Iterator[Batch]) -> None:
    if isinstance(source, Generator):
        source.close()
