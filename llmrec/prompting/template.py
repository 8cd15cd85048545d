"""Find, load and validate templates."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import jinja2
from jinja2 import meta, nodes

from llmrec.errors import PromptError, check_path, nearest
from llmrec.prompting.fields import FIELDS
from llmrec.prompting.sandbox import FILTERS, compiled, parse

DEFAULT_TEMPLATES: Mapping[str, str] = MappingProxyType(
    {
        "pointwise": "pointwise/plain-list",
        "graded": "graded/plain-list",
        "likelihood": "likelihood/numbered",
        "listwise": "listwise/plain-list",
        "listwise-generated": "listwise-generated/plain-list",
        "setwise": "setwise/plain-list",
        "pairwise": "pairwise/plain-list",
        "tournament": "listwise/plain-list",
        "explain": "explain/shopper",
    }
)
"""The default template of each strategy."""

VARIABLES = ("user", "history", "item", "items", "evidence", "fault")
"""Variables that templates may read."""

_BLOCKS = (("system", "user"), ("text",))
_HEADER = re.compile(r"\A\s*+\{#-?\s*+(.*?)-?#\}", re.DOTALL)
_LONGEST_SOURCE = 100_000  # characters


@dataclass(frozen=True, slots=True)
class Template:
    """One wording of a prompt, checked.

    Attributes:
        name: ``likelihood/list`` for a file ``likelihood/list.jinja``.
        strategy: The name of its folder.
        source: The file's text.
        sha256: Hash of the file's text, in hex.
        path: The file.
        blocks: ``("system", "user")`` for a chat prompt, ``("text",)`` for a plain one.
        variables: What it reads, of :data:`VARIABLES`.
    """

    name: str
    strategy: str
    source: str
    sha256: str
    path: Path
    blocks: tuple[str, ...]
    variables: frozenset[str]

    @property
    def summary(self) -> str:
        """The first line of the comment at its beginning; empty if there is none."""
        header = _HEADER.match(self.source)
        return header.group(1).rstrip().partition("\n")[0] if header else ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a template; an error makes it unusable. Lines count from 1."""

    level: Literal["error", "warning"]
    line: int
    message: str


def prompts_folder() -> Path:
    """The folder of the templates that come with llmrec: in a wheel, else in a checkout.

    Raises:
        PromptError: The installation lacks it.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_prompts", package.parent / "prompts"):
        if folder.is_dir():
            return folder
    raise PromptError(
        f"The templates of llmrec are missing beside {package}.", hint="Install llmrec again."
    )


def template_names(strategy: str | None = None) -> tuple[str, ...]:
    """Names of the templates that come with llmrec, sorted, without reading them.

    Raises:
        PromptError: There is no such strategy.
    """
    folder = prompts_folder()
    names = sorted(f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.jinja"))
    strategies = sorted({name.partition("/")[0] for name in names})
    if strategy is not None and strategy not in strategies:
        raise PromptError(
            f"There are no templates for a strategy {strategy!r}; there are for "
            f"{', '.join(strategies)}.",
            hint=nearest(strategy, strategies),
        )
    return tuple(name for name in names if strategy in {None, name.partition("/")[0]})


def list_templates(strategy: str | None = None) -> tuple[Template, ...]:
    """The templates that come with llmrec, by name; with ``strategy``, only those of one.

    Raises:
        PromptError: There is no such strategy, or a template is not usable.
    """
    return tuple(load_template(name) for name in template_names(strategy))


def load_template(ref: str | Path) -> Template:
    """Load a template and check it.

    Args:
        ref: A name such as ``likelihood/list``, or the path of a ``.jinja`` file.

    Raises:
        PromptError: There is none, or it is not usable: the message names file and line.
    """
    path = template_path(ref)
    source = read_source(path)
    for finding in source_findings(source):
        raise PromptError(
            f"{path}, line {finding.line}: {finding.message}",
            hint="`llmrec prompts check` lists all findings of a template.",
        )
    tree = parse(source)
    return Template(
        name=f"{path.parent.name}/{path.stem}",
        strategy=path.parent.name,
        source=source,
        sha256=hashlib.sha256(source.encode()).hexdigest(),
        path=path,
        blocks=tuple(sorted(block.name for block in tree.find_all(nodes.Block))),
        variables=frozenset(meta.find_undeclared_variables(tree)),
    )


def template_path(ref: str | Path) -> Path:
    """The file of a template.

    Raises:
        PromptError: There is no such template or file.
    """
    path = check_path("template", ref)
    if isinstance(ref, Path) or path.suffix == ".jinja":
        if not path.is_file():
            raise PromptError(
                f"There is no template file {str(path)!r}.",
                hint="A shipped template is named without .jinja, as in likelihood/list.",
            )
        return path.resolve()
    names = template_names()
    if ref not in names:
        raise PromptError(f"There is no template {str(ref)!r}.", hint=near_templates(str(ref)))
    return prompts_folder() / f"{ref}.jinja"


def near_templates(ref: str, names: Sequence[str] = ()) -> str:
    """Hint for an unknown template: the nearest names, and the command that lists all."""
    names = names or template_names()
    same = [repr(name) for name in names if name.partition("/")[2] == ref.rpartition("/")[2]]
    near = f"Did you mean {' or '.join(same[:3])}?" if same else nearest(ref, names)
    listed = "`llmrec prompts list` prints all names; a file of your own ends in .jinja."
    return f"{near} {listed}".lstrip()


def read_source(path: Path) -> str:
    """The text of a template file, line ends as in the file.

    Raises:
        PromptError: The file cannot be read as UTF-8.
    """
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(
            f"The template file {path} cannot be read: {error}.", hint="Save it as UTF-8."
        ) from error


# What a source may say: checked without rendering it, in every branch.

_REFUSED = (
    (
        (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends),
        "uses another file: a template stands by itself.",
    ),
    ((nodes.Macro, nodes.CallBlock), "uses a macro: write its text where it is used."),
    (
        (nodes.AssignBlock, nodes.FilterBlock, nodes.ScopedEvalContextModifier),
        "sets or filters a stretch of text. Write {% set name = ... %}, and filter in {{ }}.",
    ),
)
_GIVES_AWAY = frozenset(
    {"score", "rank", "retrieval_score", "retrieval_rank", "position", "signals", "rating", "liked"}
)


class _Kind(NamedTuple):
    """What an expression is: a record whose fields are those of ``owner``, or many of them."""

    owner: str
    many: bool


_Kinds = Mapping[str, _Kind | None]
_KINDS: _Kinds = {
    "user": _Kind("user", many=False),
    "history": _Kind("history", many=True),
    "item": _Kind("item", many=False),
    "items": _Kind("item", many=True),
}


def source_findings(source: str) -> tuple[Finding, ...]:
    """Everything in a template's text that makes it unusable, by line."""
    if len(source) > _LONGEST_SOURCE:
        return (_error(1, f"has {len(source):,} characters; allowed are {_LONGEST_SOURCE:,}"),)
    try:
        tree = parse(source)
        compiled(source)  # filters and tests are looked up here
    except jinja2.TemplateSyntaxError as error:
        message = (error.message or "cannot be read").rstrip(".")
        hint = "prompts/README.md describes the form of a template."
        if "No filter named" in message:
            wrong = message.split("'")[1]
            hint = f"{nearest(wrong, FILTERS)} Filters: {', '.join(FILTERS)}.".lstrip()
        return (_error(error.lineno, message, hint),)
    except (RecursionError, SyntaxError, ValueError, OverflowError, MemoryError) as error:
        return (_error(1, f"cannot be compiled: {error}"),)
    found = {*_blocks(tree), *_constructs(tree), *_names(tree), *_fields(tree)}
    return tuple(sorted(found, key=lambda finding: (finding.line, finding.message)))


def fields_read(source: str) -> frozenset[str]:
    """What a usable template reads, each field by its variable: ``history.title``.

    A variable of which no field is read stands by itself.
    """
    tree = parse(source)
    variables = meta.find_undeclared_variables(tree)
    plural = "items" if "items" in variables else "item"
    read = {f"{plural if owner == 'item' else owner}.{name}" for owner, name, _ in _reads(tree)}
    return frozenset(read | (variables - {field.partition(".")[0] for field in read}))


def unused_names(source: str) -> Iterator[Finding]:
    """Names that a usable template sets and never reads, such as a loop that shows nothing."""
    names = list(parse(source).find_all(nodes.Name))
    read = {name.name for name in names if name.ctx == "load"}
    lines: dict[str, int] = {}
    for name in names:
        if name.ctx == "store" and name.name not in read and not name.name.startswith("_"):
            lines[name.name] = min(name.lineno, lines.get(name.name, name.lineno))
    for unused, line in lines.items():
        yield Finding("warning", line, f"sets {unused!r} and never reads it")


def _error(line: int, message: str, hint: str = "") -> Finding:
    return Finding("error", line, f"{message}. {hint}".rstrip())


def _blocks(tree: nodes.Template) -> Iterator[Finding]:
    blocks = [block.name for block in tree.find_all(nodes.Block)]
    if tuple(sorted(blocks)) not in _BLOCKS:
        yield _error(
            1,
            f"has the blocks {', '.join(blocks) or 'none'}; allowed are system and user "
            "(a chat prompt), or text alone (a plain one)",
        )
    for part in tree.body:
        blank = isinstance(part, nodes.Output) and all(
            isinstance(n, nodes.TemplateData) and not n.data.strip() for n in part.nodes
        )
        if not blank and not isinstance(part, nodes.Block):
            yield _error(part.lineno, "only comments may stand outside the blocks")


def _constructs(tree: nodes.Template) -> Iterator[Finding]:
    for kinds, message in _REFUSED:
        for node in tree.find_all(kinds):
            yield Finding("error", node.lineno, message)
    for call in tree.find_all(nodes.Call):
        if not (isinstance(call.node, nodes.Getattr) and call.node.attr == "get"):
            yield _error(call.lineno, "calls something: only .get of a mapping can be called")
    for read in tree.find_all(nodes.Name):
        if read.name in {"self", "super"}:
            yield _error(read.lineno, f"uses {read.name}: a block cannot show another")


def _names(tree: nodes.Template) -> Iterator[Finding]:
    for name in meta.find_undeclared_variables(tree) - set(VARIABLES):
        line = min(n.lineno for n in tree.find_all(nodes.Name) if n.name == name)
        message = f"unknown variable {name!r}; allowed are {', '.join(VARIABLES)}"
        yield _error(line, message, nearest(name, VARIABLES))


def _fields(tree: nodes.Template) -> Iterator[Finding]:
    for owner, name, line in _reads(tree):
        allowed = FIELDS[owner]
        if name not in allowed:
            message = f"unknown field {name!r}"
            if owner == "item" and name in _GIVES_AWAY:
                message = f"target leakage: a candidate's {name!r} would give the answer away"
            message += f"; allowed are {', '.join(allowed)}"
            yield _error(line, message, nearest(name, allowed))


def _reads(tree: nodes.Template) -> Iterator[tuple[str, str, int]]:
    """Each field read of a known record: ``past.title``, ``map(attribute="title")``."""
    known = dict(_KINDS)
    for node in tree.find_all((nodes.For, nodes.Assign)):
        if isinstance(node, nodes.For):
            kind = _one(_kind(node.iter, known))
        else:
            kind = _kind(node.node, known) if isinstance(node, nodes.Assign) else None
        if isinstance(node, nodes.For | nodes.Assign) and isinstance(node.target, nodes.Name):
            name = node.target.name
            known[name] = kind if known.get(name, kind) == kind else None
    for read in tree.find_all(nodes.Getattr):
        kind = _kind(read.node, known)
        if kind and not kind.many:
            yield kind.owner, read.attr, read.lineno
    for call in tree.find_all(nodes.Filter):
        kind = _kind(call.node, known)
        named = [pair.value for pair in call.kwargs if pair.key == "attribute"]
        named += call.args[:1] if call.name in {"selectattr", "rejectattr"} else []
        for argument in named:
            if kind and kind.many and isinstance(argument, nodes.Const):
                yield kind.owner, str(argument.value), call.lineno


def _kind(node: nodes.Node | None, known: _Kinds) -> _Kind | None:
    """What an expression is, where that shows without running it."""
    if isinstance(node, nodes.Name):
        return known.get(node.name)
    if isinstance(node, nodes.Filter):
        kind = _kind(node.node, known)
        if node.name in {"first", "last"}:
            return _one(kind)
        keeps = {"list", "reverse", "select", "selectattr", "reject", "rejectattr", "sort"}
        return kind if node.name in keeps else None
    if isinstance(node, nodes.Getitem):
        kind = _kind(node.node, known)
        return kind if isinstance(node.arg, nodes.Slice) else _one(kind)
    return None


def _one(kind: _Kind | None) -> _Kind | None:
    return _Kind(kind.owner, many=False) if kind and kind.many else None
