"""``llmrec index``: a dataset folder becomes an index folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.cli.clock import Clock
from llmrec.cli.exits import ends_well
from llmrec.cli.folders import SkipBroken, check_writable, read_data
from llmrec.cli.options import AsJson, ColumnFile, DataFolder
from llmrec.cli.output import fields, print_json, screen, waiting

if TYPE_CHECKING:
    from llmrec.catalog import Catalog
    from llmrec.retrieval import Index


@ends_well
def index(
    data: DataFolder,
    *,
    out: Annotated[Path, typer.Option(metavar="INDEX", help="The folder to write.")],
    columns: ColumnFile = None,
    fusion: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="A folder that `llmrec train fusion` made."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="Leave out reviews, image, clip or audio; repeatable."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="REF", help="The text encoder.", show_default="all-MiniLM-L6-v2"),
    ] = None,
    image_encoder: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="The encoder of pictures and clips.",
            show_default="clip-ViT-B-32; efficientnet-lite0 where no hub is reached",
        ),
    ] = None,
    captioner: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="What says what pictures and clips show.",
            show_default="efficientnet-lite0",
        ),
    ] = None,
    sentiment: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="What judges reviews: a text-classification model.",
            show_default="learned from the rated reviews",
        ),
    ] = None,
    skip_broken: SkipBroken = False,
    as_json: AsJson = False,
) -> None:
    """Understand and embed whole items, and save an index that opens without the data."""
    check_writable(out)
    from llmrec.cli.loading import load_text_encoder
    from llmrec.items import check_parts, modalities_of, understand_items
    from llmrec.items.fusion import Fusion
    from llmrec.models import DEFAULT_IMAGE_ENCODER, OFFLINE_IMAGE_MODEL
    from llmrec.retrieval import Index
    from llmrec.retrieval.storage import refuse_foreign

    left_out = tuple(without or ())
    check_parts(left_out)
    refuse_foreign(out)
    clock = Clock()
    trained = Fusion.open(fusion) if fusion else None
    if trained:
        clock.took("opening the fusion")
    catalog = read_data(data, columns, skip_broken=skip_broken)
    clock.took("reading")
    texts = load_text_encoder(encoder)
    clock.took("loading the text encoder")
    modalities = modalities_of(
        catalog,
        texts,
        without=left_out,
        image_encoder=image_encoder or DEFAULT_IMAGE_ENCODER,
        progress=True,
    )
    clock.took("embedding")
    insights = understand_items(
        catalog,
        texts,
        without=left_out,
        captioner=captioner or OFFLINE_IMAGE_MODEL,
        sentiment=sentiment,
        progress=True,
    )
    clock.took("understanding")
    made = Index.build(catalog, texts, modalities=modalities, insights=insights, fusion=trained)
    with waiting("Saving"):
        made.save(out)
    clock.took("saving")
    _print(
        made,
        catalog,
        {given.name: given.coverage for given in modalities},
        clock.seconds,
        {"index": out, "data": data},
        as_json=as_json,
    )


def _print(
    made: Index,
    catalog: Catalog,
    coverage: dict[str, float],
    seconds: dict[str, float],
    folders: dict[str, Path],
    *,
    as_json: bool,
) -> None:
    counts = {
        "items": len(made.items),
        "users": len(made.user_ids),
        "interactions": len(made.interactions),
        "reviews": len(made.reviews),
    }
    unread = {name: insight.gaps for name, insight in made.insights.items() if insight.gaps}
    gaps = Counter(part for reasons in unread.values() for part in reasons)
    fusion = made.fusion.name if made.fusion else None
    if as_json:
        print_json(
            {
                "index": folders["index"],
                **counts,
                "encoder": made.encoder,
                "modalities": made.modalities,
                "coverage": coverage,
                "fusion": fusion,
                "insights": len(made.insights),
                "gaps": gaps,
                "gaps_by_item": unread,
                "fingerprint": made.fingerprint,
                "left_out": catalog.problems,
                "seconds": sum(seconds.values()),
                "seconds_by_stage": seconds,
            }
        )
        return
    broken = f"{len(catalog.problems):,} broken rows, see `llmrec data check {folders['data']}`"
    spent = ", ".join(f"{what} {took:.1f}" for what, took in seconds.items())
    first = made.user_ids[0] if made.user_ids else None
    screen().print(
        fields(
            {
                "Index": folders["index"],
                **{name.capitalize(): f"{count:,}" for name, count in counts.items()},
                "Left out": broken if catalog.problems else "",
                "Modalities": ", ".join(f"{k} {v:.0%}" for k, v in coverage.items()),
                "Gaps": ", ".join(f"{part} {n:,}" for part, n in gaps.items()),
                "Such as": _examples(unread, gaps),
                "Fusion": fusion or "",
                "Encoders": ", ".join(dict.fromkeys(made.modalities.values())),
                "Seconds": f"{sum(seconds.values()):.1f}: {spent}",
                "Next": f"llmrec recommend {folders['index']} --user {first}" if first else "",
            }
        )
    )


def _examples(unread: Mapping[str, Mapping[str, str]], parts: Iterable[str]) -> str:
    """The first gap of each part, with its reason, and where the others are told."""
    first = [next((n, why[part]) for n, why in unread.items() if part in why) for part in parts]
    told = "; ".join(f"{item_id}: {reason.rstrip('.')}" for item_id, reason in first)
    return f"{told}. All of them: --json." if told else ""
