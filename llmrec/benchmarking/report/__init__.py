"""The report of a benchmark: one HTML file, markdown, and a table for the terminal."""

from __future__ import annotations

from llmrec.benchmarking.report.leaderboard import leaderboard_markdown, leaderboard_table
from llmrec.benchmarking.report.page import render_report, write_report

__all__ = ["leaderboard_markdown", "leaderboard_table", "render_report", "write_report"]
