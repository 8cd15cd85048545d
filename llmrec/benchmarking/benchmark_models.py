"""The language models of a benchmark: their revisions, their tokenizers, and themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llmrec.models import load_model, resolve_model
from llmrec.models.references import load_reader, parse_reference
from llmrec.models.resolve import revision_of

if TYPE_CHECKING:
    from llmrec.models import LanguageModel


@dataclass
class BenchmarkModels:
    """Models by reference and quantization; only the last one loaded stays in memory.

    Connections to servers stay open.

    Args:
        device: Where transformers runs them; None takes the fastest device.
        tokenizer: The tokenizer of a server's model.
        concurrency: Concurrent requests to a server.
        timeout: Seconds without an answer until a server's request fails.
        progress: Show progress bars on stderr if it is a terminal.
        skip_layers: Last layers of transformers models to skip.
        adapter: Tuned weights of transformers models.
    """

    device: str | None = None
    tokenizer: str | None = None
    concurrency: int | None = None
    timeout: float | None = None
    progress: bool = False
    skip_layers: int = 0
    adapter: Path | None = None
    _loaded: dict[tuple[str, str], LanguageModel] = field(default_factory=dict, repr=False)
    _served: dict[tuple[str, str], LanguageModel] = field(default_factory=dict, repr=False)
    _readers: dict[str, LanguageModel] = field(default_factory=dict, repr=False)

    def revision(self, ref: str, quantization: str) -> str:
        """Identifies a model's weights, quantization and dtype, without loading them.

        A server is asked what it serves.

        Raises:
            ModelError: The model or the device is not available.
            OptionError: A server is asked to quantize.
        """
        what = parse_reference(ref)
        if what.backend != "transformers":
            return self.load(ref, quantization).revision
        from llmrec.models.hardware import choose_placement  # noqa: PLC0415 - brings torch

        placement = choose_placement(self.device, None, quantization, spread=True)
        found = resolve_model(what.model, progress=self.progress)
        return revision_of(
            f"{found.revision}+{placement.dtype}", quantization, self.skip_layers, self.adapter
        )

    def reader(self, ref: str) -> LanguageModel:
        """The tokenizer of a model; it is never asked to answer.

        Raises:
            ModelError: The model is not available.
        """
        if parse_reference(ref).backend != "transformers":
            loaded = (model for (name, _), model in self._loaded.items() if name == ref)
            return next(loaded, None) or self.load(ref, "none")
        if ref not in self._readers:
            self._readers[ref] = load_reader(ref, progress=self.progress)
        return self._readers[ref]

    def load(self, ref: str, quantization: str) -> LanguageModel:
        """Load it, or return it where it is loaded.

        Raises:
            ModelError: The model is not available, or not on that device.
            OptionError: A server is asked to quantize.
        """
        backend, key = parse_reference(ref).backend, (ref, quantization)
        kept = self._served if backend == "openai" else self._loaded
        if key in kept:
            return kept[key]
        if backend == "openai":
            kept[key] = load_model(
                ref,
                quantization=quantization,
                tokenizer=self.tokenizer,
                concurrency=self.concurrency,
                timeout=self.timeout,
            )
            return kept[key]
        kept.clear()
        weights = backend == "transformers"
        kept[key] = load_model(
            ref,
            device=self.device if weights else None,
            quantization=quantization,
            skip_last_layers=self.skip_layers if weights else 0,
            adapter=self.adapter if weights else None,
            progress=self.progress,
        )
        return kept[key]
