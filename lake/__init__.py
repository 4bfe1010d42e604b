"""Storage: read and write Delta tables through Arrow or Spark, storage locations, atomic files. No torch."""
