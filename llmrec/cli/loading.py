"""Models for a command: fetched and loaded, with a bar for what takes its time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from llmrec.cli.output import waiting
from llmrec.errors import ModelError, OptionError
from llmrec.prompting import load_template
from llmrec.records import User
from llmrec.reranking import Reranker, Strategy, make_strategy
from llmrec.reranking.strategies import TOP, folder_of
from llmrec.retrieval import Index, Retriever

if TYPE_CHECKING:
    from pathlib import Path

    from llmrec.items import TextEncoder
    from llmrec.models import LanguageModel
    from llmrec.models.openai import Prices
    from llmrec.retrieval.rules import Rules

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelChoice:
    """Which language model, and how it runs or is reached; None takes the default."""

    ref: str | None = None
    device: str | None = None
    quantization: str = "none"
    tokenizer: str | None = None
    concurrency: int | None = None
    timeout: float | None = None
    prices: Path | None = None
    skip_layers: int = 0

    def given(self) -> dict[str, object]:
        """What was asked for and is not taken anyway, by the names of the options."""
        usual = asdict(ModelChoice())
        said = {name: value for name, value in asdict(self).items() if value != usual[name]}
        return {{"ref": "model"}.get(name, name): value for name, value in said.items()}

    def rates(self) -> Prices | None:
        """What its tokens cost, where a table of prices was given.

        Raises:
            OptionError: The table cannot be read, or does not name the model.
        """
        if self.prices is None:
            return None
        from llmrec.models import DEFAULT_LANGUAGE_MODEL
        from llmrec.models.openai import Prices
        from llmrec.models.references import parse_reference

        name = parse_reference(self.ref or DEFAULT_LANGUAGE_MODEL).model
        return Prices.load(self.prices, name)

    def load(self) -> LanguageModel:
        """Load it, or connect to its server. Options are checked before anything is fetched.

        Raises:
            ModelError: It cannot be had, or not on that device.
            OptionError: An option is not one of this model's backend.
        """
        from llmrec.models import DEFAULT_LANGUAGE_MODEL, resolve_model
        from llmrec.models.references import parse_reference

        ref = self.ref or DEFAULT_LANGUAGE_MODEL
        if parse_reference(ref).backend == "transformers":
            with waiting("Loading torch"):
                from llmrec.models.hardware import choose_placement
            choose_placement(self.device, None, self.quantization)
            name = f"Loading {resolve_model(ref, progress=True).name}"
        else:
            name = f"Connecting to {ref}"
        with waiting(name):
            from llmrec.models import load_model

            return load_model(
                ref,
                device=self.device,
                quantization=self.quantization,
                tokenizer=self.tokenizer,
                concurrency=self.concurrency,
                timeout=self.timeout,
                skip_last_layers=self.skip_layers,
            )


def load_text_encoder(ref: str | None = None) -> TextEncoder:
    """Load a text encoder; None takes the default one.

    Raises:
        ModelError: It cannot be had.
    """
    from llmrec.items import TextEncoder
    from llmrec.models import DEFAULT_TEXT_ENCODER, resolve_model

    ref = ref or DEFAULT_TEXT_ENCODER
    name = resolve_model(ref, progress=True).name
    with waiting(f"Loading {name}"):
        return TextEncoder.from_pretrained(ref)


def describe_model(model: LanguageModel) -> dict[str, object]:
    """What identifies a loaded model in a JSON document."""
    about: dict[str, object] = {"name": model.name, "revision": model.revision}
    for name in ("placement", "capabilities"):  # of weights in this process, of a server
        found = getattr(model, name, None)
        about |= asdict(found) if found else {}
    return about


@dataclass(frozen=True)
class Asking:
    """What a language model is to be asked, and which: made, and so checked, before it is loaded.

    Args:
        strategies: How it ranks; the scores of several are fused.
        model: Which one.
    """

    strategies: tuple[Strategy, ...]
    model: ModelChoice = field(default_factory=ModelChoice)

    def load(self, index: Index) -> tuple[Reranker, LanguageModel]:
        """Load the model, for ranking items of an index.

        Raises:
            ModelError: It cannot be had, or not on that device.
            OptionError: An option is not one of this model's backend.
        """
        model = self.model.load()
        return Reranker(model, index, strategy=self.strategies), model


def strategies_of(
    names: Sequence[str] | None,
    templates: Sequence[str] | None,
    *,
    calibrate: bool,
    shuffles: int,
    stop_early: bool,
    top: int = TOP,
) -> tuple[Strategy, ...]:
    """The strategies that options name, each with the template that is its own.

    ``top`` is how many of the best are to be put in order, never fewer than usual: then fitted
    weights, which are of the usual strategies, hold.

    Raises:
        OptionError: There is no such strategy, one stands twice, or a template is one too many.
        PromptError: A template cannot be used, or is no given strategy's.
    """
    names = tuple(names or ("likelihood",))
    if len(set(names)) < len(names):
        raise OptionError(f"--strategy {', '.join(names)}: name each strategy once.")
    chosen: dict[str, str] = {}
    for template in templates or ():
        folder = load_template(template).strategy
        fits = [name for name in names if folder in {name, folder_of(name)} and name not in chosen]
        if len(names) > 1 and not fits:
            raise OptionError(
                f"--template {template} is for the strategy {folder}; the strategies that lack one "
                f"are {', '.join(name for name in names if name not in chosen) or 'none'}.",
                hint="Give one template a strategy, from the folder of its name.",
            )
        name = fits[0] if fits else names[0]
        if name in chosen:
            raise OptionError(f"--template is given more than once for {name}.", hint="Give one.")
        chosen[name] = template
    return tuple(
        make_strategy(
            name,
            chosen.get(name),
            calibrate=calibrate,
            shuffles=shuffles,
            stop_early=stop_early,
            top=max(top, TOP),
        )
        for name in names
    )


@dataclass(frozen=True)
class Served:
    """A retriever for one user, and what has to be said where the user has no history."""

    retriever: Retriever
    note: str = ""


def retriever_for(index: Index, user: User, rules: Rules | None = None) -> Served:
    """A retriever that serves a user without history by the profile, where there is one."""
    if user.history:
        return Served(Retriever(index, rules=rules))
    who = f"User {user.user_id} has no history"
    if not user.profile:
        return Served(Retriever(index, rules=rules), f"{who} and no profile: popularity serves.")
    encoder = _encoder_of(index.encoder)
    if encoder is None:
        return Served(
            Retriever(index, rules=rules), f"{who}: popularity serves, the profile cannot be read."
        )
    return Served(
        Retriever(index, encoder=encoder, rules=rules), f"{who}: the profile and popularity serve."
    )


@cache
def _encoder_of(made_with: str) -> TextEncoder | None:
    """The encoder an index was made with, ``name@revision``, or None with a warning."""
    name, _, _ = made_with.partition("@")
    try:
        encoder = load_text_encoder(name)
    except ModelError as error:
        logger.warning("The index's text encoder %s cannot be had: %s", made_with, error)
        return None
    if encoder.name != made_with:
        logger.warning("The index was made with %s; there is only %s.", made_with, encoder.name)
        return None
    return encoder
