# SPDX-License-Identifier: MulanPSL-2.0
"""What the real engine checks in MODEL/config.json: in the arguments, out the facts it needs."""

import json
import os
from dataclasses import dataclass

from .flags import Arguments


class StartError(Exception):
    """The engine cannot start; the text is what the real one prints."""


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    max_model_len: int
    shards: int  # 0 when the folder holds no weights


def read_model(arguments: Arguments) -> Model:
    config = _read_config(arguments.model)
    heads = _positive(config, "num_attention_heads", 32)
    size = arguments.tensor_parallel_size
    if heads % size:
        raise StartError(
            _validation(
                f"Total number of attention heads ({heads}) must be divisible by tensor "
                f"parallel size ({size})."
            )
        )
    longest = _positive(config, "max_position_embeddings", 131072)
    wanted = arguments.max_model_len or longest
    if wanted > longest:
        raise StartError(
            _validation(
                f"User-specified max_model_len ({wanted}) is greater than the derived "
                f"max_model_len (max_position_embeddings={longest} or model_max_length=None in "
                "model's config.json)."
            )
        )
    shards = sum(name.endswith(".safetensors") for name in os.listdir(arguments.model))
    return Model(arguments.model, wanted, shards)


def _read_config(model: str) -> dict[str, object]:
    path = os.path.join(model, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except ValueError as error:
        raise StartError(
            f"OSError: It looks like the config file at '{path}' is not a valid JSON file."
        ) from error
    except OSError as error:
        raise StartError(
            _validation(
                f"Invalid repository ID or local directory specified: '{model}'.\n"
                "Please verify the following requirements:\n"
                "1. Provide a valid Hugging Face repository ID.\n"
                "2. Specify a local directory that contains a recognized configuration file.\n"
                f"   - For Hugging Face models: ensure the presence of a 'config.json'. ({error})"
            )
        ) from error
    if not isinstance(config, dict):
        raise StartError(f"OSError: '{path}' is not a valid JSON file.")
    return config


def _positive(config: dict[str, object], key: str, default: int) -> int:
    value = config.get(key, default)
    if not isinstance(value, int) or value < 1:
        raise StartError(_validation(f"{key} must be a positive number. Got {value!r}."))
    return value


def _validation(text: str) -> str:
    return (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
        f"  Value error, {text}"
    )
