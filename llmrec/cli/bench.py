"""``llmrec bench``: compare prompts, strategies and models."""

from __future__ import annotations

import shlex
import sys
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from llmrec.cli.exits import FAILED, ends_well
from llmrec.cli.options import (
    Adapter,
    AsJson,
    Concurrency,
    Device,
    ItemTable,
    MediaRoot,
    PriceTable,
    SkipLayers,
    Timeout,
    TokenizerRef,
    is_file,
    split_names,
)
from llmrec.cli.output import fields, print_json, safe, screen, table, waiting
from llmrec.errors import OptionError, nearest

if TYPE_CHECKING:
    from llmrec.benchmarking import BenchmarkPlan, RunFolder
    from llmrec.benchmarking.disagreements import ReaderOf
    from llmrec.benchmarking.dry_run import CellEstimate
    from llmrec.benchmarking.results import Results
    from llmrec.benchmarking.run import Benchmark

_ASK_ABOVE = 300
"""Expected seconds above which a run on a terminal asks for --yes."""


class _RunByDefault(TyperGroup):
    """``llmrec bench FILE`` is ``llmrec bench run FILE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own
        """Put ``run`` before what names no command."""
        if args and args[0] not in self.commands and args[0] not in {"--help", "-h"}:
            written = args[0].startswith("-") or Path(args[0]).exists()
            near = "" if written else nearest(args[0], self.commands)
            if near:
                ctx.fail(f"There is no command or file {args[0]!r}. {near}")
            args = ["run", *args]
        return list(super().parse_args(ctx, args))


app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    help="Benchmark prompt templates, strategies and models against each other. Options without a "
    "command are those of `llmrec bench run`.",
)

RunFolderOption = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="RUN",
        help="Folder for results. Run the same command again to resume.",
    ),
]


@app.command()
@ends_well
def run(
    what: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE|INDEX",
            help="A benchmark file (YAML) or an index; neither is needed with --requests.",
        ),
    ] = None,
    *,
    out: RunFolderOption,
    requests: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Labelled requests (JSON lines): history, candidates and relevant; see "
            "docs/benchmarking.md.",
        ),
    ] = None,
    items: ItemTable = None,
    templates: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B",
            help="Template names, patterns and .jinja files; commas or repeated.",
        ),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Strategies; repeatable. Default: each template's own."),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Add a calibrated row for each row.")
    ] = False,
    shuffles: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Add a row averaged over N shuffled orders."),
    ] = None,
    quantization: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Quantizations: none, nf4 or int8; repeatable."),
    ] = None,
    users: Annotated[
        int | None, typer.Option(min=1, help="Number of users.", show_default="50")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="REF", help="Models; repeatable.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="discrimination (the target among random items) or end-to-end (the retriever's "
            "candidates).",
        ),
    ] = None,
    part: Annotated[
        str | None, typer.Option(metavar="NAME", help="Split to evaluate: test or validation.")
    ] = None,
    n_candidates: Annotated[
        int | None, typer.Option(min=2, help="Number of candidates a user.", show_default="20")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed.", show_default="0")] = None,
    race: Annotated[
        bool, typer.Option("--race", help="Drop significantly worse rows during the run.")
    ] = False,
    attacks: Annotated[
        bool,
        typer.Option(
            "--attacks",
            help="Plant prompt injections in one candidate per list and measure how far they move "
            "it.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print cells, tokens and expected time; ask nothing.")
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Do not ask before a run of more than 5 minutes."),
    ] = False,
    device: Device = None,
    skip_layers: SkipLayers = 0,
    adapter: Adapter = None,
    tokenizer: TokenizerRef = None,
    concurrency: Concurrency = None,
    timeout: Timeout = None,
    prices: PriceTable = None,
    media_root: MediaRoot = None,
    as_json: AsJson = False,
) -> None:
    """Run every cell on every user; write leaderboard.md, report.html and summary.json to RUN."""
    from llmrec.benchmarking import BenchmarkModels, RunFolder, bench
    from llmrec.benchmarking.run import Benchmark

    plan = _plan(
        what,
        requests=requests,
        items=items,
        templates=split_names(templates, is_file) or None,
        strategies=split_names(strategy) or None,
        calibrate=[False, True] if calibrate else None,
        shuffles=None if shuffles is None else [0, shuffles],
        quantizations=split_names(quantization) or None,
        users=users,
        models=model,
        protocol=protocol,
        part=part,
        n_candidates=n_candidates,
        seed=seed,
        race=race or None,
        attacks={} if attacks else None,
        prices=prices,
        media_root=media_root,
    )
    if adapter is not None:
        _check_templates(plan, adapter)
    models = BenchmarkModels(
        device,
        tokenizer,
        concurrency,
        timeout,
        progress=True,
        skip_layers=skip_layers,
        adapter=adapter,
    )
    if dry_run:
        models.check_options(plan.models)
        with waiting("Making the candidate lists"):
            benchmark = Benchmark.of(plan, models.revision, progress=True)
        _print_estimate(benchmark, RunFolder(out), models.reader, as_json=as_json)
        return
    said = shlex.join(["llmrec", *sys.argv[1:]])
    command = said.encode("utf-8", "backslashreplace").decode()  # arguments may be no UTF-8

    def before(benchmark: Benchmark, results: Results) -> None:
        ask_user = not (yes or as_json) and _on_terminal()
        _say_how_long(benchmark, results, models.reader, ask_user=ask_user)

    summary = bench(plan, out, loader=models, command=command, progress=True, before=before)
    if as_json:
        print_json({"out": out, "summary": summary})
        return
    from llmrec.cli.leaderboard_view import attacks_view, leaderboard_view

    screen().print(leaderboard_view(summary), "")
    if summary.attacks:
        screen().print(attacks_view(summary.attacks), "")
    screen().print(fields({"Report": out / "report.html", "Results": out / "results.jsonl"}))


@app.command()
@ends_well
def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="Baseline run.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="New run.")],
    *,
    fail_if_drop: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0,
            help="Exit with status 1 if a row lost more than X nDCG@10 on the users of both runs, "
            "fails for users that the baseline answered, or is missing.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs row by row, paired by user."""
    from llmrec.benchmarking import RunFolder, compare_runs

    found = compare_runs(RunFolder(run_a), RunFolder(run_b))
    worse = {} if fail_if_drop is None else found.worse(fail_if_drop)
    if as_json:
        print_json(
            {
                "rows": found.rows,
                "gone": found.gone,
                "new": found.new,
                "unpaired": found.unpaired,
                "changed": found.changed,
                "worse": worse,
            }
        )
    else:
        heads = ("Row", ">users", ">before", ">after", ">difference", ">95 %", ">p (Holm)")
        rows = [
            (
                safe(row.name),
                str(row.users),
                f"{row.before:.3f}",
                f"{row.after:.3f}",
                f"{row.difference:+.3f}",
                "too few users" if isnan(row.low) else f"[{row.low:+.3f}, {row.high:+.3f}]",
                "-" if isnan(row.low) else f"{row.p_corrected:.2g}",
                str(row.now_failing),
            )
            for row in found.rows
        ]
        leave_out = ("before", "after", "users")
        screen().print(table((*heads, ">now failing"), rows, leave_out=leave_out))
        told = {
            "Missing rows": found.gone,
            "New rows": found.new,
            "Rows without common users": found.unpaired,
        }
        for word, names in told.items():
            if names:
                screen().print(safe(f"{word}: {', '.join(names)}."))
        if found.changed:
            screen().print(safe(f"The runs differ in {', '.join(found.changed)}."))
        for row in found.rows:
            if row.changed:
                screen().print(safe(f"{row.name} changed: {', '.join(row.changed)}."))
        for name, reason in worse.items():
            screen().print(safe(f"{name} {reason}."))
    if worse:
        raise typer.Exit(FAILED)


@app.command()
@ends_well
def schema() -> None:
    """Print the JSON schema of benchmark files, for editors."""
    from llmrec.benchmarking.plan import plan_schema

    typer.echo(plan_schema(), nl=False)


def _check_templates(plan: BenchmarkPlan, adapter: Path) -> None:
    """Refuse a plan with other prompts than those that an adapter was tuned on.

    Raises:
        StorageError: There is no adapter.
        OptionError: A template is another.
    """
    from llmrec.models.adapter import read_adapter
    from llmrec.prompting import load_template

    tuned = read_adapter(adapter)
    for name in plan.named_templates():
        if load_template(name).sha256 != tuned.template_sha256:
            raise OptionError(
                f"The adapter was tuned on the template {tuned.template}; the plan has {name}.",
                hint=f"Give --templates {tuned.template}, or run the plan without the adapter.",
            )


def _plan(what: Path | None, **given: object) -> BenchmarkPlan:
    """A benchmark file overridden by options, or an index or requests with options alone."""
    from llmrec.benchmarking import BenchmarkPlan

    options = {name: value for name, value in given.items() if value is not None}
    if what is None and "requests" not in options:
        raise OptionError(
            "A benchmark needs a benchmark file, an index or --requests.",
            hint="Give one of them.",
        )
    if what is None or what.is_dir():
        index = {} if what is None else {"index": what}
        return BenchmarkPlan.of({**index, **options}, "The options")
    if not what.exists():
        raise OptionError(f"There is no {what}.", hint="Give a benchmark file or an index folder.")
    plan = BenchmarkPlan.from_file(what)
    said = plan.model_dump(exclude_unset=True)
    if said.get("attacks"):  # --attacks says only that there are some
        options.pop("attacks", None)
    if "strategies" in options and "templates" not in options:
        said.pop("templates", None)  # they may belong to other strategies
    return BenchmarkPlan.of({**said, **options}, "The options") if options else plan


def _print_estimate(
    benchmark: Benchmark, folder: RunFolder, reader_of: ReaderOf, *, as_json: bool
) -> None:
    """Print the cells, the length of their prompts and the expected time."""
    from llmrec.benchmarking.cells import Cell
    from llmrec.benchmarking.dry_run import estimate_cells, left_in_words, time_in_words
    from llmrec.benchmarking.report.text import shown_in_words, smallest_shown

    folder.refuse_another(benchmark.about(""), benchmark.data.users)
    before = [Cell.from_row(row, folder.path) for row in folder.about().get("cells", ())]
    cells = estimate_cells(benchmark, folder.results(), reader_of, before)
    users, comparisons = len(benchmark.data.users), benchmark.comparisons
    if as_json:
        print_json(
            {
                "users": users,
                "qualifying": benchmark.data.qualifying,
                "comparisons": comparisons,
                "detectable": smallest_shown(users, comparisons),
                "detectable_alone": smallest_shown(users),
                "cells": cells,
            }
        )
        return
    rows = []
    for cell in cells:
        more = "+" if cell.at_least else ""
        rows.append(
            (
                safe(f"{cell.name}: {cell.fault}" if cell.fault else cell.name),
                "-" if cell.fault else f"{cell.prompts:.0f}{more}",
                "-" if cell.fault else f"{cell.tokens:,.0f}{more}",
                str(cell.left),
                _minutes(cell),
            )
        )
    heads = ("Cell", ">prompts a list", ">tokens a list", ">lists left", ">expected")
    screen().print(table(heads, rows, leave_out=("prompts a list",)), "")
    screen().print(
        fields(
            {
                "Users": f"{users} of {benchmark.data.qualifying}",
                "To ask": left_in_words(cells),
                "Power": shown_in_words(users, comparisons),
                "Expected": time_in_words(cells),
            }
        )
    )


def _say_how_long(
    benchmark: Benchmark, results: Results, reader_of: ReaderOf, *, ask_user: bool
) -> None:
    """Print the expected time; ask before a long run.

    Raises:
        typer.Abort: The answer was no.
    """
    from llmrec.benchmarking.dry_run import (
        estimate_cells,
        expected_seconds,
        left_in_words,
        time_in_words,
    )

    cells = estimate_cells(benchmark, results, reader_of)
    if not any(cell.left for cell in cells):
        return
    typer.echo(f"{left_in_words(cells)}; expected: {time_in_words(cells)}.", err=True)
    if expected_seconds(cells) > _ASK_ABOVE:
        typer.echo("Fewer --templates, --users or --n-candidates take less time.", err=True)
        if ask_user:
            typer.confirm("Run it? (--yes does not ask)", abort=True, err=True)


def _on_terminal() -> bool:
    """Whether somebody can be asked: neither input nor output is a pipe."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _minutes(cell: CellEstimate) -> str:
    if cell.seconds is None:
        return "?"
    more = "+" if cell.guessed and cell.at_least else ""
    return f"{'~' if cell.guessed else ''}{cell.seconds / 60:.1f} min{more}"
