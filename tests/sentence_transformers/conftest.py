"""Small sentence encoders of several kinds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.conftest import write_modules

EncoderFolder = Callable[..., Path]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """Threads of models this small wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def encoder_folder(backbone_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> EncoderFolder:
    """Makes a sentence encoder of a family; ``settings`` go into its config_sentence_transformers.json."""

    def make(
        family: str,
        *,
        pooling: str = "mean",
        normalize: bool = True,
        similarity: str = "cosine",
        include_prompt: bool = True,
        noise: float = 0.0,
        **settings: Any,
    ) -> Path:
        path = tmp_path_factory.mktemp("encoder") / family
        shutil.copytree(backbone_folder(family), path)
        write_modules(path, normalize=normalize, similarity=similarity)
        edit(path / "config_sentence_transformers.json", **settings)
        flags = {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"}
        edit(path / "1_Pooling" / "config.json", **flags, include_prompt=include_prompt)
        # What the tokenizers of the published models give to their networks.
        edit(path / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
        if noise:
            dice = np.random.default_rng(1)
            weights = load_file(path / "model.safetensors")
            noisy = {
                name: weight + noise * dice.standard_normal(weight.shape, dtype=np.float32)
                for name, weight in weights.items()
            }
            save_file(noisy, path / "model.safetensors", metadata={"format": "pt"})
        return path

    return make


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
