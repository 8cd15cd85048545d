from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from llmrec.errors import ModelError
from llmrec.models import DEFAULT_LANGUAGE_MODEL, resolve_model
from llmrec.prompting import Template, load_template

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "[PAD]")


@dataclass(frozen=True)
class RealTokenizer:
    """A `tokenizers` tokenizer as prompting wants one."""

    inner: Tokenizer
    special_tokens: tuple[str, ...]

    def encode(self, text: str) -> Sequence[int]:
        ids: list[int] = self.inner.encode(text, add_special_tokens=False).ids
        return ids

    def cut(self, text: str, n_tokens: int) -> str:
        offsets = self.inner.encode(text, add_special_tokens=False).offsets
        return text if len(offsets) <= n_tokens else text[: offsets[n_tokens][0]]


def tiny_tokenizer() -> RealTokenizer:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.train_from_iterator(
        ["a person chose these items, oldest first", "the quiet ferryman", "yes or no"] * 4,
        trainers.BpeTrainer(
            vocab_size=320,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=list(SPECIAL),
            show_progress=False,
        ),
    )
    inner.encode_special_tokens = True
    return RealTokenizer(inner, SPECIAL)


def smollm2_tokenizer() -> RealTokenizer:
    try:
        folder = resolve_model(DEFAULT_LANGUAGE_MODEL).path
    except ModelError as error:
        pytest.skip(f"the default language model cannot be had: {error}")
    inner = Tokenizer.from_file(str(folder / "tokenizer.json"))
    inner.encode_special_tokens = True
    special = [t.content for t in inner.get_added_tokens_decoder().values() if t.special]
    return RealTokenizer(inner, tuple(special))


@pytest.fixture(scope="session", params=["tiny", "smollm2"])
def tokenizer(request: pytest.FixtureRequest) -> RealTokenizer:
    return tiny_tokenizer() if request.param == "tiny" else smollm2_tokenizer()


@pytest.fixture
def write_template(tmp_path: Path) -> Callable[..., Path]:
    """Write a template file; its blocks default to a usable pair."""

    def write(user: str, *, strategy: str = "pointwise", source: str | None = None) -> Path:
        path = tmp_path / strategy / "own.jinja"
        path.parent.mkdir(exist_ok=True)
        chat = f"{{% block system %}}\nAnswer.\n{{% endblock %}}\n{{% block user %}}\n{user}\n"
        path.write_text(source or chat + "{% endblock %}\n", encoding="utf-8", newline="")
        return path

    return write


@pytest.fixture
def own_template(write_template: Callable[..., Path]) -> Callable[..., Template]:
    return lambda user, **options: load_template(write_template(user, **options))
