"""The named errors of the pipeline.

Every message names the value, the place and the remedy. Command lines print it as one line and exit with 2
(`AuditFailedError`: 3); an exception that is none of these is a bug and keeps its traceback.
"""


class MsrError(Exception):
    """Base of every error that a user can cause and fix."""


class DatasetSpecError(MsrError):
    """A data set's YAML is missing, unreadable or invalid."""


class SourceError(MsrError):
    """The raw log is missing, unreadable, empty or lacks a column."""


class TableError(MsrError):
    """A frame does not fit its TableSpec, or a table or one of its days is missing."""


class AuditFailedError(MsrError):
    """An expectation of severity `fail` is violated: nothing of the day was published."""


class SharedSetError(MsrError):
    """A shared-instance set is missing, incompatible, incomplete or was rejected."""


class TrainingError(MsrError):
    """Training cannot start or continue: window, labels, options, checkpoint or loss."""
