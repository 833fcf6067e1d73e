"""The report of finished runs: rows, statistics, verdict, tables, figures and page."""
