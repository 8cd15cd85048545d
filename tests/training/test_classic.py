from __future__ import annotations

import numpy as np
import pytest

from llmrec.errors import OptionError
from llmrec.training.classic import judge_classic, train_classic
from tests.training.conftest import World


def test_it_tells_what_was_met_from_what_was_not(world: World) -> None:
    made = train_classic(world.training, world.modalities, epochs=30)
    figures = judge_classic(made, world.training, world.split.validation)
    assert figures.auc > 0.8
    assert 0 < figures.accuracy <= 1
    precision, recall = figures.precision, figures.recall
    assert figures.f1 == pytest.approx(2 * precision * recall / (precision + recall))
    again = train_classic(world.training, world.modalities, epochs=30)
    history = np.array([1, 5])
    np.testing.assert_array_equal(made.scores(history), again.scores(history))


def test_bad_numbers_are_refused(world: World) -> None:
    with pytest.raises(OptionError, match="epochs is 0"):
        train_classic(world.training, world.modalities, epochs=0)
    with pytest.raises(OptionError, match="no held-out row"):
        judge_classic(train_classic(world.training, world.modalities, epochs=1), world.training, {})
