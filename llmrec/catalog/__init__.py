"""Data sets: read, checked row by row, split."""

from llmrec.catalog.building import Fact
from llmrec.catalog.catalog import Catalog
from llmrec.catalog.checking import CheckReport, check_folder
from llmrec.catalog.columns import ColumnMap, TableMap
from llmrec.catalog.embedded import sample_folder
from llmrec.catalog.given_items import GivenItem, read_item, read_items, read_items_file
from llmrec.catalog.liking import liked
from llmrec.catalog.problems import Problem
from llmrec.catalog.splitting import Split, cold_start_split, global_time_split, leave_one_out

__all__ = [
    "Catalog",
    "CheckReport",
    "ColumnMap",
    "Fact",
    "GivenItem",
    "Problem",
    "Split",
    "TableMap",
    "check_folder",
    "cold_start_split",
    "global_time_split",
    "leave_one_out",
    "liked",
    "read_item",
    "read_items",
    "read_items_file",
    "sample_folder",
]
