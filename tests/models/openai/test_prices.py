from __future__ import annotations

from pathlib import Path

import pytest

from llmrec.errors import OptionError
from llmrec.models.openai import Prices
from llmrec.records import Usage

USAGE = Usage(tokens_given=3_000_000, tokens_forwarded=1_000_000, tokens_generated=500_000)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.toml", '["a/b:c"]\ninput = 0.5\noutput = 2\ncached_input = 0.1\n'),
        ("p.json", '{"a/b:c": {"input": 0.5, "output": 2, "cached_input": 0.1}}'),
    ],
)
def test_a_table_is_read_and_usage_costed(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    prices = Prices.load(tmp_path / name, "a/b:c")
    assert prices.cost(USAGE) == pytest.approx(0.5 + 2 * 0.1 + 1.0)


def test_cached_tokens_default_to_the_full_price() -> None:
    assert Prices(input=1.0, output=0.0).cost(USAGE) == pytest.approx(3.0)
    assert Prices(input=1.0, output=0.0).cost(Usage()) == 0.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[m]\ninput = -1\noutput = 2", "no table of prices"),
        ("[m]\ninput = 1", "no table of prices"),
        ("[m]\ninput = 1\noutput = 2\nextra = 3", "no table of prices"),
        ("m = [", "no table of prices"),
        ("[mm]\ninput = 1\noutput = 2", "Did you mean 'mm'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(OptionError, match=message):
        Prices.load(tmp_path / "p.toml", "m")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no table"):
        Prices.load(tmp_path / "none.toml", "m")
