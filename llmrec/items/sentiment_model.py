"""Sentiment from a text-classification model of the hub or of a folder."""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrec.content_cache import ContentCache, content_key
from llmrec.errors import ModelError, naming
from llmrec.items.cached_results import compute_missing, unreadable
from llmrec.items.reviews import passages, sentences
from llmrec.models import resolve_model
from llmrec.records import Review, SentimentSource

logger = logging.getLogger(__name__)

_VERSION = "model sentiment 1"
_STARS = re.compile(r"(\d+)[ _-]?stars?", re.IGNORECASE)
_WORDS = {"positive": 1.0, "pos": 1.0, "neutral": 0.5, "neu": 0.5, "negative": 0.0, "neg": 0.0}
_TOKENS = 512
_UNKNOWN_TOKENS = 0.3
_BATCHES_A_WRITE = 8


def label_values(labels: Mapping[int, str], model: str) -> NDArray[np.float64]:
    """Value of each label of a classifier: 1 positive, 0 negative, 0.5 neutral.

    Read are ``1 star`` to ``n stars`` (the middle is one half), and ``positive``, ``neutral``,
    ``negative``, their first three letters, and with ``very`` before them.

    Raises:
        ModelError: Other labels (``LABEL_0`` says nothing), or not both kinds.
    """
    names = [labels[key].strip() for key in sorted(labels)]
    stars = [int(match[1]) for name in names if (match := _STARS.fullmatch(name))]
    if stars and len(stars) == len(names):
        middle = (min(stars) + max(stars)) / 2
        values = [0.5 + 0.5 * np.sign(star - middle) for star in stars]
    else:
        words = [re.sub(r"^very[ _-]", "", name.lower()) for name in names]
        values = [_WORDS.get(word, np.nan) for word in words]
    if not {0.0, 1.0} <= set(values) <= {0.0, 0.5, 1.0}:
        raise ModelError(
            f"{model} has the labels {', '.join(names)}; allowed are '1 star' to 'n stars', or "
            "positive, negative and, if there is one, neutral.",
            hint="Write what its labels mean into id2label in its config.json, or name another.",
        )
    return np.array(values, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class ModelSentiment:
    """A classifier's probability of a good label, half of a neutral one's added.

    A long review is judged by the mean of its passages. One of whose tokens three in ten or more
    are unknown to the tokenizer is in a script that the model does not know.

    Args:
        model: A transformers sequence classifier.
        tokenizer: Its tokenizer.
        values: Value of each label, float64 [labels]; see :func:`label_values`.
        name: The model's name with its revision: scores are cached under it.
        cache: Where scores are kept between runs.
        progress: Show bars on stderr, where that is a terminal.
        batch_size: Texts per forward pass.
    """

    model: Any
    tokenizer: Any
    values: NDArray[np.float64]
    name: str
    cache: ContentCache
    progress: bool = False
    batch_size: int = 32
    source: SentimentSource = field(default=SentimentSource.MODEL, init=False)

    @classmethod
    def from_pretrained(
        cls,
        ref: str,
        *,
        cache: ContentCache,
        device: str | None = None,
        progress: bool = False,
    ) -> ModelSentiment:
        """Load a classifier in float32 (the same scores on every device); its labels come first.

        Raises:
            ModelNotFoundError: ``ref`` cannot be resolved.
            HardwareError: The device is not available.
            ModelError: It is no classifier, or its labels are no sentiment.
        """
        folder = resolve_model(ref, progress=progress)
        from transformers import (  # noqa: PLC0415
            AutoConfig,
            AutoModelForSequenceClassification,
            AutoTokenizer,
        )

        from llmrec.models.hardware import choose_placement  # noqa: PLC0415
        from llmrec.models.hub import progress_bars  # noqa: PLC0415

        placement = choose_placement(device, "float32")
        local = {"local_files_only": True, "trust_remote_code": False}
        with naming(
            f"{ref!r} is no text-classification model that transformers can load",
            ModelError,
            hint="Name a sequence classifier with stars or positive and negative as labels.",
        ):
            config = AutoConfig.from_pretrained(folder.path, **local)
            kinds = config.architectures or []
            if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
                raise ValueError(f"its architecture is {', '.join(kinds) or 'not given'}")
            values = label_values({int(k): v for k, v in config.id2label.items()}, ref)
            with progress_bars(shown=progress):
                tokenizer = AutoTokenizer.from_pretrained(folder.path, **local)
                model = AutoModelForSequenceClassification.from_pretrained(
                    folder.path, dtype=placement.dtype, use_safetensors=True, **local
                )
        model.to(placement.device).eval()
        return cls(model, tokenizer, values, f"{folder.name}@{folder.revision}", cache, progress)

    def scores(self, reviews: Sequence[Review]) -> NDArray[np.float64]:
        """See :class:`~llmrec.items.sentiment.Sentiment`."""
        parts = [passages(review.text) for review in reviews]
        known = self._known([part for each in parts for part in each])
        means = [np.mean([known[part] for part in each]) if each else np.nan for each in parts]
        return np.array(means, dtype=np.float64)

    def sentence_scores(self, reviews: Sequence[Review]) -> list[NDArray[np.float64]]:
        """See :class:`~llmrec.items.sentiment.Sentiment`."""
        parts = [sentences(review.text) for review in reviews]
        known = self._known([part for each in parts for part in each])
        return [np.array([known[part] for part in each], dtype=np.float64) for each in parts]

    def _known(self, texts: Sequence[str]) -> dict[str, float]:
        def compute(batch: Mapping[str, str]) -> Mapping[str, bytes]:
            found = list(batch.values())
            parts = [
                self._compute(found[start : start + self.batch_size])
                for start in range(0, len(found), self.batch_size)
            ]
            scores = [struct.pack("<d", score) for part in parts for score in part]
            return dict(zip(batch, scores, strict=True))

        keys = {content_key(_VERSION, self.name, text): text for text in texts}
        known, _ = compute_missing(
            dict(sorted(keys.items(), key=lambda entry: len(entry[1]))),
            compute,
            cache=self.cache,
            batch_size=self.batch_size * _BATCHES_A_WRITE,
            damaged=lambda known: unreadable(known, _unpack),
            doing="Sentiment",
            unit="text",
            progress=self.progress,
        )
        return {keys[key]: _unpack(blob) for key, blob in known.items()}

    def _compute(self, texts: Sequence[str]) -> list[float]:
        import torch  # noqa: PLC0415

        longest = min(_TOKENS, self.tokenizer.model_max_length)
        # Tokenizers refuse a lone surrogate, half a character that a cut text may end in.
        whole = [text.encode(errors="replace").decode() for text in texts]
        batch = self.tokenizer(
            whole, padding=True, truncation=True, max_length=longest, return_tensors="pt"
        ).to(self.model.device)
        with torch.inference_mode():
            logits = self.model(**batch).logits.double()
        if not torch.isfinite(logits).all():
            raise ModelError(
                f"The classifier {self.name} returned values that are not finite.",
                hint="Use another model.",
            )
        scores = torch.softmax(logits, dim=-1).cpu().numpy() @ self.values
        unknown = (batch["input_ids"] == _number(self.tokenizer.unk_token_id)).sum(dim=1)
        share = unknown / batch["attention_mask"].sum(dim=1)
        known = np.where(share.cpu().numpy() >= _UNKNOWN_TOKENS, np.nan, scores)
        return [float(score) for score in known]


def _unpack(blob: bytes) -> float:
    """Read a cached score, NaN or 0 to 1 (ValueError: it is something else)."""
    score = float(struct.unpack("<d", blob)[0]) if len(blob) == 8 else np.inf
    if score < 0 or score > 1:
        raise ValueError("it is no score")
    return score


def _number(token: int | None) -> int:
    return -1 if token is None else token
