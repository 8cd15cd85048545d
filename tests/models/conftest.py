from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from llmrec.models import tree_attention

SIZE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Windows far shorter than the test's sequences, so that a mask that ignores them is found out.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "head_dim": 16},
    "mistral, window 24": {"model_type": "mistral", "sliding_window": 24},
    "gemma2, window 24, capped": {
        "model_type": "gemma2",
        "head_dim": 16,
        "sliding_window": 24,
        "attn_logit_softcapping": 2.0,
    },
    "gemma3, window 24": {"model_type": "gemma3_text", "head_dim": 16, "sliding_window": 24},
}


def tiny_model(name: str, attention: str = tree_attention.NAME) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(**(SIZE | FAMILIES[name]))
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            # Fresh weights of .02 give almost even logits, in which mistakes would drown.
            torch.nn.init.normal_(parameter, std=0.3)
    made: PreTrainedModel = model.eval()
    return made


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)
