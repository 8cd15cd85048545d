"""Entailment of claims by their evidence, with a cross-encoder for natural-language inference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrec.errors import ModelError, naming, not_allowed
from llmrec.models import resolve_model
from llmrec.records import Claim, Evidence, Fault

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_LEAST = 0.5
"""The least probability of entailment of a claim."""


class Entailment:
    """Checks that each claim follows from the evidence that it names.

    Args:
        model: A reference to a sentence-transformers ``CrossEncoder`` with a label "entailment",
            such as ``cross-encoder/nli-deberta-v3-small``, or a loaded one.

    Raises:
        ModelError: It cannot be loaded, or has no such label.
        OptionError: It is neither a reference nor a cross-encoder.
    """

    def __init__(self, model: str | Path | CrossEncoder) -> None:
        if isinstance(model, str | Path):
            self.model: Any = _load(str(model))
        elif hasattr(model, "predict") and hasattr(model, "config"):
            self.model = model
        else:
            raise not_allowed("entailment", model, "a reference or a CrossEncoder", _HINT)
        labels = getattr(self.model.config, "id2label", None) or {}
        found = [int(number) for number, name in labels.items() if name.lower() == "entailment"]
        if not found:
            names = ", ".join(map(str, labels.values())) or "none"
            raise ModelError(
                f"The entailment model has no label 'entailment'; its labels are {names}.",
                hint=_HINT,
            )
        self._label = found[0]

    def faults(self, claims: Sequence[Claim], evidence: Sequence[Evidence]) -> tuple[Fault, ...]:
        """A fault for each claim that its evidence does not entail."""
        by_unit: dict[str, str] = {}
        for fact in evidence:
            by_unit[fact.unit] = f"{by_unit.get(fact.unit, '')} {fact.text}.".strip()
        title = by_unit.get("title", "")
        asked = [claim for claim in claims if claim.text]
        pairs = [
            (
                " ".join([title, *(by_unit[unit] for unit in claim.units if unit != "title")]),
                claim.text,
            )
            for claim in asked
        ]
        if not pairs:
            return ()
        shares = self.model.predict(pairs, apply_softmax=True, show_progress_bar=False)
        return tuple(
            Fault("entailment", f"its evidence does not entail {claim.text!r}")
            for claim, share in zip(asked, shares, strict=True)
            if not float(share[self._label]) >= _LEAST  # NaN too
        )


_HINT = "Name an NLI cross-encoder, such as cross-encoder/nli-deberta-v3-small."


def _load(ref: str) -> Any:  # noqa: ANN401 - a module of torch
    from sentence_transformers import CrossEncoder  # noqa: PLC0415  # loads torch

    folder = resolve_model(ref)
    with naming(
        f"sentence-transformers cannot load {ref!r} as a cross-encoder", ModelError, hint=_HINT
    ):
        return CrossEncoder(
            str(folder.path),
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
