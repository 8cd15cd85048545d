"""``llmrec prompts``: list, show, compare and check templates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from llmrec.cli.exits import FAILED, ends_well
from llmrec.cli.options import AsJson
from llmrec.cli.output import print_json, safe, screen, table, visible, waiting, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from llmrec.models import LanguageModel
    from llmrec.prompting import Finding, Template
    from llmrec.prompting.diff import TemplateDiff

app = typer.Typer(help="List, show, compare and check prompt templates.", no_args_is_help=True)
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Template name (likelihood/list) or .jinja file.")
]
Model = Annotated[
    str | None,
    typer.Option(metavar="REF", help="Count tokens and cut fields with this model's tokenizer."),
]


@app.command("list")
@ends_well
def list_(
    strategy: Annotated[
        str | None, typer.Argument(metavar="STRATEGY", help="Only templates of this strategy.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the templates that come with llmrec; * marks the default of a strategy."""
    from llmrec.prompting import DEFAULT_TEMPLATES, list_templates

    templates = list_templates(strategy)
    if as_json:
        keys = ("name", "strategy", "summary", "sha256", "path", "blocks")
        print_json(
            {
                "templates": [
                    {
                        **{key: getattr(template, key) for key in keys},
                        "variables": sorted(template.variables),
                        "default": template.name in DEFAULT_TEMPLATES.values(),
                    }
                    for template in templates
                ]
            }
        )
        return
    rows = [
        (
            template.name + (" *" if template.name in DEFAULT_TEMPLATES.values() else ""),
            "plain" if template.blocks == ("text",) else "chat",
            safe(template.summary),
        )
        for template in templates
    ]
    screen().print(table(("Template", "kind", "purpose"), rows))


@app.command()
@ends_well
def show(
    name: Name,
    *,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Render a template for a made-up user and candidates."""
    from llmrec.prompting import example, load_template
    from llmrec.prompting.diff import blocks_of

    template = load_template(name)
    n_tokens = None
    if model is None:
        prompt = example(template)
    else:
        reader = _reader(model)
        prompt = example(template, reader)
        (n_tokens,) = reader.count_tokens([prompt])
    if as_json:
        print_json({"template": template.name, "prompt": prompt, "tokens": n_tokens})
        return
    console = screen()
    for block, text in blocks_of(prompt):
        console.rule(f"[bold]{block}", align="left", style="dim")
        console.print(visible(text), soft_wrap=True)
    console.rule(style="dim")
    characters = sum(len(text) for _, text in blocks_of(prompt))
    console.print(
        safe(
            f"{characters:,} characters; --model REF counts tokens"
            if n_tokens is None
            else f"{n_tokens:,} tokens of {model}, chat template included",
            "dim",
        )
    )


@app.command()
@ends_well
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="Template name or .jinja file.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Template to compare with.")],
    *,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Compare two templates: the fields each reads, and its prompt for a made-up user."""
    from llmrec.prompting import load_template
    from llmrec.prompting.diff import compare_templates

    templates = load_template(first), load_template(second)
    found = compare_templates(*templates, None if model is None else _reader(model))
    if as_json:
        print_json({"diff": found, "model": model})
        return
    console = screen()
    sides = (found.first, found.second)
    names = [side.name for side in sides]
    names = [first, second] if names[0] == names[1] else names
    counted = "" if found.counted else "about "
    only = (found.only_first, found.only_second)
    about = [
        ("tokens", *(f"{counted}{side.tokens:,}" for side in sides)),
        ("characters", *(f"{side.characters:,}" for side in sides)),
        ("reads only", *(", ".join(some) or "-" for some in only)),
    ]
    console.print(table(("", *names), about), "")
    console.print(Text(f"Both read {', '.join(found.both) or 'nothing'}."), "")
    console.print(_side_by_side(found, names, console.width))
    same = all(not pair.mark for pair in found.lines)
    note = (
        "The prompts are the same."
        if same
        else "| differs, < only in the first, > only in the second"
    )
    console.print(note, style="dim")


def _side_by_side(found: TemplateDiff, names: Sequence[str], width: int) -> Table:
    """Two columns of lines as wide as the screen, marked as in `diff -y`."""
    from rich.table import Table

    marks = {"": (" ", ""), "changed": ("|", "yellow"), "first": ("<", "red")}
    marks["second"] = (">", "green")
    half = (width - 3) // 2
    grid = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    heads = [wrapped(safe(name), half - 1) for name in names]
    grid.add_column(heads[0], width=half - 1, overflow="fold")
    grid.add_column("", width=1)
    grid.add_column(heads[1], width=half - 1, overflow="fold")
    block = ""
    for pair in found.lines:
        if pair.block != block:
            block = pair.block
            grid.add_row(Text(f"[{block}]", "dim"), "", Text(f"[{block}]", "dim"))
        mark, style = marks[pair.mark]
        first, second = (visible(line or "", style) for line in (pair.first, pair.second))
        grid.add_row(first, Text(mark, style), second)
    return grid


@app.command()
@ends_well
def check(
    path: Annotated[
        str,
        typer.Argument(metavar="PATH", help=".jinja file or template name (likelihood/list)."),
    ],
    *,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="Also check the prompt's length and the labels against this model.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Report errors and warnings of a template by line; exit status 1 if it cannot be used."""
    from llmrec.prompting import check_template, load_template

    reader = None if model is None else _reader(model)
    if model is None or reader is None:
        findings = check_template(path)
    else:
        findings = check_template(path, reader, _context(model, reader), reader.count_tokens)
    if reader is not None and all(finding.level != "error" for finding in findings):
        findings = (*findings, *_labels(load_template(path), reader))
    usable = all(finding.level != "error" for finding in findings)
    if as_json:
        print_json({"template": path, "usable": usable, "findings": findings})
    else:
        console = screen()
        if findings:
            rows = [
                (
                    str(finding.line),
                    Text(finding.level, "red" if finding.level == "error" else "yellow"),
                    safe(finding.message),
                )
                for finding in findings
            ]
            console.print(table((">Line", "level", "finding"), rows), "")
        console.print(
            safe(f"{Path(path)} {'can' if usable else 'cannot'} be used."),
            style="green" if usable else "red",
        )
    if not usable:
        raise typer.Exit(FAILED)


def _labels(template: Template, reader: LanguageModel) -> Iterator[Finding]:
    """Whether each answer of a template is one token of the model."""
    from llmrec.errors import ModelError
    from llmrec.models.labels import MOST_LABELS, label_tokens, labels_for
    from llmrec.prompting import Finding
    from llmrec.reranking.pointwise import GRADES

    words = {"pointwise": ("Yes", "No"), "graded": GRADES}.get(template.strategy, ())
    try:
        for word in words:
            label_tokens(reader, word)
        if "items" in template.variables:
            labels_for(reader, MOST_LABELS)
    except ModelError as error:
        yield Finding("error", 1, str(error))


def _reader(model: str) -> LanguageModel:
    """The tokenizer of a model, which also counts whole prompts."""
    with waiting("Loading the tokenizer"):
        from llmrec.models.references import load_reader

        return load_reader(model, progress=True)


def _context(model: str, reader: LanguageModel) -> int:
    """Tokens that a model reads, its answer included; of local weights, from their configuration.

    Raises:
        ModelError: The weights have no readable configuration.
    """
    from transformers import AutoConfig

    from llmrec.errors import ModelError, naming
    from llmrec.models import resolve_model
    from llmrec.models.prompt_tokenizer import PromptTokenizer
    from llmrec.models.transformers_model import longest_sequence

    if not isinstance(reader, PromptTokenizer):
        return reader.max_length
    source = resolve_model(model)
    with naming(
        f"{source.name} has no configuration that can be read",
        ModelError,
        hint=f"{source.path} should hold the config.json of a causal language model.",
    ):
        config = AutoConfig.from_pretrained(
            source.path, local_files_only=True, trust_remote_code=False
        )
    return longest_sequence(config)
