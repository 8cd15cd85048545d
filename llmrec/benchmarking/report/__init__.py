"""The report of a benchmark as one HTML file: leaderboard, charts, disagreements."""

from __future__ import annotations

from llmrec.benchmarking.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]
