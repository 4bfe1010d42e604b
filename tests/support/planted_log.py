"""The planted log, for tests: see msr_models/experiments/planted_log.py."""

from msr_models.experiments.planted_log import PlantedLog, planted_log

__all__ = ["PlantedLog", "planted_log"]
