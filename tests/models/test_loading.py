from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from llmrec.errors import HardwareError, ModelError, OptionError, OutOfMemoryError
from llmrec.models import (
    DEFAULT_LANGUAGE_MODEL,
    DEFAULT_TEXT_ENCODER,
    ScoredSequence,
    TransformersModel,
    tree_attention,
)
from llmrec.models.generation import decode
from llmrec.models.prefix_scoring import PrefixCache, score_sequences
from tests.models.conftest import tiny_model
from tests.models.test_prefix_scoring import batch

ON_DISK: dict[str, Any] = {
    "model.embed_tokens": "disk",
    "model.rotary_emb": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.layers.2": "cpu",
    "model.norm": "disk",
    "lm_head": "cpu",
}
RANK = """
import sys
import torch
from llmrec.models import TransformersModel, transformers_model
from llmrec.models.prefix_scoring import PrefixCache, score_sequences
from tests.models.test_prefix_scoring import batch

transformers_model.load_tokenizer = lambda source: None
loaded = TransformersModel.from_pretrained(sys.argv[1], tp_plan="auto")
torch.distributed.barrier()
assert loaded.model.model.layers[0].self_attn.q_proj.weight.to_local().shape[0] == 16
cached = PrefixCache()
with torch.inference_mode():
    for seed in (0, 0, 1):
        given = batch(97, seed)
        passed = score_sequences(loaded.model, given, max_rows=100, cached=cached)
        expected = torch.load(f"{sys.argv[1]}/scores-{seed}.pt")
        torch.testing.assert_close(torch.cat(passed.log_probs), expected, atol=1e-4, rtol=0)
torch.distributed.destroy_process_group()
"""
WORDS = ["<unk>", "<s>", "</s>", *(f"word{number}" for number in range(61))]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A random Llama in bfloat16, as checkpoints mostly are, and an empty cache."""
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "tiny"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    return folder


def load(folder: Path, **options: str) -> TransformersModel:
    return TransformersModel.from_pretrained(str(folder), device="cpu", **options)  # type: ignore[arg-type]


def _logits(loaded: TransformersModel) -> torch.Tensor:
    tokens = loaded.tokenizer("word1 word2 word3 word4", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        logits = loaded.model(input_ids=tokens).logits
    assert isinstance(logits, torch.Tensor)
    return logits.float()


def test_a_bfloat16_checkpoint_computes_in_float32_on_a_cpu(tiny: Path) -> None:
    loaded = load(tiny)
    assert loaded.model.dtype == torch.float32
    assert loaded.placement.dtype == "float32"
    assert not loaded.model.training
    assert (loaded.name, len(loaded.revision)) == ("tiny", 16)
    assert loaded.model.config._attn_implementation == tree_attention.NAME
    assert torch.isfinite(_logits(loaded)).all()


def test_requested_dtype_is_used(tiny: Path) -> None:
    assert load(tiny, dtype="bfloat16").model.dtype == torch.bfloat16


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantized_model_is_kept_and_answers_the_same(
    tiny: Path, quantization: str, caplog: pytest.LogCaptureFixture
) -> None:
    exact = load(tiny)
    first = load(tiny, quantization=quantization)
    assert "Quantizing tiny" in caplog.text
    caplog.clear()
    second = load(tiny, quantization=quantization)
    assert "Quantizing" not in caplog.text
    assert torch.equal(_logits(first), _logits(second))
    assert first.model.get_memory_footprint() < 0.6 * exact.model.get_memory_footprint()
    error = (_logits(first) - _logits(exact)).abs().max() / _logits(exact).abs().max()
    assert 0 < error < 0.5


def test_nf4_is_double_quantized_and_computes_in_float32(tiny: Path, tmp_path: Path) -> None:
    load(tiny, quantization="nf4")
    (config,) = (tmp_path / "cache" / "quantized").glob("*/config.json")
    said = json.loads(config.read_text())["quantization_config"]
    assert said["bnb_4bit_quant_type"] == "nf4"
    assert said["bnb_4bit_use_double_quant"] is True
    assert said["bnb_4bit_compute_dtype"] == "float32"


def test_other_weights_are_quantized_anew(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = load(tiny, quantization="nf4")
    model = AutoModelForCausalLM.from_pretrained(tiny)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.mul_(2)
    model.save_pretrained(tiny)
    caplog.clear()
    after = load(tiny, quantization="nf4")
    assert "Quantizing tiny" in caplog.text
    assert not torch.equal(_logits(before), _logits(after))


def test_a_damaged_kept_model_is_quantized_again(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = _logits(load(tiny, quantization="nf4"))
    (weights,) = (tmp_path / "cache" / "quantized").glob("*/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 0xFF
    weights.write_bytes(content)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        after = _logits(load(tiny, quantization="nf4"))
    assert "tiny in nf4 in the cache is damaged" in caplog.text
    assert torch.equal(before, after)


def test_weights_that_are_missing_are_not_made_up(tiny: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"weights are missing, model\.layers\.2\."):
        load(tiny)


def test_damaged_weights_are_named(tiny: Path) -> None:
    (tiny / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match="tiny cannot be loaded"):
        load(tiny)


def test_a_model_without_a_tokenizer_is_refused(tiny: Path) -> None:
    for path in tiny.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match=r"tokenizer"):
        load(tiny)


def test_an_architecture_that_is_not_known_is_named(tiny: Path) -> None:
    (tiny / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(ModelError, match="unheard-of"):
        load(tiny)


def test_remote_code_is_not_run(tiny: Path, tmp_path: Path) -> None:
    (tiny / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config = {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "code.Model"}}
    (tiny / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        load(tiny)
    assert not (tmp_path / "ran").exists()


def test_a_model_that_does_not_fit_says_the_way_out(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(OutOfMemoryError, match="nf4"):
        load(tiny)


@pytest.mark.usefixtures("minilm_folder")
def test_an_encoder_is_not_taken_for_a_language_model() -> None:
    with pytest.raises(ModelError, match="not a whole causal language model"):
        TransformersModel.from_pretrained(DEFAULT_TEXT_ENCODER, device="cpu")


@pytest.mark.usefixtures("smollm2_folder")
def test_the_default_model_loads_in_seconds_and_without_torchvision() -> None:
    seconds = []
    for _ in range(2):
        begun = time.process_time()
        loaded = TransformersModel.from_pretrained(DEFAULT_LANGUAGE_MODEL, device="cpu")
        seconds.append(time.process_time() - begun)
    assert min(seconds) < 2
    assert loaded.model.config.num_hidden_layers == 30
    assert loaded.tokenizer.chat_template
    assert "torchvision" not in sys.modules


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"quantization": "nf5"}, OptionError, "nf5"),
        ({"device": "cuda:99"}, HardwareError, "'cuda:99' is not there"),
        ({"max_rows": 0}, OptionError, "max_rows=0"),
        ({"skip_last_layers": -1}, OptionError, "at least 0"),
        ({"tp_plan": "rowwise"}, OptionError, "tp_plan 'rowwise'"),
        ({"tp_plan": "auto", "device": "cpu"}, OptionError, "its own device"),
        ({"tp_plan": "auto"}, HardwareError, "torchrun"),
    ],
    ids=str,
)
def test_options_are_checked_before_a_model_is_looked_for(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        TransformersModel.from_pretrained("no/model", **options)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A tiny Llama of three layers in a folder."""
    tiny_model("llama").save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def _split(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder,
        device_map=ON_DISK,
        offload_folder=folder / "offloaded",
        attn_implementation=tree_attention.NAME,
        dtype=torch.float32,
    )
    model.eval()
    return model


def _scores(model: PreTrainedModel, cached: PrefixCache | None, seed: int) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat(
            score_sequences(model, batch(97, seed), max_rows=100, cached=cached).log_probs
        )


def test_layers_that_wait_on_the_disk_score_alike_with_a_kept_prefix_too(saved: Path) -> None:
    whole, split = tiny_model("llama"), _split(saved)
    assert {parameter.device.type for parameter in split.parameters()} == {"cpu", "meta"}
    cached = PrefixCache()
    for seed in (0, 0, 1):  # the second call finds all of its prefix kept
        expected = _scores(whole, None, seed)
        torch.testing.assert_close(_scores(split, cached, seed), expected, atol=1e-4, rtol=0)


def test_layers_that_wait_on_the_disk_write_alike(saved: Path) -> None:
    prompts = [(5, 6, 7), (8, 9)]
    written = [
        decode(
            model, prompts, [None, None], ends=(2,), max_new_tokens=5, temperature=0.0, seed=0
        ).answers
        for model in (tiny_model("llama"), _split(saved))
    ]
    assert written[0] == written[1]


def test_auto_is_the_one_device_where_there_is_one(smollm2_folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is there")
    model = TransformersModel.from_pretrained(str(smollm2_folder), device="auto")
    assert model.placement.device == str(model.model.device)


def test_skipped_layers_change_scores_and_revision(smollm2_folder: Path) -> None:
    ref = str(smollm2_folder)
    whole = TransformersModel.from_pretrained(ref, device="cpu")
    short = TransformersModel.from_pretrained(ref, device="cpu", skip_last_layers=4)
    assert len(short.model.model.layers) == short.model.config.num_hidden_layers == 26
    assert short.revision == f"{whole.revision}+skip-4"
    tokens = (*whole.encode("The capital of France is"), whole.encode(" Paris")[0])
    (scores,) = short.log_probs([ScoredSequence(tokens, 1)]).values
    del whole.model.model.layers[26:]
    whole.model.config.num_hidden_layers = 26
    (expected,) = whole.log_probs([ScoredSequence(tokens, 1)]).values
    assert scores == pytest.approx(expected, abs=1e-6)


def test_layers_can_be_left_out_of_a_quantized_model(smollm2_folder: Path) -> None:
    model = TransformersModel.from_pretrained(
        str(smollm2_folder), device="cpu", quantization="nf4", skip_last_layers=2
    )
    assert model.model.config.num_hidden_layers == 28
    assert model.revision.endswith("+nf4+skip-2")


def test_all_layers_cannot_be_left_out(smollm2_folder: Path) -> None:
    with pytest.raises(OptionError, match="30 layers; allowed is 0 to 29"):
        TransformersModel.from_pretrained(str(smollm2_folder), device="cpu", skip_last_layers=30)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="two processes would need two GPUs")
def test_two_processes_that_share_every_layer_score_alike(saved: Path) -> None:
    for seed in (0, 1):
        torch.save(_scores(tiny_model("llama"), None, seed), saved / f"scores-{seed}.pt")
    script = saved / "rank.py"
    script.write_text(RANK)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(port), str(script), str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
