"""A network that encodes, with what may be changed of it while it is in use."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch

from pairloom.encode.encoder import Encoder
from pairloom.encode.torch_engine import TorchEngine
from pairloom.models.heads import Pooling
from pairloom.models.model import Model
from pairloom.network.encoder import EncoderNetwork
from pairloom.sentence_transformers.arguments import Device, device_name
from pairloom.sentence_transformers.tokenizer import TextTokenizer


class Half:
    """The encoder of queries or of documents, or the one of both.

    Args:
        stored: The model as its folder has it.
        device: By default the best there is.

    Raises:
        UsageError: There is no such device.
    """

    def __init__(self, stored: Model, device: Device | None) -> None:
        self.stored = stored
        # Embeddings are cut by the caller and not in the network, because each call may ask for another number of components.
        self.model = dataclasses.replace(stored, output_size=None)
        self._network = EncoderNetwork(self.model)
        self._tokenizer: TextTokenizer | None = None
        self.move(device)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._engine.device

    @property
    def tokenizer(self) -> TextTokenizer:
        """With the limit of now."""
        if self._tokenizer is None:
            self._tokenizer = TextTokenizer(self.model)
        return self._tokenizer

    def move(self, device: Device | None) -> None:
        """Makes what encodes anew, there, from the model and the network as they are now."""
        self._engine = TorchEngine(
            self._network, device=None if device is None else device_name(device), precision="float32"
        )
        self._encoder = Encoder(self.model, engine=self._engine, precision="float32")

    def set_max_tokens(self, limit: int) -> None:
        """Lets longer texts be cut to it, special tokens included."""
        self.model = dataclasses.replace(self.model, max_tokens=limit)
        self._tokenizer = None
        self.move(self.device)

    def set_include_prompt(self, include_prompt: bool) -> None:
        """Says whether a prompt's tokens take part in pooling."""
        pooling = Pooling(self.model.pooling.modes, include_prompt)
        self.model = dataclasses.replace(self.model, pooling=pooling)
        self.move(self.device)

    def encode(self, texts: list[str], prompt: str, *, show_progress: bool) -> npt.NDArray[np.float32]:
        """The vectors [N, D] of at least one text, with the prompt before each."""
        return self._encoder.encode(texts, prompt=prompt, show_progress=show_progress)
