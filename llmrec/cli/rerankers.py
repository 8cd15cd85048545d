"""``llmrec train reranker``, ``tune reranker`` and ``train merge``: tune a language model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from llmrec.cli.data import check_writable
from llmrec.cli.exits import ends_well
from llmrec.cli.options import AsJson, Device, IndexFolder, ModelRef
from llmrec.cli.output import fields, print_json, screen, waiting
from llmrec.cli.train import Seed, Track, app, named_values, tune_app
from llmrec.errors import OptionError

if TYPE_CHECKING:
    from llmrec.models import TransformersModel
    from llmrec.prompting import Template
    from llmrec.training.train_reranker import Tuned
    from llmrec.training.tuning_data import TuningData
    from llmrec.training.tuning_settings import TuningSettings

__all__ = ["app", "tune_app"]

_PANEL = "Language model"
AdapterOut = Annotated[
    Path, typer.Option("--out", metavar="ADAPTER", help="Folder to write; run again to resume.")
]
Objective = Annotated[
    Literal["next-title", "list", "pointwise", "listwise"],
    typer.Option(
        help="next-title: predict every title of a history from those before it. list: choose "
        "each user's next item among the retriever's candidates, by the likelihood of its title. "
        "pointwise, listwise: the same by the labels of these strategies."
    ),
]
Weights = Annotated[
    Literal["lora", "qlora", "full"],
    typer.Option(help="LoRA on linear layers, LoRA on a model in NF4, or all weights."),
]
TemplateRef = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Template of the strategy, by name or .jinja file.",
        show_default="likelihood/list, or the strategy's default",
    ),
]
Teacher = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="JSON lines of `llmrec rerank --out` by a stronger ranker: learn its scores instead "
        "of the users' next items.",
    ),
]
Start = Annotated[
    Path | None,
    typer.Option(metavar="ADAPTER", help="Adapter to start from, such as one of next-title."),
]
Events = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Training events of a user, before the last one.",
        show_default="3, on a CPU 1",
    ),
]
Lists = Annotated[
    int | None,
    typer.Option(min=1, help="Training lists of each event, at most.", show_default="all"),
]
Validation = Annotated[
    int | None,
    typer.Option(min=20, help="Validation lists at most.", show_default="500, on a CPU 150"),
]
MaxTime = Annotated[
    float | None,
    typer.Option(
        "--max-time",
        min=0.0,
        help="Time limit of the command in minutes, validation included. The same command "
        "resumes an unfinished run.",
        show_default="none",
    ),
]
TuningEpochs = Annotated[int | None, typer.Option(min=1, help="Maximum epochs.", show_default="3")]
TuningSet = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of TuningSettings; repeatable."),
]


@dataclass(frozen=True)
class _Given:
    """What a tuning is made of."""

    settings: TuningSettings
    template: Template
    data: TuningData
    load: Callable[[], TransformersModel]


@app.command(rich_help_panel=_PANEL)
@ends_well
def reranker(
    index: IndexFolder,
    *,
    out: AdapterOut,
    objective: Objective = "list",
    weights: Weights = "lora",
    model: ModelRef = None,
    template: TemplateRef = None,
    teacher: Teacher = None,
    start: Start = None,
    events: Events = None,
    lists: Lists = None,
    validation: Validation = None,
    max_time: MaxTime = None,
    epochs: TuningEpochs = None,
    seed: Seed = None,
    settings: TuningSet = None,
    device: Device = None,
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """Tune a language model on your interactions, for `--adapter` of the other commands.

    Each user's last interaction is held out for validation: nDCG@10 of the gated score. The
    untuned model is kept where tuning is not better. Needs the extra `train`.
    """
    began = time.monotonic()
    config, chosen = _chosen(objective, weights, template, start, epochs, seed, settings)
    check_writable(out)
    given = _read(
        index, config, chosen, model, device, teacher, events=events, lists=lists,
        validation=validation,
    )  # fmt: skip
    from llmrec.training.tracking import open_tracker
    from llmrec.training.train_reranker import tune_reranker

    tracker = open_tracker(track, out / "runs", asdict(config)) if track else None
    try:
        tuned = tune_reranker(
            given.load(),
            given.data,
            chosen,
            out,
            config,
            start=start,
            minutes=None if max_time is None else max_time - (time.monotonic() - began) / 60,
            fit_time=True,
            progress=True,
            tracker=tracker,
        )
    finally:
        if tracker:
            tracker.close()
    _show(tuned, out, {}, start=start, as_json=as_json)


@tune_app.command("reranker", rich_help_panel=_PANEL)
@ends_well
def tune_reranker_(
    index: IndexFolder,
    *,
    out: AdapterOut,
    trials: Annotated[int, typer.Option(min=1, help="Settings to try.")] = 10,
    objective: Objective = "list",
    weights: Weights = "lora",
    model: ModelRef = None,
    template: TemplateRef = None,
    teacher: Teacher = None,
    events: Events = None,
    lists: Lists = None,
    validation: Validation = None,
    max_time: Annotated[
        float | None,
        typer.Option(
            "--max-time", min=0.0, help="Time limit per trial, in minutes.", show_default="none"
        ),
    ] = None,
    epochs: TuningEpochs = None,
    seed: Seed = None,
    settings: TuningSet = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Try settings of a language model's tuning on validation lists, then train with the best.

    Trials are saved in ADAPTER/trials.sqlite3; `--set` fixes settings that are not tried. Needs the
    extras `train` and `tune`.
    """
    config, chosen = _chosen(objective, weights, template, None, epochs, seed, settings)
    check_writable(out)
    given = _read(
        index, config, chosen, model, device, teacher, events=events, lists=lists,
        validation=validation,
    )  # fmt: skip
    from llmrec.training.train_reranker import tune_reranker
    from llmrec.training.tuning import TRIED, tune_reranker_settings

    best = tune_reranker_settings(
        given.load,
        given.data,
        chosen,
        config,
        trials=trials,
        minutes=max_time,
        storage=out / "trials.sqlite3",
        progress=True,
    )
    tuned = tune_reranker(
        given.load(),
        given.data,
        chosen,
        out,
        best.config,
        minutes=max_time,
        fit_time=True,
        restart=TRIED,  # an earlier call, with fewer trials, may have found others
        progress=True,
    )
    plain = asdict(config)
    changed = {n: value for n, value in asdict(best.config).items() if value != plain[n]}
    _show(tuned, out, {"trials": best.trials, "settings": changed}, as_json=as_json)


@app.command(rich_help_panel=_PANEL)
@ends_well
def merge(
    adapter: Annotated[
        Path, typer.Argument(metavar="ADAPTER", help="Folder that `llmrec train reranker` wrote.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="MODEL", help="Folder to write.")],
    model: ModelRef = None,
    as_json: AsJson = False,
) -> None:
    """Merge an adapter into its model: a plain transformers folder with the same scores.

    llama.cpp's convert_hf_to_gguf.py makes a GGUF file of that folder.
    """
    from llmrec.models.adapter import merge_adapter, read_adapter

    record = read_adapter(adapter)
    with waiting("Loading torch"):
        from llmrec.models import TransformersModel
    base = model or record.base.partition("@")[0]
    loaded = TransformersModel.from_pretrained(base, device="cpu", dtype="float32", progress=True)
    difference = merge_adapter(loaded.model, loaded.tokenizer, adapter, out)
    if as_json:
        print_json({"model": out, "base": record.base, "difference": difference})
        return
    screen().print(fields({"Model": out, "Difference": f"{difference:.1e} in log-probability"}))


def _chosen(
    objective: str,
    weights: str,
    template: str | None,
    start: Path | None,
    epochs: int | None,
    seed: int | None,
    settings: list[str] | None,
) -> tuple[TuningSettings, Template]:
    """Check settings and template, before anything is loaded.

    Raises:
        OptionError: A setting is unknown or not allowed, or the template is of another strategy.
        StorageError: ``start`` is no adapter.
    """
    from llmrec.prompting import DEFAULT_TEMPLATES, load_template
    from llmrec.training.tuning_settings import TuningSettings, check_start

    named = {"objective": objective, "weights": weights}
    given = {"epochs": epochs, "seed": seed}
    named |= {name: str(value) for name, value in given.items() if value is not None}
    config = TuningSettings.from_texts({**named, **named_values(settings)})
    usual = DEFAULT_TEMPLATES[config.strategy]
    default = "likelihood/list" if config.strategy == "likelihood" else usual
    chosen = load_template(template or default)
    if chosen.strategy != config.strategy:
        raise OptionError(
            f"--template {template} is for {chosen.strategy}; the objective {config.objective} "
            f"takes templates of {config.strategy}.",
            hint=f"Take {default}.",
        )
    if start is not None:
        check_start(start, config, chosen)
    return config, chosen


def _read(
    index: Path,
    config: TuningSettings,
    template: Template,
    model: str | None,
    device: str | None,
    teacher: Path | None,
    *,
    events: int | None,
    lists: int | None,
    validation: int | None,
) -> _Given:
    """Load the model once, for its tokenizer, and make the lists.

    Raises:
        DataError: There is no list.
        ModelError: The model cannot be loaded.
    """
    from llmrec.models import DEFAULT_LANGUAGE_MODEL
    from llmrec.retrieval import Index

    opened = Index.open(index)
    with waiting("Loading torch"):
        from llmrec.models import TransformersModel
        from llmrec.training.tuning_lists import tuning_data

    def load() -> TransformersModel:
        return TransformersModel.from_pretrained(
            model or DEFAULT_LANGUAGE_MODEL,
            device=device,
            dtype="float32",
            quantization="nf4" if config.weights == "qlora" else "none",
            progress=True,
        )

    loaded = load()
    on_cpu = loaded.placement.device == "cpu"
    with waiting("Retrieving candidates"):
        data = tuning_data(
            opened,
            loaded,
            template,
            strategy=config.strategy,
            teacher=teacher,
            events=events or (1 if on_cpu else 3),
            lists=lists,
            validation=validation or (150 if on_cpu else 500),
            windows=not config.on_lists,
            seed=config.seed,
        )
    unused = [loaded]  # the first to load is the one that is here
    return _Given(config, template, data, lambda: unused.pop() if unused else load())


def _show(
    tuned: Tuned, out: Path, more: dict[str, object], *, start: Path | None = None, as_json: bool
) -> None:
    if as_json:
        print_json({"adapter": out, **asdict(tuned), **more})
        return
    rows: dict[str, object] = {
        "Adapter": out if tuned.finished else "not finished: run again to resume",
        "Steps": f"{tuned.step} of {tuned.steps}, best {tuned.best}",
        "nDCG@10": f"{tuned.ndcg[tuned.best]:.4f} of {tuned.validation_lists:,} validation lists",
        "start" if start else "untuned": f"{tuned.ndcg[0]:.4f}",
        "no model": f"{tuned.control:.4f}",
        **{name.capitalize(): str(value) for name, value in more.items()},
    }
    if tuned.finished and not tuned.best:
        rows["Note"] = f"Tuning was not better: the adapter keeps {start or 'the untuned model'}."
    rows |= {name: f"{count} times" for name, count in tuned.fallbacks.items()}
    screen().print(fields(rows))
