"""Shared parts of the DAG files. Imports neither Spark nor torch: steps run in their own processes."""
