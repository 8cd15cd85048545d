"""What is wrong with a template, seen without rendering it: every branch is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from jinja2 import meta, nodes

from llmrec.errors import nearest
from llmrec.prompting.fields import FIELDS, ShownHistoryItem, ShownItem, ShownUser

VARIABLES = ("user", "history", "item", "items", "evidence", "fault")
"""What templates may read."""

BLOCKS = (("system", "user"), ("text",))
"""The blocks of a chat template, and of a plain one."""

_NOT_ALLOWED = (
    nodes.Include,
    nodes.Import,
    nodes.FromImport,
    nodes.Extends,
    nodes.Macro,
    nodes.CallBlock,
)
_NOT_COUNTED = (nodes.AssignBlock, nodes.FilterBlock, nodes.ScopedEvalContextModifier)
_ANSWERS = frozenset(
    {"score", "rank", "retrieval_score", "retrieval_rank", "position", "signals", "rating", "liked"}
)
_PLACES = frozenset({"index", "index0", "revindex", "revindex0"})


class Fault(NamedTuple):
    """One thing that is wrong: ``line`` counts from 1."""

    line: int
    message: str
    hint: str = ""


class _Kind(NamedTuple):
    """What an expression is: one of the shown records, or many."""

    shown: type
    many: bool


_KINDS: dict[str, _Kind | None] = {
    "user": _Kind(ShownUser, many=False),
    "history": _Kind(ShownHistoryItem, many=True),
    "item": _Kind(ShownItem, many=False),
    "items": _Kind(ShownItem, many=True),
}


def variables_of(tree: nodes.Template) -> frozenset[str]:
    """Names that a template reads and does not set itself."""
    return frozenset(meta.find_undeclared_variables(tree))


def blocks_of(tree: nodes.Template) -> tuple[str, ...]:
    """Names of the blocks, in the order of the file."""
    return tuple(block.name for block in tree.find_all(nodes.Block))


def faults_of(tree: nodes.Template) -> tuple[Fault, ...]:
    """Everything that makes a template unusable, by line."""
    found = [*_blocks(tree), *_constructs(tree), *_names(tree), *_fields(tree)]
    return tuple(sorted(set(found)))


def _blocks(tree: nodes.Template) -> Iterator[Fault]:
    blocks = blocks_of(tree)
    if tuple(sorted(blocks)) not in BLOCKS:
        yield Fault(
            1,
            f"has the blocks {', '.join(blocks) or 'none'}; allowed are system and user "
            "(a chat prompt), or text alone (a plain one)",
        )
    for part in tree.body:
        if isinstance(part, nodes.Block):
            continue
        if not (isinstance(part, nodes.Output) and _is_blank(part)):
            yield Fault(part.lineno, "only comments may stand outside the blocks")


def _is_blank(output: nodes.Output) -> bool:
    return all(isinstance(n, nodes.TemplateData) and not n.data.strip() for n in output.nodes)


def _constructs(tree: nodes.Template) -> Iterator[Fault]:
    for node in tree.find_all(_NOT_ALLOWED):
        yield Fault(node.lineno, f"uses {type(node).__name__.lower()}: a template stands by itself")
    for node in tree.find_all(_NOT_COUNTED):
        yield Fault(
            node.lineno,
            "sets, filters or escapes a stretch of text",
            "Write {% set name = ... %}, and filter what {{ }} shows.",
        )
    for call in tree.find_all(nodes.Call):
        if not (isinstance(call.node, nodes.Getattr) and call.node.attr == "get"):
            yield Fault(
                call.lineno, "calls something: templates call nothing but .get of a mapping"
            )
    for read in tree.find_all((nodes.Getattr, nodes.Getitem)):
        name = read.attr if isinstance(read, nodes.Getattr) else _constant(read)
        if name.startswith("_"):
            yield Fault(read.lineno, f"reads {name!r}: what begins with _ is not for templates")


def _constant(read: nodes.Node) -> str:
    if isinstance(read, nodes.Getitem) and isinstance(read.arg, nodes.Const):
        return str(read.arg.value)
    return ""


def _names(tree: nodes.Template) -> Iterator[Fault]:
    for name in sorted(variables_of(tree) - set(VARIABLES)):
        line = min(n.lineno for n in tree.find_all(nodes.Name) if n.name == name)
        yield Fault(
            line,
            f"unknown variable {name!r}; allowed are {', '.join(VARIABLES)}",
            nearest(name, VARIABLES),
        )
    for node in tree.find_all(nodes.Name):
        if node.name in {"self", "super"}:
            yield Fault(node.lineno, f"uses {node.name}: a block cannot show another")


def fields_read(tree: nodes.Template) -> frozenset[str]:
    """What a template reads, each field by its variable: ``history.title``, ``user.profile``.

    A variable of which no field is read stands by itself.
    """
    variables = variables_of(tree)
    owners = {ShownUser: "user", ShownHistoryItem: "history"}
    owners[ShownItem] = "items" if "items" in variables else "item"
    read = {f"{owners[shown]}.{name}" for shown, name, _ in _reads(tree, _known(tree))}
    alone = variables - {field.partition(".")[0] for field in read}
    return frozenset(read | alone)


def _known(tree: nodes.Template) -> dict[str, _Kind | None]:
    """What each name of a template is, as far as it can be told."""
    known = dict(_KINDS)
    for node in tree.find_all((nodes.For, nodes.Assign)):
        if isinstance(node, nodes.For):
            kind = _element(_kind(node.iter, known))
        elif isinstance(node, nodes.Assign):
            kind = _kind(node.node, known)
        else:
            continue
        if isinstance(node.target, nodes.Name):
            name = node.target.name
            known[name] = kind if known.get(name, kind) == kind else None
    return known


def _fields(tree: nodes.Template) -> Iterator[Fault]:
    for shown, name, line in _reads(tree, _known(tree)):
        allowed = FIELDS[shown]
        if name in allowed:
            continue
        message = f"unknown field {name!r}"
        if shown is ShownItem and name in _ANSWERS:
            message = f"target leakage: a candidate's {name!r} would give the answer away"
        yield Fault(line, f"{message}; allowed are {', '.join(allowed)}", nearest(name, allowed))


def _reads(tree: nodes.Template, known: dict[str, _Kind | None]) -> Iterator[tuple[type, str, int]]:
    """Each field that is read of a known record: ``past.title``, ``map(attribute="title")``."""
    for read in tree.find_all(nodes.Getattr):
        owner = _kind(read.node, known)
        if owner and not owner.many:
            yield owner.shown, read.attr, read.lineno
    for call in tree.find_all(nodes.Filter):
        owner = _kind(call.node, known)
        named = [pair.value for pair in call.kwargs if pair.key == "attribute"]
        if call.name in {"selectattr", "rejectattr"}:
            named += call.args[:1]
        for name in named:
            if owner and owner.many and isinstance(name, nodes.Const):
                yield owner.shown, str(name.value), call.lineno


def _element(kind: _Kind | None) -> _Kind | None:
    return _Kind(kind.shown, many=False) if kind and kind.many else None


def _kind(node: nodes.Node | None, known: dict[str, _Kind | None]) -> _Kind | None:
    """What an expression is, as far as it can be told without running it."""
    if isinstance(node, nodes.Name):
        return known.get(node.name)
    if isinstance(node, nodes.Filter):
        kind = _kind(node.node, known)
        if node.name in {"first", "last"}:
            return _element(kind)
        keeps = {"list", "reverse", "select", "selectattr", "reject", "rejectattr", "sort"}
        return kind if node.name in keeps else None
    if isinstance(node, nodes.Getitem):
        kind = _kind(node.node, known)
        return kind if isinstance(node.arg, nodes.Slice) else _element(kind)
    return None


def places_shown(tree: nodes.Template) -> tuple[int, ...]:
    """Lines that write a candidate's place: ``loop.index`` and its like, in a loop over the items.

    The order of the candidates is the retriever's, or chance: a number says it to the model. A
    place that only a condition asks for is not written.
    """
    known = _known(tree)
    loops = [loop for loop in tree.find_all(nodes.For) if _goes_over_items(loop.iter, known)]
    found = (line for loop in loops for line in _places(loop.body, {"loop"}, set()))
    return tuple(sorted(set(found)))


def _goes_over_items(node: nodes.Node, known: Mapping[str, _Kind | None]) -> bool:
    """Whether a loop over this is one over the candidates, or over something of each of them."""
    if isinstance(node, nodes.CondExpr):
        ways = [way for way in (node.expr1, node.expr2) if way is not None]
        return any(_goes_over_items(way, known) for way in ways)
    if isinstance(node, nodes.Filter | nodes.Getitem) and node.node is not None:
        return _goes_over_items(node.node, known)
    return isinstance(node, nodes.Name) and known.get(node.name) == _KINDS["items"]


def _places(body: Iterable[nodes.Node], loops: set[str], places: set[str]) -> Iterator[int]:
    """Lines that write a place, in the order of the file.

    ``loops`` are what the loop is called, ``places`` the names that were set to a place of it.
    """
    for node in body:
        if isinstance(node, nodes.For):  # within, ``loop`` is another one
            yield from _places(node.body, loops - {"loop"}, set(places))
        elif isinstance(node, nodes.Output):
            yield from _reads_of_places(node, loops, places)
        elif isinstance(node, nodes.Assign):
            targets = [node.target, *node.target.find_all(nodes.Name)]
            names = {name.name for name in targets if isinstance(name, nodes.Name)}
            if isinstance(node.node, nodes.Name) and node.node.name in loops:
                loops |= names
            elif any(_reads_of_places(node.node, loops, places)):
                places |= names
        else:
            yield from _places(node.iter_child_nodes(), loops, places)


def _reads_of_places(node: nodes.Node, loops: set[str], places: set[str]) -> Iterator[int]:
    """Lines where a place becomes part of what an expression makes."""
    if isinstance(node, nodes.Compare | nodes.Test | nodes.Not):
        return  # true or false
    if isinstance(node, nodes.Name) and node.name in places:
        yield node.lineno
    if isinstance(node, nodes.Getattr | nodes.Getitem):
        name = node.attr if isinstance(node, nodes.Getattr) else _constant(node)
        of_loop = isinstance(node.node, nodes.Name) and node.node.name in loops
        if of_loop and name in _PLACES:
            yield node.lineno
    for part in node.iter_child_nodes():
        if not (isinstance(node, nodes.CondExpr) and part is node.test):
            yield from _reads_of_places(part, loops, places)
