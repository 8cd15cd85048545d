"""Which prompt is better, and is it really: runs, records, statistics and their report."""
