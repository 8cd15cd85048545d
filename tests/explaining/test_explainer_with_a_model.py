from __future__ import annotations

from llmrec.explaining import Explainer, Titles, check_text
from llmrec.models import TransformersModel
from llmrec.records import Interaction, TextSource, User
from llmrec.retrieval import Index


def test_a_real_model_is_held_to_the_evidence(
    smollm2: TransformersModel, small_index: Index
) -> None:
    user = User("ann", (Interaction("ann", "zathura", 5.0), Interaction("ann", "toys", 4.0)))
    explainer = Explainer(smollm2, small_index, text="written")
    explanations = explainer.explain(user, ["jumanji", "heat"])
    assert [explanation.item_id for explanation in explanations] == ["jumanji", "heat"]
    titles = Titles(small_index.items)
    for explanation in explanations:
        assert check_text(explanation.text, explanation.evidence, titles) == ()
        assert explanation.usage.tokens_generated > 0
        assert (explanation.source is TextSource.MODEL) == (not explanation.faults)
