"""``llmrec prompts``: the templates, a rendered example, what is wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from llmrec.cli.exits import FAILED, ends_well
from llmrec.cli.options import AsJson
from llmrec.cli.output import print_json, safe, screen, table

if TYPE_CHECKING:
    from llmrec.prompting import Prompt

app = typer.Typer(help="The templates: list, show, check.", no_args_is_help=True)
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A name such as likelihood/list, or a .jinja file.")
]


@app.command("list")
@ends_well
def list_(
    strategy: Annotated[
        str | None, typer.Argument(metavar="STRATEGY", help="Only those of one strategy.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Name the templates that come with llmrec; a star marks a strategy's default."""
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
    shown = table("Template", "kind", "what it is for")
    for template in templates:
        star = " *" if template.name in DEFAULT_TEMPLATES.values() else ""
        kind = "plain" if template.blocks == ("text",) else "chat"
        shown.add_row(template.name + star, kind, safe(template.summary))
    screen().print(shown)


@app.command()
@ends_well
def show(
    name: Name,
    *,
    model: Annotated[
        str | None,
        typer.Option(metavar="REF", help="Count the tokens of this model, and cut fields by them."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Render a template for a small made-up user."""
    from llmrec.prompting import example, load_template

    template = load_template(name)
    n_tokens = None
    if model is None:
        prompt = example(template)
    else:
        from llmrec.cli.loading import ModelChoice

        reader = ModelChoice(model).load()
        prompt = example(template, reader)
        n_tokens = reader.count_tokens(prompt)
    if as_json:
        print_json({"template": template.name, "prompt": prompt, "tokens": n_tokens})
        return
    console = screen()
    for block, text in _blocks(prompt):
        console.rule(f"[bold]{block}", align="left", style="dim")
        console.print(Text(text), soft_wrap=True)
    console.rule(style="dim")
    characters = sum(len(text) for _, text in _blocks(prompt))
    console.print(
        f"{characters:,} characters; --model REF counts tokens"
        if n_tokens is None
        else f"{n_tokens:,} tokens of {model}, the chat template's own among them",
        style="dim",
    )


@app.command()
@ends_well
def check(
    path: Annotated[
        str,
        typer.Argument(metavar="PATH", help="A .jinja file, or a name such as likelihood/list."),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with a template, line by line; ends with 1 where it cannot be used."""
    from llmrec.prompting import check_template

    findings = check_template(path)
    usable = all(finding.level != "error" for finding in findings)
    if as_json:
        print_json({"template": path, "usable": usable, "findings": findings})
    else:
        console = screen()
        if findings:
            shown = table(">Line", "level", "what is wrong")
            for finding in findings:
                style = "red" if finding.level == "error" else "yellow"
                shown.add_row(str(finding.line), Text(finding.level, style), safe(finding.message))
            console.print(shown, "")
        console.print(
            safe(f"{Path(path)} {'can' if usable else 'cannot'} be used."),
            style="green" if usable else "red",
        )
    if not usable:
        raise typer.Exit(FAILED)


def _blocks(prompt: Prompt) -> list[tuple[str, str]]:
    if prompt.text is not None:
        return [("text", prompt.text)]
    return [("system", prompt.system), ("user", prompt.user)]
