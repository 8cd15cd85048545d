"""The language models of a benchmark: their revisions, their tokenizers, and themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmrec.models import load_model, resolve_model
from llmrec.models.references import load_reader, parse_reference

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
        progress: Show progress bars on stderr, where that is a terminal.
    """

    device: str | None = None
    tokenizer: str | None = None
    concurrency: int | None = None
    timeout: float | None = None
    progress: bool = False
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
        revision = f"{found.revision}+{placement.dtype}"
        return revision if quantization == "none" else f"{revision}+{quantization}"

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
        what, key = parse_reference(ref), (ref, quantization)
        if what.backend == "openai":
            if key not in self._served:
                self._served[key] = load_model(
                    ref,
                    quantization=quantization,
                    tokenizer=self.tokenizer,
                    concurrency=self.concurrency,
                    timeout=self.timeout,
                )
            return self._served[key]
        if key not in self._loaded:
            self._loaded.clear()
            self._loaded[key] = load_model(
                ref,
                device=self.device if what.backend == "transformers" else None,
                quantization=quantization,
                progress=self.progress,
            )
        return self._loaded[key]
