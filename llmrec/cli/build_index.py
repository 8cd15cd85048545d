"""``llmrec index``: build an index folder from a data set folder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.cli.data import SkipBroken, check_command, check_writable, read_data
from llmrec.cli.exits import ends_well
from llmrec.cli.options import (
    AsJson,
    ColumnFile,
    DataFolder,
    MediaRoot,
    load_text_encoder,
    split_names,
)
from llmrec.cli.output import fields, print_json, screen, waiting
from llmrec.errors import DataError, OptionError

if TYPE_CHECKING:
    from llmrec.catalog import Catalog
    from llmrec.items import ModalityVectors
    from llmrec.items.fusion import Fusion
    from llmrec.retrieval import Index


@ends_well
def index(
    data: DataFolder,
    *,
    out: Annotated[Path, typer.Option(metavar="INDEX", help="Folder to write.")],
    columns: ColumnFile = None,
    fusion: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Folder that `llmrec train fusion` wrote."),
    ] = None,
    train_sequence: Annotated[
        bool,
        typer.Option(
            "--train-sequence",
            help="Train a fusion on the interactions, and the weights of all signals with it.",
        ),
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="Leave out reviews, image, clip or audio; repeatable."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="REF", help="Text encoder.", show_default="all-MiniLM-L6-v2"),
    ] = None,
    image_encoder: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="Encoder of pictures and clips.",
            show_default="clip-ViT-B-32; efficientnet-lite0 if the hub cannot be reached",
        ),
    ] = None,
    captioner: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="Image captioning model.",
            show_default="class names of efficientnet-lite0",
        ),
    ] = None,
    sentiment: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="Text classification model for the sentiment of reviews.",
            show_default="trained on rated reviews, else multilingual or zero-shot",
        ),
    ] = None,
    media_root: MediaRoot = None,
    skip_broken: SkipBroken = False,
    as_json: AsJson = False,
) -> None:
    """Understand and embed items, and save an index that opens without the data."""
    if fusion and train_sequence:
        raise OptionError(
            "--fusion and --train-sequence are both given.", hint="Give one of the two."
        )
    check_writable(out)
    from llmrec.items import check_parts, modalities_of, understand_items
    from llmrec.items.fusion import Fusion
    from llmrec.models import DEFAULT_IMAGE_ENCODER, OFFLINE_IMAGE_MODEL
    from llmrec.retrieval import WEIGHTS_KEY, Index
    from llmrec.retrieval.storage import refuse_foreign

    left_out = tuple(split_names(without))
    check_parts(left_out)
    refuse_foreign(out)
    clock = _Stages()
    trained = Fusion.open(fusion) if fusion else None
    if trained:
        clock.end("opening the fusion")
    catalog = read_data(data, columns, skip_broken=skip_broken, media_root=media_root)
    _check_size(catalog, train_sequence=train_sequence)
    clock.end("reading")
    texts = load_text_encoder(encoder)
    clock.end("loading the text encoder")

    embed = partial(
        modalities_of,
        encoder=texts,
        without=left_out,
        image_encoder=image_encoder or DEFAULT_IMAGE_ENCODER,
        progress=True,
    )
    modalities = embed(catalog)
    clock.end("embedding")
    training_folder = out.with_name(f"{out.name}.training")
    if train_sequence:
        trained = _train(catalog, embed, training_folder)
        clock.end("training")
    insights = understand_items(
        catalog,
        texts,
        without=left_out,
        captioner=captioner or OFFLINE_IMAGE_MODEL,
        sentiment=sentiment,
        progress=True,
    )
    clock.end("understanding")
    made = Index.build(catalog, texts, modalities=modalities, insights=insights, fusion=trained)
    if train_sequence:
        made = _with_learned_weights(made)
        clock.end("learning weights")
    with waiting("Saving"):
        made.save(out)
    if train_sequence:
        rmtree(training_folder)
    clock.end("saving")
    coverage = {given.name: given.coverage for given in modalities}
    unread = {name: insight.gaps for name, insight in made.insights.items() if insight.gaps}
    gaps = Counter(part for reasons in unread.values() for part in reasons)
    counts = {
        "items": len(made.items),
        "users": len(made.user_ids),
        "interactions": len(made.interactions),
        "reviews": len(made.reviews),
    }
    if as_json:
        print_json(
            {
                "index": out,
                **counts,
                "encoder": made.encoder,
                "modalities": made.modalities,
                "coverage": coverage,
                "fusion": trained.name if trained else None,
                "weights": made.weights,
                "insights": len(made.insights),
                "gaps": gaps,
                "gaps_by_item": unread,
                "fingerprint": made.fingerprint,
                "left_out": catalog.problems,
                "seconds": sum(clock.seconds.values()),
                "seconds_by_stage": clock.seconds,
            }
        )
        return
    broken = f"{len(catalog.problems):,} broken rows, see `{check_command(data, columns)}`"
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in clock.seconds.items())
    first = next(iter(made.user_ids), None)
    rows = {
        "Index": out,
        **{name.capitalize(): f"{count:,}" for name, count in counts.items()},
        "Left out": broken if catalog.problems else "",
        "Modalities": ", ".join(f"{name} {share:.0%}" for name, share in coverage.items()),
        "Gaps": ", ".join(f"{part} {count:,}" for part, count in gaps.items()),
        "Examples": _examples(unread, gaps),
        "Fusion": trained.name if trained else "",
        "Weights": ", ".join(
            f"{name} {weight:.2f}" for name, weight in made.weights.get(WEIGHTS_KEY, {}).items()
        ),
        "Encoders": ", ".join(dict.fromkeys(made.modalities.values())),
        "Seconds": f"{sum(clock.seconds.values()):.1f}: {stages}",
        "Next": f"llmrec recommend {out} --user {first}" if first else "",
    }
    screen().print(fields(rows))


def _check_size(catalog: Catalog, *, train_sequence: bool) -> None:
    """Refuse what cannot be indexed before anything is embedded.

    Raises:
        DataError: There is nothing to train on.
        OptionError: So many items need faiss, which is not installed.
    """
    from llmrec.retrieval import check_faiss

    check_faiss(len(catalog.items))
    if train_sequence and not catalog.interactions:
        raise DataError(
            "The data set has no interactions to train on.", hint="Leave out --train-sequence."
        )


def _train(
    catalog: Catalog, embed: Callable[[Catalog], Sequence[ModalityVectors]], folder: Path
) -> Fusion:
    """Train a fusion without each user's last interaction; ``folder`` keeps checkpoints."""
    from llmrec.training import hold_out_last_rows, train_fusion

    training, validation = hold_out_last_rows(catalog)
    return train_fusion(training, embed(training), validation, out=folder, progress=True).fusion


def _with_learned_weights(index: Index) -> Index:
    """Learn the weights of all signals, where any user has enough interactions."""
    from llmrec.retrieval import WEIGHTS_KEY, hold_out, learn_weights

    if not hold_out(index)[1]:
        return index
    return index.with_weights(WEIGHTS_KEY, learn_weights(index, progress=True).weights)


class _Stages:
    """Seconds of each stage of a command."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def end(self, stage: str) -> None:
        """Count the time since the last call as ``stage``."""
        now = time.perf_counter()
        self.seconds[stage] = now - self.last
        self.last = now


def _examples(unread: Mapping[str, Mapping[str, str]], parts: Iterable[str]) -> str:
    """Name an item for each part that could not be read, with the reason."""
    first = [next((n, why[part]) for n, why in unread.items() if part in why) for part in parts]
    examples = "; ".join(f"{item_id}: {reason.rstrip('.')}" for item_id, reason in first)
    return f"{examples}. All of them: --json." if examples else ""
