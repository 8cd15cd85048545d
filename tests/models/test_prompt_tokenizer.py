from __future__ import annotations

from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from llmrec.errors import ModelError
from llmrec.models import TransformersModel, labels_for, prompt_tokenizer
from llmrec.models.labels import label_tokens
from llmrec.models.prompt_tokenizer import EstimatedTokenizer, PromptTokenizer
from llmrec.prompting import neutralise
from llmrec.records import Prompt

READER = EstimatedTokenizer()


def test_labels_are_one_token_each() -> None:
    assert labels_for(READER, 26) == tuple(ascii_uppercase)
    assert len(label_tokens(READER, "Yes")) == 6
    assert not set(label_tokens(READER, "A")) & set(label_tokens(READER, "B"))


@pytest.mark.parametrize(
    "text", ["", " ", "Blue Velvet", "第七封印", "a\n\n b", "1999's best: 7.5/10"]
)
def test_every_character_is_counted_and_a_cut_counts_as_many(text: str) -> None:
    n = len(READER.encode(text))
    assert READER.cut(text, n) == text
    for k in range(n):
        cut = READER.cut(text, k)
        assert text.startswith(cut)
        assert len(READER.encode(cut)) == k


def test_a_prompt_counts_its_turns() -> None:
    plain = Prompt("", "", "Blue Velvet")
    chat = Prompt("", "Blue Velvet")
    assert (
        READER.count_tokens([plain])[0]
        < READER.count_tokens([chat])[0]
        < READER.count_tokens([Prompt("Hello", "Blue Velvet")])[0]
    )


MIXED = (
    *("", " ", "Blue Velvet", "Blue Velvet\n", " Blue", "第七封印", "a\n\n b", "Blue Velvet"),
    *("x<|im_end|>y<|im_start|>", "<|im_start|>user", "🎬 e\u0301", "ﷺ ﬁ", "\u00a0\t"),
)


def test_many_texts_at_once_have_the_tokens_that_transformers_gives_each(
    smollm2: TransformersModel,
) -> None:
    reader = PromptTokenizer(smollm2.tokenizer, "m")
    told = {"add_special_tokens": False, "split_special_tokens": True}
    plain = [smollm2.tokenizer(text, **told)["input_ids"] for text in MIXED]
    assert [tokens.tolist() for tokens in reader.encode_texts(MIXED)] == plain
    assert [reader.encode(text) for text in MIXED] == plain
    chats = [Prompt("Be brief.", text or "?") for text in MIXED]
    texts = [reader.chat.render(prompt) for prompt in chats] if reader.chat else []
    read = [smollm2.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    prompts = [*chats, *(Prompt("", "", text) for text in MIXED)]
    assert [tokens.tolist() for tokens in reader.encode_prompts(prompts)] == [
        *read,
        *([tokens or [smollm2.tokenizer.bos_token_id] for tokens in plain]),
    ]
    assert (
        reader.count_tokens(prompts[::-1]) == [len(t) for t in reader.encode_prompts(prompts)][::-1]
    )


def test_a_tokenizer_that_adds_something_is_asked_itself(smollm2: TransformersModel) -> None:
    class Shouting(type(smollm2.tokenizer)):  # type: ignore[misc]
        def _encode_plus(self, text: list[str], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            return super()._encode_plus([one.upper() for one in text], *args, **kwargs)

    shouting = Shouting(tokenizer_object=smollm2.tokenizer.backend_tokenizer)
    reader = PromptTokenizer(shouting, "m")
    assert [t.tolist() for t in reader.encode_texts(["blue", "velvet"])] == [
        smollm2.encode("BLUE"),
        smollm2.encode("VELVET"),
    ]
    assert reader.encode_texts([]) == []


def test_the_cache_forgets_and_still_answers(
    smollm2: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_tokenizer, "MOST_KEPT", 3)
    reader = PromptTokenizer(smollm2.tokenizer, "m")
    texts = ["one", "two", "three", "two", "four"]
    for _ in range(3):
        found = [tokens.tolist() for tokens in reader.encode_texts(texts)]
        assert found == [smollm2.encode(text) for text in texts]
        assert [reader.encode(text) for text in texts[::-1]] == found[::-1]


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path, smollm2_folder: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(smollm2_folder / name)
    with pytest.raises(ModelError, match="no tokenizer"):
        PromptTokenizer.from_pretrained(str(tmp_path))


MARKERS = (
    *("[CTX]", "@@SYS@@", "USER_TURN", "§end§", "<<user>>", "{user}", "##user##", "⟦user⟧", "###"),
    *("<user>", "|user|", "user_turn", "«assistant»", "%%assistant%%", "~assistant~", "/system/"),
    *("\\end", "$$sys$$", "user:"),
)
WORDS = ("movie", "co-op", "don't", "C++", "U.S.", "iPhone15", "日本", "...", "—")


def test_added_tokens_are_neutralised_and_ordinary_words_stay_whole() -> None:
    plain = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    plain.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]")
    tokenizer.add_tokens([*MARKERS, *WORDS])
    special = PromptTokenizer(tokenizer, "m").special_tokens
    ids = tokenizer.get_added_vocab()
    for marker in MARKERS:
        harmless = neutralise(f"x {marker} y{marker}{marker}", special)
        read = tokenizer(harmless, add_special_tokens=False)["input_ids"]
        assert not {ids[one] for one in MARKERS} & set(read), harmless
    assert neutralise(" ".join(WORDS), special) == " ".join(WORDS)
