"""What ``llmrec train`` and ``llmrec tune`` share: their material and their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.cli.folders import read_data
from llmrec.cli.output import waiting
from llmrec.errors import OptionError

if TYPE_CHECKING:
    from llmrec.catalog import Catalog
    from llmrec.items import ModalityVectors
    from llmrec.items.fusion import FusionConfig
    from llmrec.records import Interaction

ModelFolderOut = Annotated[
    Path, typer.Option("--out", metavar="MODEL", help="The folder to write; a killed run goes on.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting of FusionConfig; repeatable."),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Of everything drawn.", show_default="0")]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="At most so many passes.", show_default="40")
]


@dataclass(frozen=True)
class Material:
    """Training rows, each user's last interaction held out, and vectors of the items."""

    training: Catalog
    validation: Mapping[str, Interaction]
    modalities: Sequence[ModalityVectors]


def config_of(settings: list[str] | None, epochs: int | None, seed: int | None) -> FusionConfig:
    """Settings as the command line gives them.

    Raises:
        OptionError: One is not ``NAME=VALUE``, unknown, or not allowed.
    """
    from llmrec.items.fusion import FusionConfig

    given: dict[str, str] = {}
    for entry in settings or ():
        name, equals, value = entry.partition("=")
        if not equals:
            raise OptionError(f"--set is {entry!r}; allowed is NAME=VALUE, such as dimension=128.")
        given[name.strip()] = value.strip()
    for name, number in (("epochs", epochs), ("seed", seed)):
        if number is not None:
            given[name] = str(number)
    return FusionConfig().with_texts(given)


def read_material(data: Path, columns: Path | None, *, skip_broken: bool) -> Material:
    """Read a data set, hold out each user's last interaction, and embed what its items have.

    Raises:
        DataError: The data set is broken.
        ModelError: An encoder cannot be had.
    """
    from llmrec.catalog import leave_one_out
    from llmrec.cli.loading import load_text_encoder
    from llmrec.evaluation import training_catalog
    from llmrec.items import modalities_of

    catalog = read_data(data, columns, skip_broken=skip_broken)
    with waiting("Holding out the last interactions"):
        split = leave_one_out(catalog)
        # Nothing is reported here, so the row before the last is one to learn from.
        learned = {*split.train, *split.validation.values()}
        rows = tuple(row for row in catalog.interactions if row in learned)
        split = replace(split, train=rows, validation=split.test, test={})
        training = training_catalog(catalog, split)
    modalities = modalities_of(training, load_text_encoder(), progress=True)
    return Material(training, split.validation, modalities)
