"""Metrics per scenario and per session."""
