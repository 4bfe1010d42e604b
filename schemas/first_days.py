"""The first days that features, a search and training can have, and the keys of the YAML that decide them."""

from __future__ import annotations

from datetime import date, timedelta

from schemas.dataset_spec import DatasetSpec


def first_training_day(dataset: DatasetSpec) -> date:
    """The first day D that is trained: all `training.window_days` days before it have features."""
    return dataset.first_feature_day + timedelta(days=dataset.training.window_days)


def first_search_day(dataset: DatasetSpec) -> date:
    """The first scheduled search: the days before it fill both windows."""
    windows = dataset.search.window_days, dataset.training.window_days
    return dataset.first_feature_day + timedelta(days=max(windows))


def why_no_window(dataset: DatasetSpec, ds: date, block: str, window_days: int) -> str:
    """Why the `window_days` days before `ds` are no full window, the first day that has one, and what decides it.

    block: `training` or `search`, the YAML's block that holds window_days.
    """
    first_feature = dataset.first_feature_day
    first = first_feature + timedelta(days=window_days)
    window = f"{ds - timedelta(days=window_days)} .. {ds - timedelta(days=1)}"
    why = (
        f"the {window_days} days before it ({window}) do not all have features; the first day with a full window is "
        f"{first} = days.start {dataset.days.start} + vocabulary.fit_days {dataset.vocabulary.fit_days} + "
        f"{block}.window_days {window_days}"
    )
    end = dataset.days.end
    if end is None or end >= first:
        return why
    return f"{why}, and the data set ends {end}: deliver {_more_days(first - end)} or lower {block}.window_days"


def what_is_missing(dataset: DatasetSpec, log_end: date) -> str | None:
    """What a log that ends on `log_end` lacks until its first training day; None where that day is there."""
    first = first_training_day(dataset)
    if log_end >= first:
        return None
    return (
        f"the log is too short: the first training day is {first}; the log ends {log_end}: deliver "
        f"{_more_days(first - log_end)}, or lower training.window_days ({dataset.training.window_days}) or "
        f"vocabulary.fit_days ({dataset.vocabulary.fit_days})"
    )


def _more_days(gap: timedelta) -> str:
    return f"{gap.days} more day{'' if gap.days == 1 else 's'}"
