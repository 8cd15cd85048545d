from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmrec.errors import ModelError
from llmrec.models import resolve_model

WIDTH, LAYERS, HEADS, INNER = 32, 2, 4, 64


@pytest.fixture(autouse=True)
def _own_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "smollm2_folder" not in request.fixturenames:
        cache = request.getfixturevalue("tmp_path") / "cache"
        monkeypatch.setenv("LLMREC_CACHE", str(cache))


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Path:
    """A random model of the Llama kind, with a byte tokenizer and a chat template."""
    path = tmp_path / "tiny.gguf"
    random = np.random.default_rng(0)
    alphabet = sorted({chr(code) for code in range(33, 127)} | {"Ġ"})
    tokens = ["<unk>", "<s>", "</s>", *alphabet, "th", "Ġt"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["t h", "Ġ t"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0, 0.2, shape).astype(np.float32))

    add("token_embd.weight", len(tokens), WIDTH)
    add("output.weight", len(tokens), WIDTH)
    add("output_norm.weight", WIDTH)
    for layer in range(LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{part}.weight", WIDTH, WIDTH)
        add(f"blk.{layer}.ffn_gate.weight", INNER, WIDTH)
        add(f"blk.{layer}.ffn_up.weight", INNER, WIDTH)
        add(f"blk.{layer}.ffn_down.weight", WIDTH, INNER)
        add(f"blk.{layer}.attn_norm.weight", WIDTH)
        add(f"blk.{layer}.ffn_norm.weight", WIDTH)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_kept_model_answers_like_the_file(tiny_gguf: Path) -> None:
    found = resolve_model(str(tiny_gguf))
    assert found.name == "tiny"
    kept = AutoModelForCausalLM.from_pretrained(found.path, dtype=torch.float32)
    direct = AutoModelForCausalLM.from_pretrained(
        tiny_gguf.parent, gguf_file=tiny_gguf.name, dtype=torch.float32
    )
    tokens = torch.arange(3, 40).reshape(1, -1)
    with torch.inference_mode():
        assert torch.equal(kept(tokens).logits, direct(tokens).logits)
    assert getattr(kept.config, "quantization_config", None) is None


def test_the_kept_tokenizer_has_the_chat_template(tiny_gguf: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(str(tiny_gguf)).path)
    messages = [{"role": "user", "content": "hello"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "hello"
    assert tokenizer.tokenize("the th") == ["th", "e", "Ġ", "th"]


def test_a_file_is_converted_once_wherever_it_lies(
    tiny_gguf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = resolve_model(str(tiny_gguf))
    assert "Converting tiny.gguf" in caplog.text
    caplog.clear()
    moved = tiny_gguf.rename(tiny_gguf.with_name("moved.gguf"))
    second = resolve_model(str(moved))
    assert second.path == first.path
    assert second.revision == first.revision
    assert caplog.text == ""


def test_a_file_that_was_cut_off_is_refused_and_leaves_nothing(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    content = tiny_gguf.read_bytes()
    tiny_gguf.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"tiny\.gguf cannot be read"):
        resolve_model(str(tiny_gguf))
    assert [path for path in (tmp_path / "cache" / "converted").iterdir() if path.is_dir()] == []


def test_the_default_model_knows_its_language(smollm2_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(smollm2_folder)
    assert tokenizer.chat_template
    tokens = tokenizer("The capital of France is", return_tensors="pt")
    with torch.inference_mode():
        best = model(**tokens).logits[0, -1].argmax()
    assert tokenizer.decode(best) == " Paris"
