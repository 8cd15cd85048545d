"""Data sets: read, check row by row, split."""

from llmrec.catalog.catalog import Catalog, Fact, sample_folder
from llmrec.catalog.checking import CheckReport, check_folder
from llmrec.catalog.columns import ColumnMap, TableMap
from llmrec.catalog.given_items import (
    NEW_USER,
    GivenItem,
    interactions_of,
    plain_value,
    read_id,
    read_ids,
    read_item,
    read_items,
    read_items_file,
    read_profile,
    read_user,
    table_rows,
)
from llmrec.catalog.media_files import MediaError
from llmrec.catalog.ratings import guess_neutral, liked
from llmrec.catalog.splitting import Split, cold_start_split, global_time_split, leave_one_out
from llmrec.catalog.tables import Problem

__all__ = [
    "NEW_USER",
    "Catalog",
    "CheckReport",
    "ColumnMap",
    "Fact",
    "GivenItem",
    "MediaError",
    "Problem",
    "Split",
    "TableMap",
    "check_folder",
    "cold_start_split",
    "global_time_split",
    "guess_neutral",
    "interactions_of",
    "leave_one_out",
    "liked",
    "plain_value",
    "read_id",
    "read_ids",
    "read_item",
    "read_items",
    "read_items_file",
    "read_profile",
    "read_user",
    "sample_folder",
    "table_rows",
]
