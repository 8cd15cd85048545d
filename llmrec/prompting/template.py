"""Templates: where they lie, and what makes one usable."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from jinja2 import TemplateSyntaxError

from llmrec.errors import PromptError, nearest
from llmrec.prompting import sandbox, structure

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
        "explain": "explain/plain",
    }
)
"""The template each strategy takes where none is named."""

_HEADER = re.compile(r"\A\s*\{#-?\s*(.*?)\s*-?#\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Template:
    """One wording of a prompt, checked.

    Attributes:
        name: ``likelihood/list`` for a file ``likelihood/list.jinja``.
        strategy: The name of the folder it lies in.
        source: The file's text.
        sha256: Of the file's text, in hex.
        path: The file.
        blocks: ``("system", "user")`` for a chat prompt, ``("text",)`` for a plain one.
        variables: What it reads, of :data:`llmrec.prompting.structure.VARIABLES`.
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
        """The first line of the comment it begins with, empty where there is none."""
        header = _HEADER.match(self.source)
        return header.group(1).partition("\n")[0] if header else ""


def prompts_folder() -> Path:
    """The folder of the templates that come with llmrec: in a wheel, else in a checkout.

    Raises:
        PromptError: The installation has lost it.
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
    """The templates that come with llmrec, by name; those of one strategy where one is given.

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
    try:
        tree = sandbox.parse(source)
    except TemplateSyntaxError as error:
        message = (error.message or "cannot be read").rstrip(".")
        raise PromptError(
            f"{path}, line {error.lineno}: {message}.",
            hint=sandbox.syntax_hint(message),
        ) from error
    for fault in structure.faults_of(tree):
        raise PromptError(
            f"{path}, line {fault.line}: {fault.message}.",
            hint=fault.hint or "`llmrec prompts check` lists all that is wrong with a template.",
        )
    return Template(
        name=f"{path.parent.name}/{path.stem}",
        strategy=path.parent.name,
        source=source,
        sha256=hashlib.sha256(source.encode()).hexdigest(),
        path=path,
        blocks=tuple(sorted(structure.blocks_of(tree))),
        variables=structure.variables_of(tree),
    )


def template_path(ref: str | Path) -> Path:
    """The file of a template.

    Raises:
        PromptError: There is no such template or file.
    """
    if isinstance(ref, Path) or ref.endswith(".jinja"):
        path = Path(ref)
        if not path.is_file():
            raise PromptError(
                f"There is no template file {str(path)!r}.",
                hint="A shipped template is named without .jinja, as in likelihood/list.",
            )
        return path.resolve()
    names = template_names()
    if ref not in names:
        raise PromptError(
            f"There is no template {ref!r}; there are {', '.join(names)}.",
            hint=nearest(ref, names) or "A file of your own is named by its path, with .jinja.",
        )
    return prompts_folder() / f"{ref}.jinja"


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
