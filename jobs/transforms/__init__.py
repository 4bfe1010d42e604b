"""Pure transforms: Spark DataFrame -> DataFrame, no reads and no writes."""
