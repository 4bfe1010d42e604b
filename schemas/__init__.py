"""Specifications: data sets, tables, settings, commands and errors. Imports nothing else of this project."""
