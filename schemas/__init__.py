"""Specifications only: data sets, tables, errors. Imports nothing else of this project."""
