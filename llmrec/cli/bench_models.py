"""Models of a benchmark: what identifies them, what reads prompts as they do, loaded in turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from llmrec.cli.loading import ModelChoice
from llmrec.cli.output import waiting

if TYPE_CHECKING:
    from llmrec.language_models import LanguageModel

_AS_USUAL = ModelChoice()


def revision_of(ref: str, quantization: str, how: ModelChoice = _AS_USUAL) -> str:
    """What tells a model's weights from any other, without loading them.

    Args:
        ref: The model.
        quantization: Of its weights.
        how: Where it runs or how it is reached, whatever model it names.

    A server is asked: what it serves decides. Scores of quantized weights are not those of the
    weights they were made from, nor those in bfloat16 those in float32.

    Raises:
        ModelError: The model or the device cannot be had.
    """
    from llmrec.language_models.references import WeightsReference, parse_reference
    from llmrec.models import resolve_model

    what = parse_reference(ref)
    if not isinstance(what, WeightsReference):
        return _server(ref, how).revision
    with waiting("Loading torch"):
        from llmrec.models.hardware import choose_placement
    placement = choose_placement(how.device, None, quantization, spread=True)
    revision = f"{resolve_model(what.ref, progress=True).revision}+{placement.dtype}"
    return revision if quantization == "none" else f"{revision}+{quantization}"


@cache
def reader_of(ref: str, how: ModelChoice = _AS_USUAL) -> LanguageModel:
    """What counts and cuts tokens as the model does; it is never asked to answer."""
    from typing import cast

    from llmrec.language_models.prompt_tokenizer import PromptTokenizer
    from llmrec.language_models.references import WeightsReference, parse_reference

    what = parse_reference(ref)
    if not isinstance(what, WeightsReference):
        return _server(ref, how)
    return cast("LanguageModel", PromptTokenizer.from_pretrained(what.ref, progress=True))


@cache
def _server(ref: str, how: ModelChoice) -> LanguageModel:
    options = (how.tokenizer, how.concurrency, how.timeout)
    return ModelChoice(ref, None, "none", *options).load()


@dataclass
class Loader:
    """Loads a model of a benchmark; the one loaded last is kept, others make room for it."""

    how: ModelChoice = _AS_USUAL
    _kept: dict[tuple[str, str], LanguageModel] = field(default_factory=dict)

    def __call__(self, ref: str, quantization: str) -> LanguageModel:
        """Load it, or give it again."""
        from llmrec.language_models.references import WeightsReference, parse_reference

        key = (ref, quantization)
        if key not in self._kept:
            self._kept.clear()
            here = isinstance(parse_reference(ref), WeightsReference)
            choice = ModelChoice(ref, self.how.device, quantization)
            self._kept[key] = choice.load() if here else _server(ref, self.how)
        return self._kept[key]
