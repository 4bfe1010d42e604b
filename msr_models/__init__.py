"""Torch side of the pipeline: reads Delta through deltalake and pyarrow; never Spark, never Airflow."""
