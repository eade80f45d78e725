"""Whether both sides compute the same: losses, vectors and gradients of one batch, dropout off."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._train_device import Texts, recipe_for
from benchmarks._train_models import without_dropout
from benchmarks._train_trial import Trial, their_loss
from pairloom.encode.torch_engine import TorchEngine
from pairloom.models.families import family_of
from pairloom.models.model import Model
from pairloom.models.names import find_model, load_model
from pairloom.recipe import Precision
from pairloom.train.data import start_mixture
from pairloom.train.learner import Learner
from pairloom.train.step import BatchTokenizer, BatchTokens


@dataclass(frozen=True)
class FirstStep:
    """The loss of a batch, and the norm of its gradient over all weights, before any is changed."""

    loss: float
    gradient_norm: float


def first_step(trial: Trial) -> tuple[FirstStep, FirstStep]:
    """Of pairloom and of sentence-transformers, on the trial's first batch, in float32."""
    trial = dataclasses.replace(trial, precision="float32")
    recipe = trial.recipe()
    batch = next(start_mixture(recipe))
    model = load_model(trial.model)
    learner = Learner(without_dropout(model), recipe, similarity="cosine", device=torch.device("cpu"))
    result = learner.step(BatchTokenizer(model, recipe.data)(batch), 1)
    return FirstStep(result.loss, result.gradient_norm), _their_first_step(trial, batch.columns)


def _their_first_step(trial: Trial, columns: tuple[list[str], ...]) -> FirstStep:
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model = SentenceTransformer(str(find_model(trial.model)), device="cpu").eval()  # no dropout
    model.max_seq_length = trial.max_tokens
    features: list[dict[str, Any]] = [model.preprocess(texts) for texts in columns]
    loss = their_loss(model, trial.mini_batch)(features, None)
    loss.backward()
    squares = [weight.grad.square().sum() for weight in model.parameters() if weight.grad is not None]
    return FirstStep(loss.item(), torch.stack(squares).sum().sqrt().item())


@dataclass(frozen=True)
class Computed:
    """What a network makes of a batch.

    Args:
        vectors: Of its texts, float32 [N, D] on the CPU.
        loss: Of the batch.
        gradients: By canonical name of the weight.
    """

    vectors: torch.Tensor
    loss: float
    gradients: dict[str, torch.Tensor]


def ours_on(
    model: Model, texts: Texts, device: torch.device, *, train: dict[str, Any], precision: Precision = "float32"
) -> Computed:
    """By pairloom with these keys of the recipe's ``[train]``; gradients as they are before clipping."""
    recipe = recipe_for(precision, {**train, "max_gradient_norm": 1e9})
    learner = Learner(model, recipe, similarity="cosine", device=device)
    vectors = TorchEngine(learner.network, device=str(device), precision=precision).embed(texts.tokens)
    result = learner.step(BatchTokens(texts.tokens, texts.num_pairs, 2), 1)
    gradients = {}
    for name, weight in learner.network.backbone.named_parameters():
        assert weight.grad is not None
        if ".qkv." in name:  # one product in our network, three in the canonical names
            for part, piece in zip(("query", "key", "value"), weight.grad.chunk(3), strict=True):
                gradients[name.replace("qkv", part)] = piece.cpu()
        else:
            gradients[name] = weight.grad.cpu()
    return Computed(torch.from_numpy(vectors), result.loss, gradients)


def transformers_on(folder: Path, model: Model, texts: Texts, device: torch.device) -> Computed:
    """By transformers' own network, on the padded batch, with its plain attention; loss and pooling written out."""
    import transformers

    network = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").to(device).eval()
    lengths = torch.from_numpy(texts.tokens.lengths).to(device)
    ids = texts.tokens.padded(np.arange(len(texts.tokens)), model.architecture.pad_token_id)
    inside = torch.arange(ids.shape[1], device=device) < lengths[:, None]
    hidden = network(input_ids=torch.from_numpy(ids).to(device), attention_mask=inside.long()).last_hidden_state
    pooled = (hidden * inside[..., None]).sum(dim=1) / lengths[:, None]
    vectors = pooled / pooled.norm(dim=1, keepdim=True)
    scores = 20.0 * vectors[: texts.num_pairs] @ vectors[texts.num_pairs :].T
    own = scores.diagonal()
    loss = (scores.logsumexp(dim=1) + scores.logsumexp(dim=0) - 2 * own).mean() / 2
    loss.backward()
    weights = dict(network.named_parameters())
    keys = family_of(model.config, folder).keys(model.architecture)
    gradients = {canonical: weights[key].grad.cpu() for canonical, key in keys}
    return Computed(vectors.detach().cpu(), loss.item(), gradients)


def differences(one: Computed, other: Computed) -> dict[str, float]:
    """How far two are apart: ``vectors``, the largest difference of a component; ``cosine``, the lowest of a text;
    ``gradient``, the length of the difference of the whole gradients over the length of the other; ``loss``."""
    cosines = torch.nn.functional.cosine_similarity(one.vectors, other.vectors)
    apart = total = 0.0
    for name, gradient in other.gradients.items():
        apart += (one.gradients[name].double() - gradient.double()).square().sum().item()
        total += gradient.double().square().sum().item()
    return {
        "vectors": (one.vectors - other.vectors).abs().max().item(),
        "cosine": cosines.min().item(),
        "gradient": (apart / total) ** 0.5,
        "loss": abs(one.loss - other.loss),
    }
