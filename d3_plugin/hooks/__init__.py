"""The pluggy hooks: specifications, manager, defaults, and a log."""

from d3_plugin.hooks.csv_log import CSVLog

__all__ = ["CSVLog"]
