from __future__ import annotations

import math

import numpy as np

from llmrec.items import unit
from llmrec.records import Interaction, User
from llmrec.retrieval.signals import DISLIKED_WEIGHT, history_weights


def rated(*ratings: float | None) -> User:
    return User("me", tuple(Interaction("me", "item", rating) for rating in ratings))


def test_a_weight_halves_with_every_half_life() -> None:
    np.testing.assert_allclose(history_weights(rated(*[None] * 5), 2.0)[[0, 2, 4]], [0.25, 0.5, 1])


def test_below_the_users_own_mean_is_disliked() -> None:
    weights = history_weights(rated(2.0, 3.0, None, 4.0), math.inf)
    np.testing.assert_allclose(weights, [DISLIKED_WEIGHT, 1, 1, 1])


def test_equal_ratings_are_all_liked() -> None:
    np.testing.assert_allclose(history_weights(rated(1.0, 1.0), math.inf), [1, 1])


def test_unit_vectors_have_length_one_and_zero_stays_zero() -> None:
    units = unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(units, np.array([[0.6, 0.8], [0.0, 0.0]]))
