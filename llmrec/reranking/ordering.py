"""Orders from comparisons: which groups to compare, without knowing who compares.

Each function is a generator: it yields groups of places (0 to n - 1) that can be compared at the
same time, is sent the answers, and returns an order. ``top_by_best`` is told the best of each group
(its index within the group), the other two a whole order of each group.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeAlias

Group: TypeAlias = tuple[int, ...]
Best: TypeAlias = Generator[list[Group], Sequence[int], list[int]]
Orders: TypeAlias = Generator[list[Group], Sequence[Sequence[int]], list[int]]


def top_by_best(n: int, top: int, ways: int) -> Best:
    """The best ``top`` of n places, best first, by a heap whose parents have ``ways`` - 1 children.

    Heapsort with the best of ``ways`` as its comparison (Zhuang et al. 2024, "Setwise"). Subtrees
    of one height are put in order at the same time. With a consistent judge the result is exact.

    Args:
        n: How many places.
        top: How many of them are wanted.
        ways: How many one comparison takes, at least 3: with 2, a heap is a chain.
    """
    heap = list(range(n))
    width = ways - 1
    level: list[int] = []
    for parent in range((n - 2) // width, -1, -1) if n > 1 else ():
        if level and (level[0] - 1) // width == parent:  # a child of it is still to be settled
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
    """Let each parent sink to where it belongs, all of them at the same time."""
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
    """All n places, by windows that slide from the end to the head and carry the best along.

    Each window is put in order and its best ``window - step`` stand in the next one too (Sun et al.
    2023, "RankGPT"). So every place is compared with those that reach the head, and with a
    consistent judge the first ``window - step`` places of the result are exactly the best.

    Args:
        n: How many places.
        window: How many one comparison takes.
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
    """All n places, the first ``top`` settled: a pivot, then only what beats it.

    The first window is put in order; its place number ``top`` is the pivot. All other windows hold
    the pivot and new places and are compared at the same time: what beats it joins the places above
    it, and those alone are compared again (Parry et al. 2024, "Top-down partitioning"). With a
    consistent judge the first ``top`` places are exactly the best.

    Args:
        n: How many places.
        top: How many of them have to be right, less than ``window``.
        window: How many one comparison takes.
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
    if len(above) < top:  # nothing more beats the pivot: the first window has the best in order
        return [*above, pivot, *below]
    return (yield from _partition(above, top, window)) + [pivot, *below]
