"""``llmrec train fusion`` and ``llmrec tune fusion``: a model of your own from your data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from llmrec.cli.data import SkipBroken, check_writable, read_data
from llmrec.cli.exits import ends_well
from llmrec.cli.options import (
    AsJson,
    ColumnFile,
    DataFolder,
    MediaRoot,
    load_text_encoder,
)
from llmrec.cli.output import fields, print_json, screen, waiting
from llmrec.errors import OptionError

if TYPE_CHECKING:
    from llmrec.catalog import Catalog
    from llmrec.items import ModalityVectors
    from llmrec.items.fusion import FusionConfig
    from llmrec.records import Interaction

app = typer.Typer(help="Train models on your data.", no_args_is_help=True)
tune_app = typer.Typer(help="Tune settings on your data.", no_args_is_help=True)

ModelFolderOut = Annotated[
    Path,
    typer.Option("--out", metavar="MODEL", help="Folder to write; run the same command to resume."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of FusionConfig; repeatable."),
]
Track = Annotated[
    Literal["tensorboard", "wandb"] | None,
    typer.Option(help="Log metrics there too; needs the extra `tracking`."),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Random seed.", show_default="0")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Maximum epochs.", show_default="100")]


class _TrainingInput(NamedTuple):
    """Training rows, vectors of the items, and each user's held-out last interaction."""

    training: Catalog
    modalities: Sequence[ModalityVectors]
    validation: Mapping[str, Interaction]


@app.callback()
def _train_group() -> None:
    """Train models on your data."""


@tune_app.callback()
def _tune_group() -> None:
    """Tune settings on your data."""


@app.command()
@ends_well
def fusion(
    data: DataFolder,
    *,
    out: ModelFolderOut,
    columns: ColumnFile = None,
    epochs: Epochs = None,
    seed: Seed = None,
    settings: Settings = None,
    skip_broken: SkipBroken = False,
    media_root: MediaRoot = None,
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """Train one representation of items from text, reviews, pictures and interactions.

    Each user's last interaction is held out for early stopping and the choice of the best epoch.
    """
    config = _config(settings, epochs, seed)
    check_writable(out)
    with waiting("Loading torch"):
        from llmrec.training import train_fusion
        from llmrec.training.tracking import open_tracker
    tracker = open_tracker(track, out / "runs", asdict(config)) if track else None
    try:
        given = _read_input(data, columns, skip_broken=skip_broken, media_root=media_root)
        trained = train_fusion(*given, config, out=out, progress=True, tracker=tracker)
    finally:
        if tracker:
            tracker.close()
    best = trained.best
    users = len(given.validation)
    if as_json:
        print_json(
            {
                "model": out,
                "name": trained.fusion.name,
                "modalities": dict(trained.fusion.modalities),
                "items_known": len(trained.fusion.item_ids),
                "validation_users": users,
                "best_epoch": trained.best_epoch,
                "recall@10": best.recall,
                "ndcg@10": best.ndcg,
                "hybrid_ndcg@10": best.hybrid,
                "epochs": [asdict(epoch) for epoch in trained.epochs],
                "config": asdict(config),
            }
        )
        return
    rows = {
        "Model": out,
        "Name": trained.fusion.name,
        "Modalities": ", ".join(trained.fusion.modalities),
        "Epochs": f"{len(trained.epochs)}, best {trained.best_epoch}",
    }
    if users:
        rows["recall@10"] = f"{best.recall:.3f} of {users:,} users' last items"
        rows["nDCG@10"] = f"{best.ndcg:.3f}; with the other signals {best.hybrid:.3f}"
    else:
        rows["Note"] = "No user has four items: the last epoch is kept without validation."
    screen().print(fields(rows))


@tune_app.command("fusion")
@ends_well
def tune_fusion_(
    data: DataFolder,
    *,
    out: ModelFolderOut,
    trials: Annotated[int, typer.Option(min=1, help="Settings to try.")] = 20,
    columns: ColumnFile = None,
    epochs: Epochs = None,
    seed: Seed = None,
    settings: Settings = None,
    skip_broken: SkipBroken = False,
    media_root: MediaRoot = None,
    as_json: AsJson = False,
) -> None:
    """Tune the settings of a fusion on each user's last interaction, then train with the best.

    Trials are saved in MODEL/trials.sqlite3; `--set` fixes settings that are not tuned.
    """
    config = _config(settings, epochs, seed)
    check_writable(out)
    with waiting("Loading torch"):
        from llmrec.training import train_fusion
        from llmrec.training.tuning import tune_fusion
    given = _read_input(data, columns, skip_broken=skip_broken, media_root=media_root)
    file = out / "trials.sqlite3"
    tuned = tune_fusion(*given, config, trials=trials, storage=file, progress=True)
    # No checkpoint: that of an earlier call, with fewer trials, has other settings.
    trained = train_fusion(*given, tuned.config, progress=True)
    trained.fusion.save(out)
    best, chosen = trained.best, asdict(tuned.config)
    about = {"model": out, "name": trained.fusion.name, "trials": tuned.trials}
    if as_json:
        metrics = {"recall@10": best.recall, "ndcg@10": best.ndcg, "hybrid_ndcg@10": best.hybrid}
        print_json({**about, **metrics, "config": chosen})
        return
    start = asdict(config)
    changed = ", ".join(f"{n}={value}" for n, value in chosen.items() if value != start[n])
    rows = {name.capitalize(): value for name, value in about.items()}
    shown = {"recall@10": f"{best.recall:.3f}", "nDCG@10": f"{best.ndcg:.3f}"}
    screen().print(fields({**rows, **shown, "Settings": changed}))


def _config(settings: list[str] | None, epochs: int | None, seed: int | None) -> FusionConfig:
    """Make settings of the command line's options.

    Raises:
        OptionError: One is not ``NAME=VALUE``, unknown, or not allowed.
    """
    from llmrec.items.fusion import FusionConfig

    given = named_values(settings)
    for name, number in (("epochs", epochs), ("seed", seed)):
        if number is not None:
            given[name] = str(number)
    return FusionConfig().with_texts(given)


def named_values(settings: list[str] | None) -> dict[str, str]:
    """Values of ``--set`` by name.

    Raises:
        OptionError: One is not ``NAME=VALUE``.
    """
    given: dict[str, str] = {}
    for entry in settings or ():
        name, equals, value = entry.partition("=")
        if not equals:
            raise OptionError(f"--set is {entry!r}; allowed is NAME=VALUE, such as dimension=128.")
        given[name.strip()] = value.strip()
    return given


def _read_input(
    data: Path, columns: Path | None, *, skip_broken: bool, media_root: Path | None
) -> _TrainingInput:
    """Read a data set, hold out each user's last interaction, and embed its items.

    Raises:
        DataError: The data set is broken.
        ModelError: An encoder cannot be loaded.
    """
    from llmrec.items import modalities_of
    from llmrec.training import hold_out_last_rows

    catalog = read_data(data, columns, skip_broken=skip_broken, media_root=media_root)
    with waiting("Holding out the last interactions"):
        training, validation = hold_out_last_rows(catalog)
    modalities = modalities_of(training, load_text_encoder(), progress=True)
    return _TrainingInput(training, modalities, validation)
