"""The report of a benchmark: one HTML file and markdown."""

from __future__ import annotations

from llmrec.benchmarking.report.leaderboard import leaderboard_markdown
from llmrec.benchmarking.report.page import render_report

__all__ = ["leaderboard_markdown", "render_report"]
