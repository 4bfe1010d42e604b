"""Settings from mappings: converted, or refused in one line that names option, value and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import ConfigDict, Field

from schemas.settings import validated
from schemas.spec import Spec


@dataclass(frozen=True)
class Frozen:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    rows: Annotated[int, Field(ge=1)] = 1
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.rows == 13:
            raise ValueError("rows 13 is unlucky; take 14")


class Model(Spec):
    rows: int = Field(default=1, ge=1)
    widths: tuple[int, ...] = ()


@pytest.mark.parametrize("kind", [Frozen, Model])
def test_values_reach_a_dataclass_or_a_model(kind: type[Any]) -> None:
    assert validated(kind, {"rows": 2, "widths": [3, 4]}) == kind(rows=2, widths=(3, 4))


@pytest.mark.parametrize("kind", [Frozen, Model])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"row": 2}, "no option 'row'; did you mean 'rows'? allowed: rows, widths"),
        ({"colour": 2}, "no option 'colour'; allowed: rows, widths"),
        ({"rows": 0}, "option rows: 0 is not allowed: Input should be greater than or equal to 1"),
        ({"widths": [1, "a"]}, "option widths: [1, 'a'] is not allowed: Input should be a valid integer"),
    ],
)
def test_a_wrong_value_is_one_line(kind: type[Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        validated(kind, values)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_values_that_do_not_go_together_are_refused_in_the_words_of_the_class() -> None:
    with pytest.raises(ValueError, match=r"^rows 13 is unlucky; take 14$"):
        validated(Frozen, {"rows": 13})
