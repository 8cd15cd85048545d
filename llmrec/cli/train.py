"""``llmrec train``: models of your own from your data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from llmrec.cli.exits import ends_well
from llmrec.cli.folders import SkipBroken, check_writable
from llmrec.cli.options import AsJson, ColumnFile, DataFolder
from llmrec.cli.output import fields, print_json, screen, waiting
from llmrec.cli.training import Epochs, ModelFolderOut, Seed, Settings, config_of, read_material

app = typer.Typer(help="Train models on your data.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Train models on your data."""


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
    track: Annotated[
        Literal["tensorboard", "wandb"] | None,
        typer.Option(help="Where figures go too; needs the extra `tracking`."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train one representation of items from text, reviews, pictures and who met what.

    Each user's last interaction is held out: it says when to stop and which epoch is best.
    """
    config = config_of(settings, epochs, seed)
    check_writable(out)
    with waiting("Loading torch"):
        from llmrec.training import train_fusion
        from llmrec.training.tracking import open_tracker
    tracker = open_tracker(track, out / "runs", asdict(config)) if track else None
    try:
        material = read_material(data, columns, skip_broken=skip_broken)
        trained = train_fusion(
            material.training, material.modalities, material.validation, config,
            out=out, progress=True, tracker=tracker,
        )  # fmt: skip
    finally:
        if tracker:
            tracker.close()
    best = trained.best
    if as_json:
        print_json(
            {
                "model": out,
                "name": trained.fusion.name,
                "modalities": dict(trained.fusion.modalities),
                "items_known": len(trained.fusion.item_ids),
                "validation_users": len(material.validation),
                "best_epoch": trained.best_epoch,
                "recall@20": best.recall,
                "ndcg@10": best.ndcg,
                "epochs": [asdict(epoch) for epoch in trained.epochs],
                "config": asdict(config),
            }
        )
        return
    held = f"{len(material.validation):,} users' last items"
    screen().print(
        fields(
            {
                "Model": out,
                "Name": trained.fusion.name,
                "Modalities": ", ".join(trained.fusion.modalities),
                "Epochs": f"{len(trained.epochs)}, best {trained.best_epoch}",
                "recall@20": "" if best.recall is None else f"{best.recall:.3f} of {held}",
                "nDCG@10": "" if best.ndcg is None else f"{best.ndcg:.3f}",
                "Note": ""
                if material.validation
                else "Nobody has five interactions: the last "
                "epoch is kept, and nothing says how good it is.",
            }
        )
    )
