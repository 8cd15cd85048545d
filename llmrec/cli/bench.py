"""``llmrec bench``: which prompt is better, and is it really."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from llmrec.cli.exits import FAILED, ends_well
from llmrec.cli.options import AsJson, Concurrency, Device, PriceTable, Timeout, TokenizerRef
from llmrec.cli.output import fields, print_json, safe, screen, table, waiting
from llmrec.errors import OptionError, nearest

if TYPE_CHECKING:
    from llmrec.benchmarking.benchmark import Benchmark
    from llmrec.benchmarking.disagreeing import ReaderOf
    from llmrec.benchmarking.estimating import CellEstimate
    from llmrec.benchmarking.plan import BenchmarkPlan
    from llmrec.benchmarking.run_folder import RunFolder


class _RunByDefault(TyperGroup):
    """``llmrec bench FILE`` is ``llmrec bench run FILE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own
        """Put ``run`` before what names no command."""
        if args and args[0] not in self.commands and args[0] not in {"--help", "-h"}:
            near = "" if Path(args[0]).exists() else nearest(args[0], self.commands)
            if near:
                ctx.fail(f"There is no command or file {args[0]!r}. {near}")
            args = ["run", *args]
        return list(super().parse_args(ctx, args))


app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    help="Benchmark prompt templates, strategies and models against each other.",
)

RunFolderOption = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="RUN",
        help="Where results go as they come. Killed at any moment, the same command goes on.",
    ),
]


@app.command()
@ends_well
def run(
    what: Annotated[
        Path, typer.Argument(metavar="FILE|INDEX", help="A benchmark file (YAML), or an index.")
    ],
    *,
    out: RunFolderOption,
    templates: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Names, patterns and .jinja files, with commas."),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A strategy; may be given repeatedly. By default each template's own.",
        ),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Ask everything calibrated, too.")
    ] = False,
    shuffles: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Ask everything over N orders of a list, too."),
    ] = None,
    quantization: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="none, nf4 or int8; may be given repeatedly."),
    ] = None,
    users: Annotated[int | None, typer.Option(min=1, help="How many users; by default 50.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="REF", help="A model; may be given repeatedly.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(metavar="NAME", help="discrimination or end-to-end.")
    ] = None,
    part: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of whose targets: test or validation.")
    ] = None,
    candidates: Annotated[int | None, typer.Option(min=2, help="How many items a list.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of users, lists, orders and ties.")] = None,
    race: Annotated[
        bool, typer.Option("--race", help="Drop rows that are significantly worse on the way.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print cells, tokens and expected time; ask nothing.")
    ] = False,
    device: Device = None,
    tokenizer: TokenizerRef = None,
    concurrency: Concurrency = None,
    timeout: Timeout = None,
    prices: PriceTable = None,
    as_json: AsJson = False,
) -> None:
    """Ask every cell about every user, then write leaderboard.md and report.html into RUN."""
    from llmrec.benchmarking import BenchmarkModels, RunFolder, bench
    from llmrec.benchmarking.benchmark import Benchmark
    from llmrec.benchmarking.leaderboard import leaderboard_table

    plan = _plan(
        what,
        templates=[name.strip() for name in templates.split(",")] if templates else None,
        strategies=strategy,
        calibrate=[False, True] if calibrate else None,
        shuffles=None if shuffles is None else [0, shuffles],
        quantizations=quantization,
        users=users,
        models=model,
        protocol=protocol,
        part=part,
        candidates=candidates,
        seed=seed,
        race=race or None,
        prices=prices,
    )
    models = BenchmarkModels(device, tokenizer, concurrency, timeout, progress=True)
    if dry_run:
        with waiting("Making the lists"):
            benchmark = Benchmark.of(plan, models.revision, progress=True)
        _print_estimate(benchmark, RunFolder(out), models.reader, as_json=as_json)
        return
    said = shlex.join(["llmrec", *sys.argv[1:]])
    command = said.encode("utf-8", "backslashreplace").decode()  # arguments may be no UTF-8
    summary = bench(plan, out, models=models, command=command, progress=True)
    if as_json:
        print_json({"out": out, "summary": summary})
        return
    screen().print(leaderboard_table(summary, screen().width), "")
    screen().print(fields({"Report": out / "report.html", "Results": out / "results.jsonl"}))


@app.command()
@ends_well
def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="The run that was.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="The run that is.")],
    *,
    fail_if_drop: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0,
            help="End with 1 where a row lost more nDCG@10 than X, on the users both runs have, "
            "fails for users whom it answered, or is gone.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs row by row, paired by user."""
    from llmrec.benchmarking.comparing import compare_runs
    from llmrec.benchmarking.run_folder import RunFolder

    found = compare_runs(RunFolder(run_a), RunFolder(run_b))
    worse = {} if fail_if_drop is None else found.worse(fail_if_drop)
    if as_json:
        print_json(
            {
                "rows": found.rows,
                "gone": found.gone,
                "new": found.new,
                "unpaired": found.unpaired,
                "worse": worse,
            }
        )
    else:
        shown = table(
            "Row", ">users", ">before", ">after", ">difference", "95 %", ">p (Holm)", ">now fail"
        )
        for row in found.rows:
            shown.add_row(
                row.name,
                str(row.users),
                f"{row.before:.3f}",
                f"{row.after:.3f}",
                f"{row.difference:+.3f}",
                f"[{row.low:+.3f}, {row.high:+.3f}]",
                f"{row.p_corrected:.2g}",
                str(row.now_failing),
            )
        screen().print(shown)
        told = {"gone": found.gone, "new": found.new, "without users in common": found.unpaired}
        for word, names in told.items():
            if names:
                screen().print(safe(f"Rows that are {word}: {', '.join(names)}."))
        for row in found.rows:
            if row.changed:
                screen().print(safe(f"{row.name} was changed: {', '.join(row.changed)}."))
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


def _plan(what: Path, **given: object) -> BenchmarkPlan:
    """A benchmark file with options over it, or an index with options alone."""
    from llmrec.benchmarking.plan import BenchmarkPlan

    options = {name: value for name, value in given.items() if value is not None}
    if what.is_dir():
        return BenchmarkPlan.of({"index": what, **options}, "The options")
    if not what.exists():
        raise OptionError(
            f"There is no {what}.", hint="Name a benchmark file, or an index that was made."
        )
    plan = BenchmarkPlan.from_file(what)
    said = plan.model_dump(exclude_unset=True)
    if "strategies" in options and "templates" not in options:
        said.pop("templates", None)  # those of the file may be of other strategies
    return BenchmarkPlan.of({**said, **options}, "The options") if options else plan


def _print_estimate(
    benchmark: Benchmark, folder: RunFolder, reader_of: ReaderOf, *, as_json: bool
) -> None:
    """What would be asked, how long the prompts are and how long it would take."""
    from llmrec.benchmarking.estimating import (
        comparisons_of,
        estimate_cells,
        left_in_words,
        shown_in_words,
        smallest_shown,
        time_in_words,
    )

    folder.refuse_another(benchmark.about(""), benchmark.asked.lists)
    before = folder.about().get("cells", ())
    cells = estimate_cells(benchmark, folder.results(), reader_of, before)
    users, comparisons = len(benchmark.asked.lists), comparisons_of(len(benchmark.cells))
    if as_json:
        shown = smallest_shown(users, comparisons)
        print_json(
            {"users": users, "comparisons": comparisons, "detectable": shown, "cells": cells}
        )
        return
    rows = table("Cell", ">prompts a list", ">tokens of them", ">lists left", ">expected")
    for cell in cells:
        more = "+" if cell.at_least else ""
        rows.add_row(
            cell.name,
            cell.fault or f"{cell.prompts:.0f}{more}",
            "" if cell.fault else f"{cell.tokens:,.0f}{more}",
            str(cell.left),
            _minutes(cell),
        )
    screen().print(rows, "")
    screen().print(
        fields(
            {
                "Users": f"{users} of {benchmark.asked.qualifying}",
                "Left": left_in_words(cells),
                "Shows": shown_in_words(users, len(benchmark.cells)),
                "Expected": time_in_words(cells),
            }
        )
    )


def _minutes(cell: CellEstimate) -> str:
    if cell.seconds is None:
        return "?"
    more = "+" if cell.guessed and cell.at_least else ""
    return f"{'~' if cell.guessed else ''}{cell.seconds / 60:.1f} min{more}"
