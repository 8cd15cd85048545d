"""Which prompt is better, and is it really: runs, records, statistics and their report."""

from llmrec.benchmarking.comparing import RowChange, RunChange, compare_runs
from llmrec.benchmarking.models import BenchmarkModels
from llmrec.benchmarking.plan import BenchmarkPlan
from llmrec.benchmarking.run_folder import RunFolder
from llmrec.benchmarking.summary import PairContrast, Summary, SummaryRow
from llmrec.benchmarking.whole import bench

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
