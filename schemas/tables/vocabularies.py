"""One (field, value) and its id in one version. A version, once published, never changes; later ones only append."""

import pyarrow as pa

from schemas.table_spec import Column, Constraint, TableSpec

TABLE = TableSpec(
    name="vocabularies",
    doc=__doc__,
    columns=(
        Column(name="vocabulary_version", type=pa.string(), doc="<first day of validity>-<lineage>, see DatasetSpec"),
        Column(name="field", type=pa.string(), doc="field name"),
        Column(name="value", type=pa.string(), doc="raw value; for a numeric field the lower edge of the bin"),
        Column(name="id", type=pa.int32(), doc="1 .. n within the field; 0 is out of vocabulary and not stored"),
        Column(name="first_version", type=pa.string(), doc="the version that introduced the value"),
    ),
    written_by="build_vocabularies",
    keys=("vocabulary_version", "field", "id"),
    partition_by=("vocabulary_version",),
    constraints=(Constraint(name="id_is_positive", sql="id >= 1"),),
)
