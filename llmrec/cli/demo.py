"""``llmrec demo``: the main job on the embedded sample."""

from __future__ import annotations

from typing import Annotated

import typer

from llmrec.cli.exits import ends_well
from llmrec.cli.options import AsJson, ModelRef


@ends_well
def demo(
    *,
    user: Annotated[str, typer.Option(metavar="ID", help="A user of the sample, u01 to u21.")] = (
        "u19"
    ),
    k: Annotated[int, typer.Option("-k", min=1, help="How many items to print.")] = 10,
    model: ModelRef = None,
    as_json: AsJson = False,
) -> None:
    """Retrieve, rerank and explain one user's items of the embedded sample: before and after."""
    from llmrec.cli.demonstration import print_demonstration, run_demonstration

    print_demonstration(run_demonstration(user, model), k, as_json=as_json)
