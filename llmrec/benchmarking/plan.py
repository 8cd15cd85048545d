"""The benchmark file: templates, models and settings to compare, and the users.

    index: INDEX                      # a folder that `llmrec index` made
    protocol: discrimination          # or end-to-end
    users: 300
    n_candidates: 20
    templates: ["pointwise/*", "likelihood/*", "my/own.jinja"]
    models: [SmolLM2-135M-Instruct]

or, instead of an index, ``requests: LABELLED.jsonl``: candidate lists of your own, each with its
relevant items. Every other key has a default (see `BenchmarkPlan`). The cells of the benchmark are
the product of its lists: templates, strategies, models, quantizations, history lengths, item
fields, calibration, shuffles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from math import prod
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from llmrec.documents import parse_yaml
from llmrec.errors import OptionError, nearest
from llmrec.models import DEFAULT_LANGUAGE_MODEL
from llmrec.prompting.template import near_templates, template_names
from llmrec.reranking import STRATEGIES
from llmrec.reranking.shuffling import MOST_SHUFFLES
from llmrec.reranking.strategies import folder_of

USUAL_USERS = 50
MOST_SETTINGS = 10_000
"""Combinations of a plan's lists, before patterns of templates are expanded."""
LABELLED = "labelled"
"""The protocol of labelled requests."""


def _listed(value: object) -> object:
    """One value is a list of one."""
    return value if isinstance(value, list | tuple | Mapping) or value is None else (value,)


Quantization = Literal["none", "nf4", "int8"]
AsList = BeforeValidator(_listed)
SomeOf = Field(min_length=1)
Count = Annotated[int, Field(ge=0, le=1_000_000)]
AttackField = Literal["title", "description", "review", "caption"]


class AttackPlan(BaseModel):
    """How prompt injection is measured; ``attacks: {}`` takes every default."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    file: Path | None = None
    """Texts by kind (YAML); by default the attacks that come with llmrec."""
    users: Annotated[int, Field(ge=1, le=1_000_000_000)] = 20
    """Number of users whose lists are attacked."""
    per_list: Annotated[int, Field(ge=1, le=1000)] = 3
    """Attacks per list and field, each on its own and beside harmless words of the same length; at
    most all of the file."""
    fields: Annotated[tuple[AttackField, ...], SomeOf, AsList] = get_args(AttackField)
    """Fields that carry the words; prompts that do not show one are not asked."""


class BenchmarkPlan(BaseModel):
    """A benchmark file. Where a list is expected, one value alone is a list of one."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    index: Path | None = None
    """A folder that ``llmrec index`` made; each user's last interaction is held out. Beside
    ``requests`` it provides their items."""
    requests: Path | None = None
    """Labelled requests, one JSON object a line: history, candidates and ``relevant``, the
    candidates that the user chose."""
    items: Path | None = None
    """A table of items (.jsonl, .csv or .parquet) whose ids the requests use."""
    media_root: Path | None = None
    """A folder in which pictures of the report may lie besides the data set's; the only one where
    the index was made by another user or on another machine."""
    protocol: Literal["discrimination", "end-to-end", "labelled"] = "discrimination"
    """With an index: rank the held-out item among random unseen items, or among the retriever's top
    candidates, which may lack it. Requests always have the protocol ``labelled``. A run has one
    protocol: their figures answer different questions."""
    part: Literal["test", "validation"] = "test"
    """Split to evaluate: each user's last interaction, or the one before it (to choose prompts and
    settings on; the last one is then left out of everything)."""
    users: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Number of users, sampled by ``seed``; by default 50, or all where there are fewer."""
    n_candidates: Annotated[int, Field(ge=2, le=100_000)] = 20
    """Number of candidates per user."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Random seed of users, candidates, shuffles and ties."""
    templates: Annotated[tuple[str, ...], SomeOf, AsList] = ("likelihood/*", "pointwise/*")
    """Template names, patterns (``pointwise/*``) and paths of ``.jinja`` files."""
    strategies: Annotated[tuple[str, ...], AsList] = ()
    """Use templates with these strategies only; by default each with the one of its folder. The
    tournament uses listwise templates. Strategies without templates take all of their templates."""
    models: Annotated[tuple[str, ...], SomeOf, AsList] = (DEFAULT_LANGUAGE_MODEL,)
    """Model references, as ``--model`` accepts them."""
    quantizations: Annotated[tuple[Quantization, ...], SomeOf, AsList] = ("none",)
    """Quantizations of each model."""
    history_items: Annotated[tuple[Count, ...], SomeOf, AsList] = (20,)
    """Number of history items that prompts show."""
    fields: Annotated[Mapping[str, Mapping[str, Count]], SomeOf] = {"all": {}}
    """Named sets of token limits a prompt field (`Budget`), each different from the defaults."""
    calibrate: Annotated[tuple[bool, ...], SomeOf, AsList] = (False,)
    """Without and with calibration (subtracting the content-free prior)."""
    shuffles: Annotated[
        tuple[Annotated[int, Field(ge=0, le=MOST_SHUFFLES)], ...], SomeOf, AsList
    ] = (0,)
    """Number of shuffled orders to average over; 0 asks the given order."""
    variants: Mapping[str, Annotated[tuple[str, ...], AsList]] = {}
    """Paths of paraphrases by template name, to measure paraphrase sensitivity."""
    places: Annotated[tuple[Annotated[int, Field(ge=1, le=100_000)], ...], AsList] = ()
    """Positions at which to plant the target, to measure order bias; none skips it."""
    place_users: Annotated[int, Field(ge=1, le=1_000_000_000)] = 20
    """Number of users to plant targets for."""
    attacks: AttackPlan | None = None
    """Plant prompt injections in one candidate per list and measure how far they move it."""
    race: bool = False
    """Drop rows that are significantly worse while the benchmark runs."""
    prices: Path | None = None
    """Price table of server models (`Prices`)."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_that_depend(cls, document: object) -> object:
        """Strategies bring their templates, requests their protocol."""
        if not isinstance(document, Mapping):
            return document
        made = dict(document)
        if made.get("requests"):
            made.setdefault("protocol", LABELLED)
        names = _listed(made.get("strategies") or ())
        if "templates" not in made and isinstance(names, list | tuple):
            known = [name for name in names if isinstance(name, str) and name in STRATEGIES]
            if known:
                made["templates"] = [f"{folder_of(name)}/*" for name in known]
        return made

    @field_validator("strategies")
    @classmethod
    def _known_strategies(cls, strategies: tuple[str, ...]) -> tuple[str, ...]:
        for name in strategies:
            if name not in STRATEGIES:
                near = nearest(name, STRATEGIES) or f"Allowed: {', '.join(STRATEGIES)}."
                raise ValueError(f"unknown strategy {name!r}. {near}")
        return strategies

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.index is None and self.requests is None:
            raise ValueError("index or requests is required; a file begins like index: INDEX")
        if (self.protocol == LABELLED) != (self.requests is not None):
            raise ValueError(f"protocol {self.protocol!r}: {LABELLED!r} is that of requests alone")
        combinations = prod(len(getattr(self, name)) for name in _MULTIPLIED)
        if combinations > MOST_SETTINGS:
            raise ValueError(
                f"the lists make {combinations:,} combinations; allowed are {MOST_SETTINGS:,}"
            )
        outside = [place for place in self.places if place > self.n_candidates]
        if outside and self.requests is None:
            raise ValueError(f"places {outside}: a list has {self.n_candidates} candidates")
        return self

    @classmethod
    def from_file(cls, path: str | Path) -> BenchmarkPlan:
        """Read a benchmark file; paths in it are relative to its folder.

        Raises:
            OptionError: It cannot be read, or a key or value in it is not allowed.
        """
        path = Path(path)
        try:
            document = parse_yaml(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OptionError(f"The benchmark file {path} cannot be read: {error}.") from error
        if not isinstance(document, dict):
            raise OptionError(
                f"The benchmark file {path} has no keys.", hint="It begins like index: INDEX."
            )
        plan = cls.of(document, f"The benchmark file {path}")
        return plan.model_copy(update=_paths_in(path.parent, plan))

    @classmethod
    def of(cls, document: Mapping[str, object], where: str) -> BenchmarkPlan:
        """Check what a file or options say; OptionError where a key or value is not allowed."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            faults = error.errors()
        said, hints = [], []
        for fault in faults:
            key = ".".join(str(part) for part in fault["loc"])
            if fault["type"] == "extra_forbidden":
                said.append(f"unknown key {key!r}")
                keys = (AttackPlan if key.startswith("attacks.") else cls).model_fields
                allowed = f"Allowed: {', '.join(keys)}."
                hints.append(nearest(str(fault["loc"][-1]), keys) or allowed)
            elif fault["type"] == "value_error":
                said.append(f"{key}{': ' if key else ''}{fault['msg'].split(', ', 1)[1]}")
            else:
                said.append(f"{key} is {fault['input']!r:.60}: {fault['msg']}")
                allowed = str(fault.get("ctx", {}).get("expected", "")).replace("'", "")
                hints.append(
                    nearest(str(fault["input"]), allowed.replace(" or ", ", ").split(", "))
                )
        hint = " ".join(dict.fromkeys(filter(None, hints)))
        message = f"{where}: {'; '.join(said)}".removesuffix(".")
        raise OptionError(
            message + ("" if message.endswith("?") else "."),
            hint=hint or "See `llmrec bench schema` for every key.",
        )

    def named_templates(self) -> tuple[str, ...]:
        """The templates with patterns expanded, each once, without those of explanations.

        Raises:
            OptionError: A pattern matches no template.
        """
        ranking = [name for name in template_names() if name.partition("/")[0] in STRATEGIES]
        found: dict[str, None] = {}
        for pattern in self.templates:
            if pattern.endswith(".jinja"):
                found[pattern] = None
                continue
            matching = [name for name in ranking if fnmatch(name, pattern)]
            if not matching:
                raise OptionError(
                    f"No template matches {pattern!r}.", hint=near_templates(pattern, ranking)
                )
            found.update(dict.fromkeys(matching))
        return tuple(found)


def strategies_for(folder: str, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The strategies, of those asked for, that use the templates of a folder.

    Raises:
        OptionError: There is none.
    """
    if folder not in STRATEGIES:
        raise OptionError(
            f"No strategy uses templates of a folder {folder!r}; there are "
            f"{', '.join(STRATEGIES)}.",
            hint="Move the template into a folder named after its strategy.",
        )
    found = tuple(name for name in dict.fromkeys(asked) if folder_of(name) == folder)
    if asked and not found:
        raise OptionError(
            f"strategies: {', '.join(asked)} cannot use a {folder} template.",
            hint=f"Add {folder} to the strategies, or remove the template.",
        )
    return found or (folder,)


def plan_schema() -> str:
    """The JSON schema of benchmark files, for editors."""
    return json.dumps(BenchmarkPlan.model_json_schema(), indent=1) + "\n"


_MULTIPLIED = (
    "templates", "models", "quantizations", "history_items", "fields", "calibrate", "shuffles",
)  # fmt: skip
_PATHS = ("index", "requests", "items", "media_root", "prices")


def _paths_in(folder: Path, plan: BenchmarkPlan) -> dict[str, object]:
    """The paths of a plan, relative to a folder; names and references stay as they are."""

    def template(name: str) -> str:
        return str(folder / name) if name.endswith(".jinja") else name

    def model(ref: str) -> str:
        return str(folder / ref) if (folder / ref).exists() else ref

    paths = {name: getattr(plan, name) for name in _PATHS}
    attacks = plan.attacks
    if attacks is not None and attacks.file is not None:
        attacks = attacks.model_copy(update={"file": folder / attacks.file})
    return {
        "attacks": attacks,
        **{name: path and folder / path for name, path in paths.items()},
        "templates": tuple(map(template, plan.templates)),
        "models": tuple(map(model, plan.models)),
        "variants": {
            template(name): tuple(map(template, others)) for name, others in plan.variants.items()
        },
    }
