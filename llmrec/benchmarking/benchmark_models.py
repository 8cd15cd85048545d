"""The language models of a benchmark: their revisions, their tokenizers, and themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrec.errors import OptionError
from llmrec.models import load_model, resolve_model
from llmrec.models.references import load_reader, parse_reference, takes
from llmrec.models.resolve import revision_of
from llmrec.models.vllm_engine import import_vllm

if TYPE_CHECKING:
    from llmrec.models import LanguageModel


@dataclass
class BenchmarkModels:
    """Models by reference and quantization; only the last one loaded stays in memory.

    Connections to servers stay open. Each model gets the options that it takes.

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

    @property
    def _options(self) -> dict[str, Any]:
        """Those that were given, by their names in `load_model`."""
        options = {
            "device": self.device,
            "tokenizer": self.tokenizer,
            "concurrency": self.concurrency,
            "timeout": self.timeout,
            "skip_last_layers": self.skip_layers or None,
            "adapter": self.adapter,
        }
        return {name: value for name, value in options.items() if value is not None}

    def check_options(self, refs: Sequence[str]) -> None:
        """Refuse an option that no model of a plan takes, and an adapter for several models.

        Raises:
            OptionError: There is such an option.
        """
        for name, value in self._options.items():
            taking = [ref for ref in refs if takes(ref, name)]
            if not taking:
                load_model(refs[0], **{name: value})  # refuses it
            if name == "adapter" and len(taking) > 1:
                raise OptionError(
                    f"The adapter {value} belongs to one model; the plan has {', '.join(taking)}.",
                    hint="Run a plan for each model, or leave the adapter out.",
                )

    def revision(self, ref: str, quantization: str) -> str:
        """Identifies a model's weights, quantization and dtype, without loading them.

        A server is asked what it serves.

        Raises:
            ModelError: The model, the device or vLLM is not available.
            OptionError: A server is asked to quantize, or vLLM does not have the quantization.
        """
        what = parse_reference(ref)
        if what.backend == "openai":
            return self.load(ref, quantization).revision
        if what.backend == "vllm":
            import_vllm(what.model, quantization)
            found = resolve_model(what.model, progress=self.progress)
            return revision_of(found.revision, quantization)
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
        if parse_reference(ref).backend == "openai":
            return self.load(ref, "none")
        if ref not in self._readers:
            self._readers[ref] = load_reader(ref, progress=self.progress)
        return self._readers[ref]

    def load(self, ref: str, quantization: str) -> LanguageModel:
        """Load it, or return it where it is loaded.

        Raises:
            ModelError: The model is not available, or not on that device.
            OptionError: A server is asked to quantize.
        """
        key, served = (ref, quantization), parse_reference(ref).backend == "openai"
        kept = self._served if served else self._loaded
        if key not in kept:
            if not served:
                kept.clear()
            own = {name: value for name, value in self._options.items() if takes(ref, name)}
            kept[key] = load_model(ref, quantization=quantization, progress=self.progress, **own)
        return kept[key]
