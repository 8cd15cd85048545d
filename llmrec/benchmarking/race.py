"""Racing: drop significantly worse rows while a benchmark runs.

Users come in blocks, in random order. After each block, a row that is significantly behind the best
so far is dropped. Three corrections keep the error rate:

- *Finite population*: the hypothesis is "over all users of this run, this row would be at least as
  good as the best one". The users seen are a sample without replacement, so the standard error of a
  mean difference has the correction sqrt(1 - seen / all) (Cochran 1977, "Sampling Techniques",
  2.6). The test is the paired t test with it, one-sided.
- *Repeated looks*: alpha is spent evenly over the looks (Bonferroni; the linear spending function
  of Lan and DeMets 1983, "Discrete sequential boundaries for clinical trials"). The last look needs
  no test: everybody has been asked.
- *Choice of the best*: every p-value counts once for each rival that could have been the best. The
  winner of the full run is then dropped with probability alpha at most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from llmrec.errors import OptionError

LEAST_USERS = 10
"""With fewer users nothing is dropped: a t test has no reliable tails then."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a row is dropped; ``p_corrected`` is corrected for all looks and rivals."""

    against: str
    users: int
    p_corrected: float

    def __str__(self) -> str:
        return (
            f"after {self.users} users: significantly worse than {self.against} "
            f"(p = {self.p_corrected:.2g})"
        )


def race(
    values_so_far: Mapping[str, NDArray[np.float64]],
    looks: int,
    look: int,
    alpha: float = 0.05,
    *,
    started: int | None = None,
) -> dict[str, Drop]:
    """Find the rows to drop now.

    Args:
        values_so_far: By row one value per user (nDCG@10), [n_users], higher is better; the same
            users in the same order in every row, NaN where a row failed. Two rows are compared over
            the users that both have.
        looks: Number of blocks of the run, of about the same size.
        look: Number of blocks done, from 1.
        alpha: Highest probability of dropping the winner of the full run.
        started: Number of rows at the start of the race; None: these.

    Returns:
        The dropped rows, in the order given. Never the best, nor anything at the last look, nor
        before ``LEAST_USERS`` users.

    Raises:
        OptionError: A number is out of range, or rows have other users.
    """
    rivals = max(len(values_so_far), started or 0) - 1
    if not (1 <= look <= looks and 0 < alpha < 1):
        raise OptionError(
            f"look {look} of {looks} with alpha {alpha}; allowed are looks from 1 to their number "
            "and an alpha between 0 and 1."
        )
    if len({np.shape(values) for values in values_so_far.values()}) > 1:
        raise OptionError("rows differ in users; allowed are the same users in the same order.")
    known = {name: values for name, values in values_so_far.items() if not np.isnan(values).all()}
    if look == looks or len(known) < 2:
        return {}
    best = max(known, key=lambda name: float(np.nanmean(known[name])))
    tests = (looks - 1) * rivals
    dropped = {}
    for name, values in known.items():
        behind = known[best] - values
        behind = behind[~np.isnan(behind)]
        if name == best or behind.size < LEAST_USERS:
            continue
        p_corrected = _one_sided(behind, 1 - look / looks) * tests
        if p_corrected <= alpha:
            dropped[name] = Drop(best, behind.size, p_corrected)
    return dropped


def _one_sided(behind: NDArray[np.float64], share_unseen: float) -> float:
    """P-value of a mean above 0 over all users, of whom this share has not been seen."""
    mean, deviation = float(behind.mean()), float(behind.std(ddof=1))
    if deviation == 0:  # a constant difference has no error
        return 0.0 if mean > 0 else 1.0
    t = mean / (deviation * math.sqrt(share_unseen / behind.size))
    return float(stats.t.sf(t, behind.size - 1))
