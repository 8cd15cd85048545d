"""Benchmarks of prompts: plans, runs, significance tests and reports."""

from llmrec.benchmarking.benchmark_models import BenchmarkModels
from llmrec.benchmarking.compare import RowChange, RunChange, compare_runs
from llmrec.benchmarking.plan import BenchmarkPlan
from llmrec.benchmarking.results import RunFolder
from llmrec.benchmarking.run import bench
from llmrec.benchmarking.summary import PairContrast, Summary, SummaryRow

__all__ = [
    "BenchmarkModels",
    "BenchmarkPlan",
    "PairContrast",
    "RowChange",
    "RunChange",
    "RunFolder",
    "Summary",
    "SummaryRow",
    "bench",
    "compare_runs",
]
