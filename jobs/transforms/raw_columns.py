"""The columns of a raw log: those that adapters add, and those that the data set's YAML names."""

from __future__ import annotations

from schemas.dataset_spec import DatasetSpec

# Columns that adapters add to the log's own.
SOURCE = "_source"  # file or generator
REFUSED_REASON = "_refused_reason"  # null, or why the adapter could not read the row
REFUSED_DETAIL = "_refused_detail"
CLICK_PROBABILITY = "_click_probability"  # generated log only
IS_SHAREABLE = "_is_shareable"
ADAPTER_COLUMNS = (SOURCE, REFUSED_REASON, REFUSED_DETAIL, CLICK_PROBABILITY, IS_SHAREABLE)


def required_columns(dataset: DatasetSpec) -> list[str]:
    """Distinct columns of the log that the data set's YAML names, in order."""
    columns = dataset.columns
    names = [columns.event_time.column, columns.user, columns.item, columns.label.column, dataset.scenario.column]
    names += [further.column for further in columns.further_labels.values()]
    names += [name for name in (columns.value, columns.session) if name]
    names += [*columns.natural_key, *(field.source for field in dataset.fields)]
    return list(dict.fromkeys(names))


def id_columns(dataset: DatasetSpec) -> list[str]:
    """Columns of the log whose values are ids, compared as text: floating-point numbers are none."""
    columns = dataset.columns
    names = [columns.user, columns.item, *([columns.session] if columns.session else [])]
    names += [dataset.scenario.column] if dataset.scenario.values else []
    names += [field.source for field in dataset.fields if field.kind != "numeric"]
    names += [name for name in columns.natural_key if name != columns.event_time.column]
    return list(dict.fromkeys(names))


def nullable_columns(dataset: DatasetSpec) -> list[str]:
    """Columns that a file may lack: fields, `value` and `session`, where they make up nothing else of the row."""
    columns = dataset.columns
    needed = {columns.event_time.column, columns.user, columns.item, columns.label.column, dataset.scenario.column}
    needed |= {*columns.natural_key, *(further.column for further in columns.further_labels.values())}
    return [name for name in required_columns(dataset) if name not in needed]
