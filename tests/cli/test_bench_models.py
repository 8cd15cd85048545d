from __future__ import annotations

import pytest

from llmrec.cli.bench_models import revision_of
from llmrec.cli.loading import ModelChoice
from llmrec.errors import HardwareError
from llmrec.models import DEFAULT_LANGUAGE_MODEL


def test_a_revision_says_the_weights_and_how_they_are_computed() -> None:
    plain = revision_of(DEFAULT_LANGUAGE_MODEL, "none", ModelChoice(device="cpu"))
    assert plain.endswith("+float32")
    assert revision_of(DEFAULT_LANGUAGE_MODEL, "nf4", ModelChoice(device="cpu")) == f"{plain}+nf4"


def test_a_device_that_is_not_there_is_said_before_a_model_is_fetched() -> None:
    with pytest.raises(HardwareError, match="cuda:7"):
        revision_of("no/such-model", "none", ModelChoice(device="cuda:7"))
