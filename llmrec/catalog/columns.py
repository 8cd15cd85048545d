"""The column map: file and column names of a data set that differ from llmrec's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from llmrec.catalog.values import decoded
from llmrec.errors import DataError, check_path, nearest

TableName = Literal["items", "reviews", "interactions", "users", "social", "facts"]


class Layout(NamedTuple):
    """The columns of a table; with ``attributes`` every other column is an attribute."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    attributes: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that have a meaning of their own."""
        return self.required + self.optional


LAYOUTS: MappingProxyType[TableName, Layout] = MappingProxyType(
    {
        "items": Layout(
            ("item_id",), ("title", "description", "image", "video", "audio"), attributes=True
        ),
        "reviews": Layout(("item_id", "text"), ("rating", "user_id", "timestamp")),
        "interactions": Layout(("user_id", "item_id"), ("rating", "timestamp")),
        "users": Layout(("user_id",), attributes=True),
        "social": Layout(("user_id", "friend_id")),
        "facts": Layout(("head", "relation", "tail")),
    },
)


class TableMap(BaseModel):
    """File, columns and format of one table.

    Args:
        file: File name inside the folder, ending as :data:`llmrec.catalog.tables.SUFFIXES` lists.
        columns: llmrec's column -> column of the file, as in ``{"item_id": "movieId"}``.
        separators: Attribute -> separator of its values, as in ``{"genres": "|"}``.
        missing_rating: The rating that means "not rated", such as 0.
        neutral_rating: The rating above which an item counts as liked, such as 3 on a scale of 1
            to 5. None guesses it, see :func:`llmrec.catalog.guess_neutral`.
        ignore: Columns of the file to leave out, such as counts that include test rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    separators: dict[str, str] = Field(default_factory=dict)
    missing_rating: FiniteFloat | None = None
    neutral_rating: FiniteFloat | None = None
    ignore: tuple[str, ...] = ()


class ColumnMap(BaseModel):
    """File, columns and format of each table; the default is llmrec's own names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: TableMap = TableMap()
    reviews: TableMap = TableMap()
    interactions: TableMap = TableMap()
    users: TableMap = TableMap()
    social: TableMap = TableMap()
    facts: TableMap = TableMap()

    def table(self, name: TableName) -> TableMap:
        """Return the map of one table."""
        table: TableMap = getattr(self, name)
        return table

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a column map from a JSON file.

        The file holds one object with a key for each table that differs, as in
        ``{"items": {"file": "movies.csv", "columns": {"item_id": "movieId"}}}``.

        Raises:
            DataError: The file cannot be read, is not JSON, or holds a key or value that is not
                allowed; the nearest valid key is named.
        """
        path = check_path("columns", path)
        try:
            text = decoded(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(
                f"The column map '{path}' cannot be read: {error}.",
                hint="Give the path of a JSON file in UTF-8.",
            ) from error
        try:
            return cls.model_validate_json(text)
        except (ValidationError, DataError) as error:
            found = _unusable(error) if isinstance(error, ValidationError) else error
            message = found.message.replace("The column map", f"The column map '{path}'", 1)
            raise DataError(message, hint=found.hint) from error

    @model_validator(mode="after")
    def _keys_mean_something(self) -> Self:
        for name, layout in LAYOUTS.items():
            table = self.table(name)
            for column in () if layout.attributes else table.columns:
                if column not in layout.columns:
                    allowed = ", ".join(layout.columns)
                    raise ValueError(
                        f"{name}.columns: {column!r} is not allowed; allowed are {allowed}. "
                        f"{nearest(column, layout.columns)}".rstrip(" ."),
                    )
            if table.separators and not layout.attributes:
                raise ValueError(f"{name}.separators: only items and users have attributes")
            if "" in table.separators.values():
                raise ValueError(f"{name}.separators: a separator is at least one character")
            for key in ("missing_rating", "neutral_rating"):
                if getattr(table, key) is not None and "rating" not in layout.columns:
                    raise ValueError(f"{name}.{key}: only reviews and interactions have ratings")
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _or_a_data_error(cls, given: object, read: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return read(given)
        except ValidationError as error:
            raise _unusable(error) from error


def _unusable(error: ValidationError) -> DataError:
    errors = (_described(each["type"], each["loc"], each["msg"]) for each in error.errors())
    return DataError(
        f"The column map is not usable: {'; '.join(errors)}.",
        hint=f"Tables: {', '.join(LAYOUTS)}; keys of a table: {', '.join(TableMap.model_fields)}.",
    )


def _described(kind: str, place: Sequence[int | str], message: str) -> str:
    """Describe an error of pydantic in one clause, with the nearest key for an unknown one."""
    where = ".".join(map(str, place)) or "the file"
    if kind == "extra_forbidden":
        fields = ColumnMap.model_fields if len(place) == 1 else TableMap.model_fields
        close = nearest(str(place[-1]), fields).rstrip("?")
        return f"unknown key {where!r}" + (f" ({close[0].lower()}{close[1:]}?)" if close else "")
    return f"{where}: {message.removeprefix('Value error, ')}"
