"""A user whose rows were erased and must not come back: a salted digest of the id, never the id."""

import hashlib
from dataclasses import dataclass
from typing import Annotated, ClassVar

from schemas.table_spec import Doc, Row, TableSpec, columns_of

# Why records of such users are refused
REASON = "forgotten_user"


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgottenUser(Row):
    """A row of `forgotten_users`."""

    table: ClassVar[str] = "forgotten_users"

    digest: Annotated[str, Doc("hex SHA-256 of salt and user id")]
    salt: Annotated[str, Doc("random, one for all users of the data set", volatile=True)]


def user_digest(salt: str, user: str) -> str:
    """The digest of a user's id."""
    return hashlib.sha256((salt + user).encode()).hexdigest()


TABLE = TableSpec(
    name="forgotten_users",
    doc=__doc__,
    row=ForgottenUser,
    columns=columns_of(ForgottenUser),
    written_by="forget_user",
    keys=("digest",),
    partition_by=(),
)
