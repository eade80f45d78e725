"""Dropout from keys: its statistics, that it is a text's own, and its gradients against plain autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from pairloom.models.read import read_model
from pairloom.network.backbone import Backbone
from pairloom.network.noise import DeviceNoise, KeyedNoise, keep_bits, mix
from pairloom.network.packed import Packed
from pairloom.pairs import counter_random
from tests.conftest import FAMILIES
from tests.network.texts import make_packed

# Standard errors that a share or a variance may be off: with fixed keys a test passes or fails for ever, and of a
# hundred sound generators not one would fail.
SIGMAS = 5.0
PROBABILITIES = (0.0, 0.1, 1 / 3, 0.5, 0.9, 1.0)

Array = npt.NDArray[np.float64]


def make_noise(lengths: Sequence[int], keys: Sequence[int] | None = None) -> KeyedNoise:
    """Dropout of texts whose keys are their numbers, which lie as near to each other as keys can."""
    return KeyedNoise(torch.tensor(list(keys or range(len(lengths)))), make_packed(lengths))


def kept_components(noise: KeyedNoise, num_tokens: int, width: int, *, probability: float, site: int = 0) -> Tensor:
    """What is kept of token vectors, bool [S, H]."""
    return noise.add_dropped(torch.ones(num_tokens, width), None, probability=probability, site=site) != 0


def kept_weights(
    noise: KeyedNoise, num_texts: int, heads: int, width: int, *, probability: float, site: int = 0
) -> Tensor:
    """What is kept of attention weights, bool [B, A, T, T]: equal weights on vectors that point at their places."""
    query = torch.zeros(num_texts, heads, width, width)
    value = torch.eye(width).expand(num_texts, heads, width, width).contiguous()
    return noise.attend(query, query, value, None, probability=probability, site=site) != 0


def test_the_mixer_is_that_of_the_pairs_bit_for_bit() -> None:
    drawn = np.random.default_rng(0).integers(0, 2**64, size=1000, dtype=np.uint64, endpoint=False)
    numbers = np.concatenate([drawn, np.array([0, 1, 2**63 - 1, 2**63, 2**64 - 1], dtype=np.uint64)])
    expected = counter_random.mix(numbers.copy())
    mixed = mix(torch.from_numpy(numbers.view(np.int64)))
    np.testing.assert_array_equal(mixed.numpy().view(np.uint64), expected)


def test_mixing_leaves_the_numbers_as_they_were() -> None:
    numbers = torch.arange(5)
    mix(numbers)
    assert numbers.equal(torch.arange(5))


@pytest.mark.parametrize("probability", PROBABILITIES)
@pytest.mark.parametrize("kind", ["components", "weights"])
def test_as_much_is_dropped_as_was_asked_for(kind: str, probability: float) -> None:
    if kind == "components":
        kept = kept_components(make_noise([64] * 32), 2048, 126, probability=probability)
    else:
        kept = kept_weights(make_noise([32] * 64), 64, 4, 32, probability=probability)
    dropped = 1 - kept.double().mean().item()
    error = math.sqrt(probability * (1 - probability) / kept.numel())
    assert abs(dropped - probability) <= SIGMAS * error + 2**-16


@pytest.mark.parametrize("probability", [0.1, 1 / 3, 0.5])
def test_the_number_dropped_varies_as_that_of_independent_decisions(probability: float) -> None:
    kept = kept_components(make_noise([64] * 32), 2048, 256, probability=probability).double()
    weights = kept_weights(make_noise([32] * 64), 64, 4, 32, probability=probability).double()
    for rows in (kept, kept.T, weights.flatten(0, 2), weights.transpose(2, 3).flatten(0, 2)):
        count, size = rows.shape
        expected = size * probability * (1 - probability)
        # The variance of a sample's variance, with the excess kurtosis of a binomial distribution.
        excess = (1 - 6 * probability * (1 - probability)) / expected
        error = expected * math.sqrt(2 / (count - 1) + excess / count)
        assert abs(rows.sum(dim=1).var().item() - expected) <= SIGMAS * error


def largest_correlation(decisions: Array) -> float:
    """Over all shifts of an array against itself, along all of its axes at once, in standard errors."""
    centred = decisions - decisions.mean()
    spectrum = np.abs(np.fft.fftn(centred)) ** 2
    correlations = np.fft.ifftn(spectrum).real.ravel() / np.sum(centred**2)
    return float(np.abs(correlations[1:]).max() * math.sqrt(decisions.size))


def test_the_correlation_that_these_tests_look_at_would_show_repeated_decisions() -> None:
    rows = np.random.default_rng(0).random((64, 128)) < 0.5
    assert largest_correlation(rows.astype(np.float64)) < 6
    rows[40:] = np.roll(rows[:24], 3, axis=1)
    assert largest_correlation(rows.astype(np.float64)) > 20


@pytest.mark.parametrize("probability", [0.1, 0.5])
@pytest.mark.parametrize("keys", [range(8), range(0, 8 * 2**56, 2**56)], ids=["low bits", "high bits"])
def test_sites_texts_tokens_and_components_drop_independently(probability: float, keys: Sequence[int]) -> None:
    noise = make_noise([16] * 8, keys)
    kept = [kept_components(noise, 128, 96, probability=probability, site=site) for site in range(6)]
    decisions = torch.stack(kept).view(6, 8, 16, 96).double().numpy()
    assert largest_correlation(decisions) < 6, "of 73,728 independent ones, one in 7,000 arrays would be above"


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_sites_texts_heads_and_places_drop_independently(probability: float) -> None:
    noise = make_noise([16] * 8)
    kept = [kept_weights(noise, 8, 4, 16, probability=probability, site=site) for site in (1, 4, 7)]
    assert largest_correlation(torch.stack(kept).double().numpy()) < 6


def test_the_same_keys_drop_the_same_and_others_do_not() -> None:
    one, same, other = (
        kept_components(make_noise([9, 4], keys), 13, 64, probability=0.5) for keys in ([3, 4], [3, 4], [5, 4])
    )
    assert one.equal(same)
    assert one[9:].equal(other[9:])
    assert not one[:9].equal(other[:9])


@pytest.mark.parametrize("neighbours", [[], [3], [7, 7], [30, 2], [8, 5, 1, 6]])
@pytest.mark.parametrize("place", [0, -1])
def test_a_text_drops_the_same_alone_and_beside_others_in_any_padding(neighbours: list[int], place: int) -> None:
    length, key = 7, 2**63 - 11
    alone = make_noise([length], [key])
    components = kept_components(alone, length, 30, probability=0.3, site=2)
    weights = kept_weights(alone, 1, 3, length, probability=0.3, site=1)[0]
    lengths, keys = list(neighbours), [100 + number for number in range(len(neighbours))]
    at = 0 if place == 0 else len(lengths)
    lengths.insert(at, length)
    keys.insert(at, key)
    packed = make_packed(lengths)
    noise = KeyedNoise(torch.tensor(keys), packed)
    begin = sum(lengths[:at])
    beside = kept_components(noise, sum(lengths), 30, probability=0.3, site=2)
    assert beside[begin : begin + length].equal(components)
    rectangle = kept_weights(noise, len(lengths), 3, packed.width, probability=0.3, site=1)
    assert rectangle[at, :, :length, :length].equal(weights)


def test_a_narrower_vector_drops_what_the_beginning_of_a_wider_one_does() -> None:
    counters = torch.arange(10).unsqueeze(1)
    wide = keep_bits(counters, 23, 0.5)
    for count in (1, 2, 3, 4, 5, 8, 22):
        assert keep_bits(counters, count, 0.5).equal(wide[:, :count])
    assert set(wide.unique().tolist()) == {0, -1}  # type: ignore[no-untyped-call]


def test_the_ends_of_the_scale_are_exact() -> None:
    """Among so many decisions each of the 2^15 random numbers comes up: being off by one of them would show."""
    counters = torch.arange(2**12).unsqueeze(1)
    assert bool((keep_bits(counters, 2**8, 0.0) == -1).all())
    assert bool((keep_bits(counters, 2**8, 1.0) == 0).all())
    assert bool((keep_bits(counters, 2**8, 2**-15) == 0).any())
    assert bool((keep_bits(counters, 2**8, 1 - 2**-15) == -1).any())


@pytest.mark.parametrize("probability", [0.1, 1 / 3, 0.5])
def test_dropping_changes_no_expectation(probability: float) -> None:
    num_texts, width = 4096, 24
    noise = make_noise([1] * num_texts)
    values, residual = torch.linspace(-2, 2, width), torch.linspace(1, 3, width)
    dropped = noise.add_dropped(
        values.expand(num_texts, width), residual.expand(num_texts, width), probability=probability, site=3
    ).double()
    error = values.abs() * math.sqrt(probability / (1 - probability) / num_texts)
    assert ((dropped.mean(dim=0) - residual - values).abs() <= SIGMAS * error + 1e-4).all()


def test_attention_keeps_its_expectation() -> None:
    num_texts, length = 2000, 6
    dice = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, length, 5, generator=dice) for _ in range(3))
    weights = (query @ key.transpose(2, 3) / math.sqrt(5)).softmax(dim=-1)
    queries, keys, values = (tensor.expand(num_texts, 2, length, 5) for tensor in (query, key, value))
    mixed = make_noise([length] * num_texts).attend(queries, keys, values, None, probability=0.25, site=1).double()
    # Of a sum of independent terms: weight² · value² · p / (1 - p).
    error = (weights.square() @ value.square() / 3 / num_texts).sqrt()
    assert ((mixed.mean(dim=0) - (weights @ value)[0]).abs() <= SIGMAS * error[0] + 1e-4).all()


def test_what_is_kept_is_scaled_up_exactly_by_what_is_dropped() -> None:
    noise = make_noise([8])
    ones = torch.ones(8, 64, dtype=torch.float64)
    third = noise.add_dropped(ones, None, probability=1 / 3, site=0)
    dropped = round(2**15 / 3) / 2**15
    assert third.unique().tolist() == [0.0, pytest.approx(1 / (1 - dropped), rel=1e-15)]  # type: ignore[no-untyped-call]


def test_nothing_and_everything() -> None:
    noise = make_noise([5, 3])
    dice = torch.Generator().manual_seed(0)
    values, residual = (torch.randn(8, 6, generator=dice) for _ in range(2))
    assert noise.add_dropped(values, None, probability=0.0, site=0).equal(values)
    assert noise.add_dropped(values, residual, probability=0.0, site=0).equal(values + residual)
    assert not noise.add_dropped(values, None, probability=1.0, site=0).any()
    assert noise.add_dropped(values, residual, probability=1.0, site=0).equal(residual)
    query, key, value = (torch.randn(2, 2, 8, 4, generator=dice, requires_grad=True) for _ in range(3))
    mixed = noise.attend(query, key, value, None, probability=1.0, site=0)
    assert not mixed.any()
    mixed.sum().backward()  # type: ignore[no-untyped-call]
    assert query.grad is not None
    assert not query.grad.any(), "and not NaN"
    plain = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(noise.attend(query, key, value, None, probability=0.0, site=0), plain)


# Gradients. The reference multiplies by the mask, and leaves the rest to autograd.


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, *, bias: Tensor | None, kept: Tensor, probability: float
) -> Tensor:
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
    return (weights * kept / (1 - round(probability * 2**15) / 2**15)) @ value


LENGTHS = {"padded": [5, 8, 2], "full": [7, 7, 7]}
# Shapes of what is added to the scores: as padding makes it, as MPNet's bias is, and both together.
BIASES = {"no bias": None, "of keys": (3, 1, 1, -1), "of heads": (1, 2, -1, -1), "of all": (3, 2, -1, -1)}


def attention_inputs(lengths: list[int], bias: str) -> tuple[list[Tensor], Tensor | None, Tensor]:
    """Query, key and value, what is added to the scores, and the gradient of the outcome, in float64."""
    packed = make_packed(lengths)
    width = packed.width
    dice = torch.Generator().manual_seed(1)
    parts = [torch.randn(3, 2, width, 5, generator=dice, dtype=torch.float64) for _ in range(3)]
    gradient = torch.randn(3, 2, width, 5, generator=dice, dtype=torch.float64)
    shape = BIASES[bias]
    if shape is None:
        return parts, None, gradient
    added = torch.randn([width if size < 0 else size for size in shape], generator=dice, dtype=torch.float64)
    if shape[0] == 3:
        added = added.masked_fill(~packed.inside()[:, None, None, :], -torch.inf)
    return parts, added, gradient


def gradients(inputs: list[Tensor], outcome: Tensor, gradient: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(outcome, inputs, gradient.to(outcome.dtype)))


@pytest.mark.parametrize("texts", LENGTHS)
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_attention_and_its_gradients_equal_those_of_autograd(
    texts: str, bias: str, dtype: torch.dtype, tolerance: float
) -> None:
    probability, site = 0.3, 4
    parts, added, gradient = attention_inputs(LENGTHS[texts], bias)
    kept = kept_weights(
        make_noise(LENGTHS[texts]), 3, 2, parts[0].shape[2], probability=probability, site=site
    ).double()
    rounded = [tensor.to(dtype).requires_grad_() for tensor in (*parts, *([] if added is None else [added]))]
    exact = [tensor.detach().double().requires_grad_() for tensor in rounded]

    bias_of: Callable[[list[Tensor]], Tensor | None] = itemgetter(3) if added is not None else (lambda inputs: None)
    ours = make_noise(LENGTHS[texts]).attend(
        rounded[0], rounded[1], rounded[2], bias_of(rounded), probability=probability, site=site
    )
    theirs = plain_attention(*exact[:3], bias=bias_of(exact), kept=kept, probability=probability)
    assert ours.dtype == dtype
    for one, other in zip(
        [ours, *gradients(rounded, ours, gradient)], [theirs, *gradients(exact, theirs, gradient)], strict=True
    ):
        assert one.dtype == dtype
        assert (one.double() - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize("texts", LENGTHS)
@pytest.mark.parametrize("bias", BIASES)
def test_attentions_gradients_equal_differences(texts: str, bias: str) -> None:
    parts, added, _ = attention_inputs(LENGTHS[texts], bias)
    inputs = [tensor[:, :, :, :2].contiguous().requires_grad_() for tensor in parts]
    noise = make_noise(LENGTHS[texts])

    def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        return noise.attend(query, key, value, bias, probability=0.4, site=1)

    if added is None:
        assert torch.autograd.gradcheck(
            lambda query, key, value: attend(query, key, value, None), inputs, fast_mode=True
        )
    else:  # where a place is closed there is no difference to take
        inputs.append(added.requires_grad_(bool(added.isfinite().all())))
        assert torch.autograd.gradcheck(attend, inputs, fast_mode=True)


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 31])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)]
)
def test_added_and_dropped_vectors_and_their_gradients_equal_those_of_autograd(
    width: int, with_residual: bool, dtype: torch.dtype, tolerance: float
) -> None:
    lengths, probability = [5, 3], 0.4
    dice = torch.Generator().manual_seed(width)
    inputs = [torch.randn(8, width, generator=dice).to(dtype).requires_grad_() for _ in range(1 + with_residual)]
    gradient = torch.randn(8, width, generator=dice).to(dtype)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    kept = kept_components(make_noise(lengths), 8, width, probability=probability)
    ours = make_noise(lengths).add_dropped(
        inputs[0], inputs[1] if with_residual else None, probability=probability, site=0
    )
    theirs = exact[0] * kept / (1 - round(probability * 2**15) / 2**15)
    if with_residual:
        theirs = theirs + exact[1]
    for one, other in zip(
        [ours, *gradients(inputs, ours, gradient)], [theirs, *gradients(exact, theirs, gradient.double())], strict=True
    ):
        assert one.dtype == dtype
        assert (one.double() - other).norm() <= tolerance * other.norm().clamp(min=1)


@pytest.mark.parametrize("width", [3, 8])
def test_gradients_of_dropped_vectors_equal_differences(width: int) -> None:
    noise = make_noise([4, 2])
    values, residual = (torch.randn(6, width, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def add(values: Tensor, residual: Tensor | None) -> Tensor:
        return noise.add_dropped(values, residual, probability=0.5, site=2)

    assert torch.autograd.gradcheck(add, (values, residual))
    assert torch.autograd.gradcheck(lambda values: add(values, None), values)


def test_half_precision_is_added_to_a_full_residual_in_full_precision() -> None:
    values = torch.full((4, 8), 1 / 3, dtype=torch.bfloat16, requires_grad=True)
    residual = torch.full((4, 8), 100.001, requires_grad=True)
    added = make_noise([4]).add_dropped(values, residual, probability=0.5, site=0)
    kept = kept_components(make_noise([4]), 4, 8, probability=0.5)
    assert added.dtype == torch.float32
    assert added.equal(residual + kept * values.float() * 2)
    added.sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert values.grad.dtype == torch.bfloat16
    assert values.grad.equal(kept * torch.tensor(2.0, dtype=torch.bfloat16))
    assert residual.grad is not None
    assert residual.grad.equal(torch.ones(4, 8))


def test_vectors_that_lie_apart_in_memory_are_dropped_alike() -> None:
    noise = make_noise([6])
    for dtype in (torch.float32, torch.bfloat16):
        values = torch.randn(8, 6).to(dtype).T
        apart = noise.add_dropped(values, None, probability=0.5, site=1)
        assert apart.equal(noise.add_dropped(values.contiguous(), None, probability=0.5, site=1))


def test_only_those_that_are_trained_get_a_gradient() -> None:
    noise = make_noise([4])
    fixed, trained = torch.ones(4, 6), torch.ones(4, 6, requires_grad=True)
    noise.add_dropped(trained, fixed, probability=0.5, site=0).sum().backward()  # type: ignore[no-untyped-call]
    assert trained.grad is not None
    assert fixed.grad is None
    assert not noise.add_dropped(fixed, fixed, probability=0.5, site=0).requires_grad
    query, key = torch.ones(1, 2, 4, 3), torch.ones(1, 2, 4, 3, requires_grad=True)
    noise.attend(query, key, query, None, probability=0.5, site=0).sum().backward()  # type: ignore[no-untyped-call]
    assert key.grad is not None
    assert query.grad is None


@pytest.mark.parametrize("keys", [[0], [2**63 - 1]])
def test_the_devices_dropout_repeats_by_seed(keys: list[int]) -> None:
    def draw(seed: int) -> list[Tensor]:
        noise = DeviceNoise(seed)
        query = torch.ones(2, 2, 8, 8)
        value = torch.eye(8).expand(2, 2, 8, 8)
        return [
            noise.add_dropped(torch.ones(16, 32), None, probability=0.5, site=0),
            noise.attend(query, query, value, None, probability=0.5, site=1),
            noise.add_dropped(torch.ones(16, 32), torch.ones(16, 32), probability=0.5, site=2),
        ]

    first, again, other = draw(keys[0]), draw(keys[0]), draw(17)
    assert all(one.equal(two) for one, two in zip(first, again, strict=True))
    assert not any(one.equal(two) for one, two in zip(first, other, strict=True))
    assert not first[0].equal(first[2] - 1), "places in the network draw anew"
    assert set(first[2].unique().tolist()) == {1.0, 3.0}  # type: ignore[no-untyped-call]


class ListedSites(KeyedNoise):
    """Notes which places of a network ask."""

    def __init__(self, packed: Packed) -> None:
        super().__init__(torch.zeros(packed.num_texts, dtype=torch.int64), packed)
        self.sites: list[int] = []

    def add_dropped(self, values: Tensor, residual: Tensor | None, *, probability: float, site: int) -> Tensor:
        self.sites.append(site)
        return super().add_dropped(values, residual, probability=probability, site=site)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, *, probability: float, site: int
    ) -> Tensor:
        self.sites.append(site)
        return super().attend(query, key, value, bias, probability=probability, site=site)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_place_of_a_network_drops_by_itself(family: str, backbone_folder: Callable[[str], Path]) -> None:
    packed = make_packed([4, 6])
    noise = ListedSites(packed)
    Backbone(read_model(backbone_folder(family)).architecture)(packed, noise)
    assert len(noise.sites) == 1 + 2 * 3, "the embeddings, and in each layer weights, attention and feed-forward"
    assert len(set(noise.sites)) == len(noise.sites)
