"""The engine's contract once more, on a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.models import test_mixed_requests as mixed
from tests.models import test_prefix_scoring as contract

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]

test_scores = contract.test_scores_equal_whole_sequences_forwarded_alone
test_tokens_forwarded = contract.test_tokens_forwarded_are_the_nodes_of_the_tree
test_gradients = contract.test_gradients_equal_those_of_whole_sequences
test_alternatives = contract.test_alternatives_score_as_sequences_of_their_own
test_kept_beginnings = contract.test_a_kept_beginning_is_not_forwarded_again_and_scores_stay
test_half_precision = contract.test_half_precision_is_as_exact_as_whole_sequences_are
test_mixed_requests = mixed.test_who_shares_a_call_does_not_change_scores


@pytest.fixture(autouse=True)
def _on_the_gpu() -> Iterator[None]:
    """Models and tokens are made on the GPU."""
    torch.set_default_device("cuda")
    yield
    torch.set_default_device(None)
