# SPDX-License-Identifier: MulanPSL-2.0
"""A model directory that looks like the real one, a few kilobytes instead of 16 GB.

The shape (heads, layers, vocabulary) is what the published config.json of the model says: agent and
engine double read it. The weights are one small tensor in a valid safetensors file.
"""

import json
import struct

from .host import LabHost

MODEL_8B = "DeepSeek-R1-Distill-Llama-8B"
MODELS_DIRECTORY = "/var/lib/deepseek/models"
HIDDEN = f"{MODELS_DIRECTORY}/hidden-{MODEL_8B}"
SHOW_MODEL = f"[ ! -e {HIDDEN} ] || mv {HIDDEN} {MODELS_DIRECTORY}/{MODEL_8B}"
CONFIG_8B: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.0",
    "use_cache": True,
    "vocab_size": 128256,
}
GENERATION_8B: dict[str, object] = {
    "_from_model_config": True,
    "bos_token_id": 128000,
    "do_sample": True,
    "eos_token_id": 128001,
    "temperature": 0.6,
    "top_p": 0.95,
}
TOKENIZER_CONFIG: dict[str, object] = {
    "add_bos_token": True,
    "add_eos_token": False,
    "clean_up_tokenization_spaces": False,
    "model_max_length": 16384,
    "tokenizer_class": "LlamaTokenizerFast",
    "chat_template": "{% for message in messages %}{{ message['content'] }}{% endfor %}",
}
TOKENIZER: dict[str, object] = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
}


def build_safetensors(name: str = "model.norm.weight", length: int = 4096) -> bytes:
    """One bfloat16 tensor of ones: 8 bytes length of the header, header, data."""
    data = b"\x80\x3f" * length
    tensor = {"dtype": "BF16", "shape": [length], "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": {"format": "pt"}, name: tensor}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


def add_model(host: LabHost, name: str = MODEL_8B, directory: str = MODELS_DIRECTORY) -> str:
    """Writes the model into the host; returns its directory there."""
    target = f"{directory}/{name}"
    files = {
        "config.json": CONFIG_8B,
        "generation_config.json": GENERATION_8B,
        "tokenizer.json": TOKENIZER,
        "tokenizer_config.json": TOKENIZER_CONFIG,
    }
    for file, content in files.items():
        host.write(f"{target}/{file}", json.dumps(content, indent=2) + "\n")
    weights = ["install", "-D", "-m", "644", "/dev/stdin", f"{target}/model.safetensors"]
    host.run(weights, input=build_safetensors())
    return target


def hide_model(host: LabHost) -> None:
    """Not found any more; what runs of it runs on."""
    host.run(["mv", f"{MODELS_DIRECTORY}/{MODEL_8B}", HIDDEN])


def show_model(host: LabHost) -> None:
    """Where it is hidden."""
    host.run(["sh", "-c", SHOW_MODEL])
