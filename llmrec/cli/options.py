"""Arguments and options that several commands share, each declared once.

A command with a language model takes ``model: ModelOptions``, one that ranks also ``ask:
StrategyOptions``; `command` turns the fields of both into options.
"""

from __future__ import annotations

import functools
import gc
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from llmrec.cli.exits import ends_well
from llmrec.cli.output import waiting, without_bar
from llmrec.errors import OptionError

if TYPE_CHECKING:
    from llmrec.items import TextEncoder
    from llmrec.models import LanguageModel
    from llmrec.models.openai import Prices
    from llmrec.reranking import Strategy

_MODEL = "Language model"
_SERVER = "Language model on a server"

IndexFolder = Annotated[
    Path, typer.Argument(metavar="INDEX", help="Folder that `llmrec index` wrote.")
]
OptionalIndex = Annotated[
    Path | None,
    typer.Argument(metavar="[INDEX]", help="Folder that `llmrec index` wrote; optional."),
]
DataFolder = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", help="Folder with items and, optionally, interactions, reviews, users..."
    ),
]
MediaRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Another folder in which pictures, clips and sounds may lie; others are not opened.",
    ),
]
ColumnFile = Annotated[
    Path | None,
    typer.Option("--columns", metavar="FILE", help="JSON column map: names of files and columns."),
]
UserId = Annotated[str, typer.Option("--user", metavar="ID", help="Id of the user.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")
]
ExplainText = Annotated[
    str,
    typer.Option(
        "--text",
        metavar="HOW",
        help="Text of an explanation: statements (quotes the facts), template (one plain sentence) "
        "or written (by the language model).",
    ),
]
ItemTable = Annotated[
    Path | None,
    typer.Option(
        "--items",
        metavar="ITEMS",
        help="Table of items (.jsonl, .csv, .parquet) whose ids the requests name.",
    ),
]
ModelRef = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="REF",
        rich_help_panel=_MODEL,
        help="Hub id, folder, .gguf file, name from `llmrec models list`, "
        "openai:http://host:port/v1#model or vllm:model.",
        show_default="SmolLM2-135M-Instruct",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE",
        rich_help_panel=_MODEL,
        help="cpu, cuda, cuda:N, mps, or auto: all GPUs, then main memory.",
        show_default="the fastest available",
    ),
]
Quantization = Annotated[
    Literal["none", "nf4", "int8"],
    typer.Option(rich_help_panel=_MODEL, help="Quantization of the model's weights."),
]
SkipLayers = Annotated[
    int,
    typer.Option(
        "--skip-layers",
        min=0,
        metavar="N",
        rich_help_panel=_MODEL,
        help="Skip the last N layers: faster, with other scores.",
    ),
]
Adapter = Annotated[
    Path | None,
    typer.Option(
        "--adapter",
        metavar="ADAPTER",
        rich_help_panel=_MODEL,
        help="Folder of tuned weights that `llmrec train reranker` wrote.",
        show_default="none",
    ),
]
TokenizerRef = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="REF",
        rich_help_panel=_SERVER,
        help="Tokenizer of a server's model: tokens are then counted, not estimated.",
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(min=1, rich_help_panel=_SERVER, help="Concurrent requests.", show_default="8"),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        rich_help_panel=_SERVER,
        help="Request timeout in seconds.",
        show_default="60",
    ),
]
PriceTable = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        metavar="FILE",
        rich_help_panel=_SERVER,
        help="Price table (TOML or JSON), per million tokens; the cost is printed.",
    ),
]
StrategyNames = Annotated[
    list[str] | None,
    typer.Option(
        "--strategy",
        metavar="NAME",
        rich_help_panel=_MODEL,
        help="How the model ranks: likelihood, pointwise, graded, listwise, listwise-generated, "
        "setwise, pairwise or tournament. Given repeatedly, their scores are fused.",
        show_default="likelihood",
    ),
]
Templates = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        metavar="NAME",
        rich_help_panel=_MODEL,
        help="Name from `llmrec prompts list`, or a .jinja file; one per strategy.",
        show_default="the strategy's own",
    ),
]
Calibrate = Annotated[
    bool,
    typer.Option(
        "--calibrate",
        rich_help_panel=_MODEL,
        help="Subtract the content-free prior of the labels.",
    ),
]
Shuffles = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        rich_help_panel=_MODEL,
        help="Average over N shuffled orders (0: off).",
    ),
]
StopEarly = Annotated[
    bool,
    typer.Option(
        "--stop-early",
        rich_help_panel=_MODEL,
        help="Stop shuffling once the top 10 keeps its order.",
    ),
]


@dataclass(frozen=True)
class ModelOptions:
    """The language model, and how it runs or is reached; None takes the default."""

    model: ModelRef = None
    quantization: Quantization = "none"
    device: Device = None
    skip_layers: SkipLayers = 0
    adapter: Adapter = None
    tokenizer: TokenizerRef = None
    concurrency: Concurrency = None
    timeout: Timeout = None
    prices: PriceTable = None

    def rates(self) -> Prices | None:
        """The prices of its tokens, if a price table is given.

        Raises:
            OptionError: The table cannot be read, or does not name the model.
        """
        if self.prices is None:
            return None
        from llmrec.models import DEFAULT_LANGUAGE_MODEL
        from llmrec.models.openai import Prices
        from llmrec.models.references import parse_reference

        name = parse_reference(self.model or DEFAULT_LANGUAGE_MODEL).model
        return Prices.load(self.prices, name)

    def identity(self) -> str:
        """``name@revision`` without loading it; empty for a server's model.

        Raises:
            ModelError: It cannot be found.
        """
        from llmrec.models import DEFAULT_LANGUAGE_MODEL
        from llmrec.models.references import identity_of

        ref = self.model or DEFAULT_LANGUAGE_MODEL
        return identity_of(ref, self.quantization, self.skip_layers, self.adapter)

    def __call__(self) -> LanguageModel:
        """Load it; see :meth:`load`."""
        return self.load()

    def load(self) -> LanguageModel:
        """Load it, or connect to its server. Options are checked before anything is fetched.

        Raises:
            ModelError: It cannot be loaded, or not on that device.
            OptionError: An option is not one of this model's backend.
        """
        from llmrec.models import DEFAULT_LANGUAGE_MODEL, load_model, resolve_model
        from llmrec.models.references import parse_reference

        ref = self.model or DEFAULT_LANGUAGE_MODEL
        if parse_reference(ref).backend == "transformers":
            with waiting("Loading torch"):
                from llmrec.models.hardware import choose_placement
            choose_placement(self.device, None, self.quantization)
            with without_bar():
                name = f"Loading {resolve_model(ref, progress=True).name}"
        else:
            name = f"Connecting to {ref}"
        with waiting(name):
            model = load_model(
                ref,
                device=self.device,
                quantization=self.quantization,
                tokenizer=self.tokenizer,
                concurrency=self.concurrency,
                timeout=self.timeout,
                skip_last_layers=self.skip_layers,
                adapter=self.adapter,
            )
        gc.freeze()  # it lives to the end: looking for garbage in it takes a tenth of the time
        return model


@dataclass(frozen=True)
class StrategyOptions:
    """How the model ranks."""

    strategy: StrategyNames = None
    template: Templates = None
    calibrate: Calibrate = False
    shuffles: Shuffles = 0
    stop_early: StopEarly = False

    def make(self, adapter: Path | None = None, *, top: int = 0) -> tuple[Strategy, ...]:
        """Make the strategies, each with the template that is its own.

        Args:
            adapter: Folder of tuned weights; their strategy and template are the defaults.
            top: How many of the best are to be put in order, never fewer than 10: fitted weights,
                which are of the usual strategies, then hold.

        Raises:
            OptionError: There is no such strategy, one stands twice, a template is one too many, or
                the adapter was tuned on other prompts.
            PromptError: A template cannot be used, or is no given strategy's.
            StorageError: There is no adapter.
        """
        from llmrec.models.adapter import read_adapter
        from llmrec.reranking.reranker import check_prompts
        from llmrec.reranking.strategies import TOP, make_strategy

        tuned = read_adapter(adapter) if adapter else None
        names, templates = split_names(self.strategy), split_names(self.template, is_file)
        if tuned and not names and not templates:
            names, templates = [tuned.strategy], [tuned.template]
        names = names or ["likelihood"]
        if len(set(names)) < len(names):
            raise OptionError(f"--strategy {', '.join(names)}: name each strategy once.")
        chosen = _templates_of(names, templates)
        made = tuple(
            make_strategy(
                name,
                chosen.get(name),
                calibrate=self.calibrate,
                shuffles=self.shuffles,
                stop_early=self.stop_early,
                top=max(top, TOP),
            )
            for name in names
        )
        if tuned:
            check_prompts(tuned, made)
        return made


def _templates_of(names: Sequence[str], templates: Sequence[str]) -> dict[str, str]:
    """The template of each strategy."""
    from llmrec.prompting import load_template
    from llmrec.reranking.strategies import folder_of

    chosen: dict[str, str] = {}
    for template in templates:
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
    return chosen


def is_file(name: str) -> bool:
    """Whether a file of this name exists."""
    return Path(name).is_file()


def split_names(
    values: Iterable[str] | None, is_one: Callable[[str], bool] = lambda _: False
) -> list[str]:
    """Values of an option that is repeated or has commas; ``is_one``: a name that has commas."""
    return [
        name
        for value in values or ()
        for part in ([value] if is_one(value) else value.split(","))
        if (name := part.strip())
    ]


def load_text_encoder(ref: str | None = None) -> TextEncoder:
    """Load a text encoder; None takes the default one.

    Raises:
        ModelError: It cannot be loaded.
    """
    from llmrec.items import TextEncoder
    from llmrec.models import DEFAULT_TEXT_ENCODER, resolve_model

    ref = ref or DEFAULT_TEXT_ENCODER
    name = resolve_model(ref, progress=True).name
    with waiting(f"Loading {name}"):
        return TextEncoder.from_pretrained(ref)


def refuse_model_options(option: str, *given: ModelOptions | StrategyOptions) -> None:
    """Refuse model options together with an option that uses no model.

    Args:
        option: The option that uses no model.
        given: The others.

    Raises:
        OptionError: One differs from its default.
    """
    changed = [
        f"--{name.replace('_', '-')}"
        for options in given
        for name, value in asdict(options).items()
        if value != asdict(type(options)())[name]
    ]
    if changed:
        raise OptionError(
            f"{option} uses no model, but {', '.join(changed)} was given.",
            hint=f"Leave out {option}, or the other options.",
        )


def command(run: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function: errors become messages, option groups become options.

    A parameter that is annotated with a dataclass of options is replaced by the fields of it.
    """
    hints = get_type_hints(run, include_extras=True)
    groups = {
        name: kind
        for name, kind in hints.items()
        if isinstance(kind, type) and issubclass(kind, ModelOptions | StrategyOptions)
    }
    shown: list[inspect.Parameter] = []
    for parameter in inspect.signature(run).parameters.values():
        if parameter.name not in groups:
            shown.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        kind = groups[parameter.name]
        annotations = get_type_hints(kind, include_extras=True)
        shown += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=annotations[field.name],
            )
            for field in fields(kind)
        ]

    @functools.wraps(run)
    def with_groups(**values: Any) -> None:  # noqa: ANN401 - what typer parsed
        made = {
            name: kind(**{field.name: values.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        run(**values, **made)

    shown.sort(key=lambda parameter: parameter.name == "as_json")
    wrapped = ends_well(with_groups)
    wrapped.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # typer reads it
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return wrapped
