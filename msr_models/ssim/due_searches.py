"""Run the searches and scorings that a day still needs: scheduled searches, and those that drift makes due."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date

from msr_models.sets.schedule import Todo, next_todo
from msr_models.ssim.set_scoring import SetScoring
from schemas.dataset_spec import DatasetSpec
from schemas.pipeline_spec import SearchSpec

log = logging.getLogger(__name__)


def do_due_searches(dataset: DatasetSpec, ds: date, spec: SearchSpec, search: Callable[[date], object]) -> None:
    """Search and score, oldest first, until nothing is due before `ds` is trained (`schedule.needs_search` answers no).

    search(day): searches the window before `day` with the settings `spec` and publishes the set, accepted or not.
    """
    done: set[Todo] = set()
    while (decision := next_todo(dataset, ds, spec)).todo is not None:
        todo = decision.todo
        assert todo not in done, f"{todo} was done and is still due"
        done.add(todo)
        log.info(f"{ds}: {decision.reason}")
        if todo.shared_set is None:
            search(todo.day)
        else:
            SetScoring(dataset, todo.shared_set).complete_day(todo.day)
    log.info(f"{ds}: {decision.reason}: nothing more to search")
