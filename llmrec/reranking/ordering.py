"""Sorting algorithms over comparisons of groups.

Each function is a generator. It yields groups of places (0 to n - 1) to compare in parallel,
receives the answers, and returns an order. ``top_by_best`` receives the best of each group (its
index within the group); the others receive an order of each group.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeAlias

Group: TypeAlias = tuple[int, ...]
Best: TypeAlias = Generator[list[Group], Sequence[int], list[int]]
Orders: TypeAlias = Generator[list[Group], Sequence[Sequence[int]], list[int]]


def top_by_best(n: int, top: int, ways: int) -> Best:
    """The best ``top`` of n places, best first, by heapsort with ``ways`` - 1 children per parent.

    Each comparison finds the best of ``ways`` (Zhuang et al. 2024, "Setwise"). Subtrees of equal
    height are sorted in parallel. With a consistent judge the result is exact.

    Args:
        n: Number of places.
        top: Number of places to order.
        ways: Places per comparison, at least 3 (with 2, a heap is a chain).
    """
    heap = list(range(n))
    width = ways - 1
    level: list[int] = []
    for parent in range((n - 2) // width, -1, -1) if n > 1 else ():
        if level and (level[0] - 1) // width == parent:  # its child must be sifted first
            yield from _settle(heap, n, level, width)
            level = []
        level.append(parent)
    yield from _settle(heap, n, level, width)
    best: list[int] = []
    size = n
    while size and len(best) < top:
        best.append(heap[0])
        size -= 1
        heap[0] = heap[size]
        if len(best) < top:
            yield from _settle(heap, size, [0], width)
    return best


def _settle(
    heap: list[int], size: int, parents: Sequence[int], width: int
) -> Generator[list[Group], Sequence[int], None]:
    """Sift each parent down, all in parallel."""
    going = list(parents)
    while going := [parent for parent in going if width * parent + 1 < size]:
        families = [
            (parent, *range(width * parent + 1, min(width * parent + width + 1, size)))
            for parent in going
        ]
        answers = yield [tuple(heap[place] for place in family) for family in families]
        going = []
        for family, answer in zip(families, answers, strict=True):
            if answer:
                parent, child = family[0], family[answer]
                heap[parent], heap[child] = heap[child], heap[parent]
                going.append(child)


def sliding_windows(n: int, window: int, step: int) -> Orders:
    """Order n places by windows that slide from the end to the head.

    The best ``window - step`` of each window enter the next (Sun et al. 2023, "RankGPT"). With a
    consistent judge, the first ``window - step`` places of the result are exact.

    Args:
        n: Number of places.
        window: Places per comparison.
        step: How far the window moves, less than ``window``.
    """
    order = list(range(n))
    end = n
    while True:
        start = max(0, end - window)
        answers = yield [tuple(order[start:end])]
        order[start:end] = [order[start:end][place] for place in answers[0]]
        if start == 0:
            return order
        end -= step


def top_down(n: int, top: int, window: int) -> Orders:
    """Order n places by partitioning them around a pivot; only the first ``top`` are exact.

    The first window is ordered; its place number ``top`` is the pivot. All other windows hold the
    pivot and new places and run in parallel. Places above the pivot are compared again (Parry et
    al. 2024, "Top-down partitioning"). With a consistent judge the first ``top`` are exact.

    Args:
        n: Number of places.
        top: Number of places to order exactly, less than ``window``.
        window: Places per comparison.
    """
    return (yield from _partition(list(range(n)), top, window))


def _partition(places: list[int], top: int, window: int) -> Orders:
    if len(places) <= window:
        if len(places) < 2:
            return places
        answers = yield [tuple(places)]
        return [places[place] for place in answers[0]]
    head = places[:window]
    answers = yield [tuple(head)]
    head = [head[place] for place in answers[0]]
    above, pivot, below = head[: top - 1], head[top - 1], head[top:]
    rest = places[window:]
    groups = [
        (pivot, *rest[start : start + window - 1]) for start in range(0, len(rest), window - 1)
    ]
    for group, order in zip(groups, (yield list(groups)), strict=True):
        ordered = [group[place] for place in order]
        cut = ordered.index(pivot)
        above, below = above + ordered[:cut], below + ordered[cut + 1 :]
    if len(above) < top:  # no new place beats the pivot: the first window holds the best
        return [*above, pivot, *below]
    return (yield from _partition(above, top, window)) + [pivot, *below]
