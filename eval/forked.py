"""Work on all cores of the machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

import torch

Part = TypeVar("Part")
Made = TypeVar("Made")

_tasks: list[Callable[[], Any]] = []


def _done(place: int) -> object:
    return _tasks[place]()


def on_all_cores(work: Callable[[Part], Made], parts: Iterable[Part]) -> list[Made]:
    """Do the work for every part, in order, in copies of this process: only results are sent.

    The work may not use a GPU.
    """
    _tasks[:] = [partial(work, part) for part in parts]
    # A copy cannot use the threads that torch started in the original.
    cores, one = len(os.sched_getaffinity(0)), (1,)
    with get_context("fork").Pool(cores, torch.set_num_threads, one) as pool:
        made: list[Any] = pool.map(_done, range(len(_tasks)), chunksize=1)
    return made
