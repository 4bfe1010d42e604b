"""One text per value, whatever its storage type: blanks around it do not count, and 126, 126.0 and '126' are one id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, DecimalType, DoubleType, FloatType, StructType

# Blanks of every kind: with no-break spaces, zero-width ones and byte order marks, which exports put around values
WHITESPACE = " \t\r\n\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e" + "".join(map(chr, range(0x2000, 0x200E)))
WHITESPACE += "\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"

# Above these, neighbouring integers are one floating-point number: which id it was cannot be told
_EXACT: dict[type[DataType], float] = {DoubleType: 2.0**53, FloatType: 2.0**24}


@dataclass(frozen=True, kw_only=True)
class RawValues:
    """The log's values by column name.

    column: from a name to the column in the frame at hand. null_values: texts that stand for a missing value.
    """

    schema: StructType
    column: Callable[[str], Column]
    null_values: Sequence[str] = ()

    def text(self, name: str) -> Column:
        """Canonical text; null where the value is missing or a floating-point number that is no exact integer."""
        return self._present(canonical_text(self.column(name), self.kind(name)))

    def number(self, name: str) -> Column:
        """A double; null where the value is missing, not a number or NaN."""
        number = self.plain(name).try_cast("double")
        return F.when(~F.isnan(number), number)

    def texts(self, name: str, separator: str) -> Column:
        """Canonical texts of a list, or of a text that `separator` or line breaks split; null where it is missing."""
        kind = self.kind(name)
        if isinstance(kind, ArrayType):
            element = kind.elementType
            values = F.transform(self.column(name), lambda value: canonical_text(value, element))
        else:
            pattern = "\\Q" + separator + "\\E|[\r\n]+"
            values = F.transform(F.split(self.text(name), pattern), trimmed)
        return F.filter(F.transform(values, self._present), lambda value: value.isNotNull())

    def plain(self, name: str) -> Column:
        """The value as text, trimmed; null where it is missing."""
        return self._present(trimmed(self.column(name).cast("string")))

    def is_inexact(self, name: str) -> Column | None:
        """Whether the value, or one of a list, is a floating-point number that is no exact integer; None: never."""
        kind = self.kind(name)
        limit = exact_limit(kind.elementType if isinstance(kind, ArrayType) else kind)
        if limit is None:
            return None
        if isinstance(kind, ArrayType):
            return F.exists(self.column(name), lambda value: is_inexact(value, limit))
        return is_inexact(self.column(name), limit)

    def kind(self, name: str) -> DataType:
        """The storage type."""
        return self.schema[name].dataType

    def _present(self, text: Column) -> Column:
        missing = text.isin("", *self.null_values)
        return F.when(~missing, text)


def trimmed(text: Column) -> Column:
    """Text without blanks of any kind around it."""
    return F.btrim(text, F.lit(WHITESPACE))


def canonical_text(column: Column, kind: DataType) -> Column:
    """The text of a value; of a number without trailing zeros; null where it is NaN or no exact integer.

    Decimals keep their fraction, as they are exact: 1.50 is '1.5'.
    """
    if (limit := exact_limit(kind)) is not None:
        return F.when(~is_inexact(column, limit) & ~F.isnan(column), column.try_cast("bigint").cast("string"))
    text = trimmed(column.cast("string"))
    if isinstance(kind, DecimalType) and kind.scale > 0:
        return F.regexp_replace(text, r"\.?0+$", "")
    return text


def is_inexact(column: Column, limit: float) -> Column:
    """Whether a floating-point number (NaN is a missing one) has a fraction or is too large to be exact."""
    return ~F.isnan(column) & ((F.abs(column) > limit) | (column != F.floor(column)))


def exact_limit(kind: DataType) -> float | None:
    """Up to where numbers of a floating-point type are exact integers; None for other types."""
    return _EXACT.get(type(kind))
