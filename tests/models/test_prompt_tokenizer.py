from __future__ import annotations

from pathlib import Path
from string import ascii_uppercase

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from llmrec.errors import ModelError
from llmrec.models import labels_for
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
        READER.count_tokens(plain)
        < READER.count_tokens(chat)
        < READER.count_tokens(Prompt("Hello", "Blue Velvet"))
    )


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
