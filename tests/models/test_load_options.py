"""Several devices, tensor parallelism, layers left out: what loads, and that trees still hold."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from llmrec import TransformersModel
from llmrec.errors import HardwareError, OptionError
from llmrec.models import ScoredSequence, tree_attention
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
            model, prompts, [None, None], fill=0, max_new_tokens=5, temperature=0.0, seed=0
        ).answers
        for model in (tiny_model("llama"), _split(saved))
    ]
    assert written[0] == written[1]


def test_auto_is_the_one_device_where_there_is_one(smollm2_folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is there")
    model = TransformersModel.from_pretrained(str(smollm2_folder), device="auto")
    assert model.placement.device == str(model.model.device)


def test_left_out_layers_are_left_out_and_told_apart(smollm2_folder: Path) -> None:
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


@pytest.mark.parametrize(("n", "told"), [(-1, "at least 0"), (30, "30 layers; allowed is 0 to 29")])
def test_what_cannot_be_left_out_is_refused(smollm2_folder: Path, n: int, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        TransformersModel.from_pretrained(str(smollm2_folder), device="cpu", skip_last_layers=n)


def test_tensor_parallelism_outside_of_torchrun_is_refused() -> None:
    with pytest.raises(HardwareError, match="torchrun"):
        TransformersModel.from_pretrained("no/model", tp_plan="auto")


@pytest.mark.parametrize(
    "options", [{"tp_plan": "rowwise"}, {"tp_plan": "auto", "device": "cpu"}], ids=str
)
def test_what_tensor_parallelism_cannot_be_combined_with(options: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="tp_plan"):
        TransformersModel.from_pretrained("no/model", **options)


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
