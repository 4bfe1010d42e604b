"""A change of a field's vocabulary: a value that got an id, or lost it. One record `published` marks each version.

Version v is made of the rows of its lineage that came with it or an earlier version: values added, less ids evicted.
`lake/vocabularies.py` reads a version.
"""

import pyarrow as pa

from schemas.table_spec import Column, Constraint, TableSpec

ADDED, EVICTED, PUBLISHED = "added", "evicted", "published"

TABLE = TableSpec(
    name="vocabularies",
    doc=__doc__,
    columns=(
        Column(
            name="first_version",
            type=pa.string(),
            doc="version that the row came with: <first day of validity>-<lineage>, see DatasetSpec",
        ),
        Column(name="field", type=pa.string(), doc="field name; empty in the record `published`"),
        Column(
            name="value",
            type=pa.string(),
            doc="raw value; for a numeric field the lower edge of the bin; for `<field>:moments` mean (id 1) and "
            "deviation (id 2) of a dense field; published: fingerprint of fields with since",
        ),
        Column(name="id", type=pa.int32(), doc="1 .. n within the field; 0 is out of vocabulary and not stored"),
        Column(name="change", type=pa.string(), doc="added; evicted: the id is never used again; or published"),
    ),
    written_by="build_vocabularies",
    keys=("first_version", "field", "id", "change"),
    partition_by=("first_version",),
    constraints=(
        Constraint(name="change_is_known", sql=f"change IN ('{ADDED}', '{EVICTED}', '{PUBLISHED}')"),
        Constraint(name="id_is_positive", sql=f"id >= 1 OR change = '{PUBLISHED}'"),
    ),
)
