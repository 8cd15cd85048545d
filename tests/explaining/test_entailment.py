"""Entailment of claims, with a tiny random cross-encoder: it is made, not fetched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from llmrec.errors import ModelError
from llmrec.explaining import Entailment, Explainer
from llmrec.explaining.plain import BARE
from llmrec.records import Claim, Evidence, TextSource, User
from llmrec.reranking.removal import Reasons
from llmrec.retrieval import Index

FACTS = (
    Evidence("item", 'Title: "Jumanji"', "jumanji", "title"),
    Evidence("item", "genres: Family", "jumanji", "attribute:genres"),
)
CLAIM = Claim("Its genres: Family.", ("attribute:genres",))


def make(folder: Path, labels: tuple[str, ...]) -> Path:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "Family", "genres"]
    tokens = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    made.save_pretrained(folder)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "bert", vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, id2label=dict(enumerate(labels)), num_labels=len(labels),
        label2id={name: at for at, name in enumerate(labels)}, max_position_embeddings=64,
    )  # fmt: skip
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401
    folder = make(tmp_path_factory.mktemp("nli"), ("contradiction", "Entailment", "neutral"))
    return CrossEncoder(str(folder), local_files_only=True)


def lean(encoder: CrossEncoder, label: int) -> Entailment:
    """The judge, whose classifier prefers one label whatever it reads."""
    model: Any = encoder.model
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.zero_()
        model.classifier.bias[label] = 9.0
    return Entailment(encoder)


def test_a_claim_must_be_entailed(encoder: CrossEncoder) -> None:
    assert lean(encoder, 1).faults([CLAIM], FACTS) == ()
    (fault,) = lean(encoder, 2).faults([CLAIM], FACTS)
    assert (fault.kind, fault.text) == (
        "entailment",
        "its evidence does not entail 'Its genres: Family.'",
    )
    assert lean(encoder, 2).faults([], FACTS) == ()


@pytest.mark.parametrize("text", ["statements", "template"])
def test_sentences_that_are_not_entailed_are_left_out(
    text: str, encoder: CrossEncoder, small_index: Index
) -> None:
    for label, source in ((1, TextSource(text)), (0, TextSource.TEMPLATE)):
        explainer = Explainer(None, small_index, text=text, entailment=lean(encoder, label))
        (made,) = explainer.explain(User("new"), ["jumanji"])
        assert made.source is source
        assert (made.text == BARE) == (label == 0)
        assert ("entailment" in {fault.kind for fault in made.faults}) == (label == 0)


def test_no_text_has_to_entail_what_was_measured(encoder: CrossEncoder, small_index: Index) -> None:
    facts = (FACTS[0], replace(FACTS[1], weight=0.0))
    weighed = {"jumanji": Reasons("jumanji", 1.0, 1, facts, carried={"popularity": 1.0})}
    explainer = Explainer(None, small_index, entailment=lean(encoder, 0))
    (made,) = explainer.explain(User("new"), ["jumanji"], weighed=weighed)
    assert made.text == '"Jumanji" is suggested mostly because it is popular.'


def test_a_model_is_loaded_by_its_folder(tmp_path: Path) -> None:
    judge = Entailment(make(tmp_path / "nli", ("entailment", "other")))
    assert len(judge.faults([CLAIM, CLAIM], FACTS)) in {0, 2}


def test_a_model_without_the_label_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "other", ("yes", "no"))
    with pytest.raises(ModelError, match="no label 'entailment'; its labels are yes, no"):
        Entailment(folder)
    with pytest.raises(ModelError, match="nothing-here"):
        Entailment(tmp_path / "nothing-here")
