"""The benchmark file: what is compared on whom.

    index: INDEX                      # a folder that `llmrec index` made
    protocol: discrimination          # or end-to-end
    users: 300
    candidates: 20
    templates: ["pointwise/*", "likelihood/*", "my/own.jinja"]
    models: [SmolLM2-135M-Instruct]

Every other key has a default (see `BenchmarkPlan`). The cells of the benchmark are the product of
its lists: templates, strategies, models, quantizations, histories' lengths, item fields,
calibration, shuffles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from llmrec.benchmarking.plan_faults import refusal
from llmrec.errors import OptionError, nearest
from llmrec.models import DEFAULT_LANGUAGE_MODEL
from llmrec.prompting.template import template_names
from llmrec.reranking import STRATEGIES
from llmrec.reranking.strategies import folder_of

USUAL_USERS = 50
Quantization = Literal["none", "nf4", "int8"]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]


class _EachKeyOnce(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would silently take the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # noqa: ANN401 - its base's
        """Read a mapping as it is written, each of whose keys stands once."""
        node = super().compose_mapping_node(anchor)
        found: set[str] = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in found:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            found.add(key.value)
        return node


class BenchmarkPlan(BaseModel):
    """What a benchmark file says."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    index: Path
    """A folder that ``llmrec index`` made; each user's last interaction is held out."""
    protocol: Literal["discrimination", "end-to-end"] = "discrimination"
    """Order the target among random unseen items, or the retriever's top candidates, which may lack
    it. One run has one: their figures answer different questions."""
    part: Literal["test", "validation"] = "test"
    """Which interaction of a user is the target: the last, or the one before it, to choose prompts
    and settings on: then the last is left out of everything."""
    users: Annotated[int, Field(ge=1)] | None = None
    """How many, drawn by ``seed``; by default 50, or all where there are fewer."""
    candidates: Annotated[int, Field(ge=2)] = 20
    """How many items a list."""
    seed: int = 0
    """Of users, lists, shuffles and ties."""
    templates: Names = ("likelihood/*", "pointwise/*")
    """Names, patterns (``pointwise/*``) and paths of ``.jinja`` files."""
    strategies: tuple[str, ...] = ()
    """Ask templates as these alone; by default each as its folder says. A tournament takes listwise
    ones. Where strategies are named and no templates, all of theirs are asked."""
    models: Names = (DEFAULT_LANGUAGE_MODEL,)
    """References, as ``--model`` takes them."""
    quantizations: Annotated[tuple[Quantization, ...], Field(min_length=1)] = ("none",)
    """Of each model."""
    history_items: Annotated[tuple[Count, ...], Field(min_length=1)] = (20,)
    """How many items of the history prompts show."""
    fields: Annotated[Mapping[str, Mapping[str, Count]], Field(min_length=1)] = {"all": {}}
    """By a name of yours, tokens a field of prompts (`Budget`), where not its default."""
    calibrate: Annotated[tuple[bool, ...], Field(min_length=1)] = (False,)
    """Without and with calibration."""
    shuffles: Annotated[tuple[Count, ...], Field(min_length=1)] = (0,)
    """How many orders are asked; 0 asks the one given."""
    variants: Mapping[str, tuple[str, ...]] = {}
    """By the name of a template, paths of other wordings of it, for its sensitivity."""
    places: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Where the target is planted to measure what order does; none leaves that out."""
    place_users: Annotated[int, Field(ge=1)] = 20
    """For how many of the users."""
    race: bool = False
    """Drop rows that are significantly worse while the benchmark runs."""
    prices: Path | None = None
    """A table of what tokens of servers' models cost (`Prices`)."""

    @model_validator(mode="before")
    @classmethod
    def _templates_of_the_strategies(cls, document: object) -> object:
        """Where strategies are named and no templates, all of theirs are meant."""
        if not isinstance(document, Mapping) or "templates" in document:
            return document
        asked = document.get("strategies") or ()
        if not isinstance(asked, list | tuple) or any(
            not isinstance(name, str) or name not in STRATEGIES for name in asked
        ):
            return document  # what is wrong with it is said below
        templates = [f"{folder_of(name)}/*" for name in asked]
        return {**document, "templates": templates} if templates else document

    @field_validator("strategies")
    @classmethod
    def _known_strategies(cls, strategies: tuple[str, ...]) -> tuple[str, ...]:
        for name in strategies:
            if name not in STRATEGIES:
                near = nearest(name, STRATEGIES)
                raise ValueError(
                    f"no strategy {name!r}. {near or 'There are ' + ', '.join(STRATEGIES)}"
                )
        return strategies

    @model_validator(mode="after")
    def _places_in_the_list(self) -> Self:
        beyond = [place for place in self.places if place > self.candidates]
        if beyond:
            raise ValueError(f"places {beyond}: a list has {self.candidates} candidates")
        return self

    @classmethod
    def from_file(cls, path: str | Path) -> BenchmarkPlan:
        """Read a benchmark file; paths in it count from its folder.

        Raises:
            OptionError: It cannot be read, or a key or value in it is not allowed.
        """
        path = Path(path)
        try:
            document = yaml.load(path.read_text(encoding="utf-8"), _EachKeyOnce)  # noqa: S506
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise OptionError(f"The benchmark file {path} cannot be read: {error}") from error
        if not isinstance(document, dict):
            raise OptionError(
                f"The benchmark file {path} holds no keys.", hint="It begins like index: INDEX."
            )
        plan = cls.of(document, f"The benchmark file {path}")
        return plan.model_copy(update=_paths_in(path.parent, plan))

    @classmethod
    def of(cls, document: Mapping[str, object], where: str) -> BenchmarkPlan:
        """Check what a file or options say.

        Raises:
            OptionError: A key or value is not allowed.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            usual = {name: field.default for name, field in cls.model_fields.items()}
            raise refusal(where, error.errors(), usual) from error

    def named_templates(self) -> tuple[str, ...]:
        """The templates, patterns filled in, each once, without those of explanations.

        Raises:
            OptionError: A pattern fits no template.
        """
        ranking = [name for name in template_names() if name.partition("/")[0] in STRATEGIES]
        found: dict[str, None] = {}
        for pattern in self.templates:
            if pattern.endswith(".jinja"):
                found[pattern] = None
                continue
            fitting = [name for name in ranking if fnmatch(name, pattern)]
            if not fitting:
                raise OptionError(
                    f"No template fits {pattern!r}; there are {', '.join(ranking)}.",
                    hint=nearest(pattern, ranking),
                )
            found.update(dict.fromkeys(fitting))
        return tuple(found)


def strategies_for(folder: str, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The strategies that a template's folder is asked as, of those that are asked for.

    Raises:
        OptionError: It is the folder of none, or of none that is asked for.
    """
    if folder not in STRATEGIES:
        raise OptionError(
            f"A template in a folder {folder!r} is for no strategy; there are "
            f"{', '.join(STRATEGIES)}.",
            hint="Put it into a folder named after its strategy.",
        )
    if not asked:
        return (folder,)
    found = tuple(name for name in dict.fromkeys(asked) if folder_of(name) == folder)
    if not found:
        raise OptionError(
            f"strategies: a template for {folder} is none for {', '.join(asked)}.",
            hint=f"Name {folder} among the strategies, or leave the template out.",
        )
    return found


def plan_schema() -> str:
    """The JSON schema of benchmark files, for editors."""
    return json.dumps(BenchmarkPlan.model_json_schema(), indent=1) + "\n"


def _paths_in(folder: Path, plan: BenchmarkPlan) -> dict[str, object]:
    """What a plan names by path, counted from a folder; names and references stay as they are."""

    def template(name: str) -> str:
        return str(folder / name) if name.endswith(".jinja") else name

    def model(ref: str) -> str:
        return str(folder / ref) if (folder / ref).exists() else ref

    return {
        "index": folder / plan.index,
        "prices": plan.prices and folder / plan.prices,
        "templates": tuple(map(template, plan.templates)),
        "models": tuple(map(model, plan.models)),
        "variants": {
            template(name): tuple(map(template, others)) for name, others in plan.variants.items()
        },
    }
