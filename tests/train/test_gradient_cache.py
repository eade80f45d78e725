"""The gradient cache against the plain computation: one forward pass of the whole batch, and torch's autograd."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pairloom.errors import TrainingError
from pairloom.models.read import read_model
from pairloom.models.tokenizer import Tokens
from pairloom.network import backbone
from pairloom.network.encoder import EncoderNetwork
from pairloom.network.noise import DeviceNoise, KeyedNoise
from pairloom.network.packed import pack
from pairloom.recipe import Precision
from pairloom.train import gradient_cache
from pairloom.train.gradient_cache import GradientCache
from tests.network.texts import CPU, make_tokens

BackboneFolder = Callable[[str], Path]
Gradients = dict[str, Tensor]

FAMILIES = ("bert", "roberta", "distilbert", "mpnet")
ALL = 2**40
EVERYTHING = 2**30


@pytest.fixture(scope="module")
def network_of(backbone_folder: BackboneFolder) -> Callable[[str], EncoderNetwork]:
    made: dict[str, EncoderNetwork] = {}

    def make(family: str) -> EncoderNetwork:
        if family not in made:
            made[family] = EncoderNetwork(read_model(backbone_folder(family)))
        made[family].zero_grad()
        made[family].backbone.checkpoint_layers = False
        return made[family]

    return make


def make_batch(num_texts: int, *, longest: int = 24, seed: int = 0) -> tuple[Tokens, npt.NDArray[np.uint64]]:
    dice = np.random.default_rng(seed)
    lengths = dice.integers(2, longest + 1, size=num_texts)
    return make_tokens(lengths.tolist(), seed=seed), dice.integers(0, 2**64, size=num_texts, dtype=np.uint64)


def batch_loss(vectors: Tensor, num_pairs: int) -> Tensor:
    """Of cosines, one way."""
    unit = functional.normalize(vectors, dim=-1)
    loss: Tensor = functional.cross_entropy(20 * unit[:num_pairs] @ unit[num_pairs:].T, torch.arange(num_pairs))
    return loss


def take_gradients(network: EncoderNetwork) -> Gradients:
    taken = {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}
    network.zero_grad()
    return taken


class MultipliedNoise(KeyedNoise):
    """The same decisions by multiplication, whose gradients are autograd's."""

    def add_dropped(self, values: Tensor, residual: Tensor | None, *, probability: float, site: int) -> Tensor:
        factors = super().add_dropped(torch.ones_like(values).detach(), None, probability=probability, site=site)
        return values * factors if residual is None else residual + values * factors

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, *, probability: float, site: int
    ) -> Tensor:
        *outer, width, size = query.shape
        nowhere = torch.zeros(*outer, width, width)
        here = torch.eye(width).expand(*outer, width, width).contiguous()
        factors = super().attend(nowhere, nowhere, here, None, probability=probability, site=site) * width
        scores = query @ key.transpose(2, 3) / size**0.5
        mixed: Tensor = ((scores if bias is None else scores + bias).softmax(dim=-1) * factors) @ value
        return mixed


def plainly(
    network: EncoderNetwork, tokens: Tokens, keys: npt.NDArray[np.uint64], num_pairs: int
) -> tuple[Tensor, float, Gradients]:
    """Vectors, loss and gradients with the whole batch's graph in memory, and nothing but torch's own operations."""
    packed = pack(tokens, np.arange(len(tokens)), CPU)
    noise = MultipliedNoise(torch.from_numpy(keys.view(np.int64)), packed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "look_up", lambda table, rows: functional.embedding(rows, table))
        vectors = network(packed, noise)
        loss = batch_loss(vectors, num_pairs)
        loss.backward()  # type: ignore[no-untyped-call]
    return vectors.detach(), loss.item(), take_gradients(network)


def make_cache(
    network: EncoderNetwork,
    tokens: Tokens,
    keys: npt.NDArray[np.uint64],
    *,
    micro_batch_tokens: int = 128,
    graph_memory_bytes: int = ALL,
    precision: Precision = "float32",
) -> GradientCache:
    return GradientCache(
        network,
        tokens,
        keys,
        device=CPU,
        precision=precision,
        micro_batch_tokens=micro_batch_tokens,
        graph_memory_bytes=graph_memory_bytes,
    )


def through(
    network: EncoderNetwork, tokens: Tokens, keys: npt.NDArray[np.uint64], num_pairs: int, **settings: Any
) -> tuple[Tensor, float, Gradients, GradientCache]:
    """Vectors, loss and gradients by the cache."""
    cache = make_cache(network, tokens, keys, **settings)
    vectors = cache.embed()
    assert not vectors.requires_grad
    loss = batch_loss(vectors.requires_grad_(), num_pairs)
    loss.backward()  # type: ignore[no-untyped-call]
    assert vectors.grad is not None
    cache.backward(vectors.grad)
    return vectors.detach(), loss.item(), take_gradients(network), cache


def assert_near(ours: Gradients, theirs: Gradients, tolerance: float) -> None:
    """Relative to each parameter's own gradient, apart from what is lost where large parts of it cancel."""
    assert ours.keys() == theirs.keys()
    rounding = 5e-7 * torch.stack([gradient.norm() for gradient in theirs.values()]).norm()
    for name, gradient in theirs.items():
        assert gradient.norm() > 0, name
        assert (ours[name] - gradient).norm() <= tolerance * gradient.norm() + rounding, name


def assert_same_bits(ours: Gradients, theirs: Gradients) -> None:
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(gradient) for name, gradient in theirs.items())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("columns", [2, 3], ids=["pairs", "triplets"])
@pytest.mark.parametrize("num_pairs", [2, 3, 17, 128, 512])
def test_equals_the_plain_computation_with_dropout(
    num_pairs: int, columns: int, family: str, network_of: Callable[[str], EncoderNetwork]
) -> None:
    network = network_of(family)
    tokens, keys = make_batch(num_pairs * columns, longest=24 if num_pairs < 100 else 12, seed=num_pairs)
    vectors, loss, gradients = plainly(network, tokens, keys, num_pairs)
    # Micro-batches of one text, of some, and of all; computed twice, and not.
    one_text = [(1, 0), (1, ALL)] if num_pairs < 10 else []
    for micro_batch_tokens, graph_memory_bytes in [
        *one_text,
        (num_pairs * 8, 0),
        (num_pairs * 8, ALL),
        (EVERYTHING, 0),
    ]:
        ours = through(
            network,
            tokens,
            keys,
            num_pairs,
            micro_batch_tokens=micro_batch_tokens,
            graph_memory_bytes=graph_memory_bytes,
        )
        torch.testing.assert_close(ours[0], vectors, rtol=1e-5, atol=1e-5)
        assert ours[1] == pytest.approx(loss, rel=1e-5)
        assert_near(ours[2], gradients, 1e-5)
        assert ours[3].num_replayed_tokens == (tokens.lengths.sum() if graph_memory_bytes == 0 else 0)


def test_without_the_replays_dropout_the_gradients_would_be_others(
    network_of: Callable[[str], EncoderNetwork],
) -> None:
    network = network_of("bert")
    tokens, keys = make_batch(16)
    _, _, gradients, _ = through(network, tokens, keys, 8)
    _, _, others, _ = through(network, tokens, keys + np.uint64(1), 8)
    assert all((gradients[name] - others[name]).norm() > 0.01 * gradients[name].norm() for name in gradients)


def test_gradients_are_added_to_what_is_there(network_of: Callable[[str], EncoderNetwork]) -> None:
    network = network_of("mpnet")
    tokens, keys = make_batch(8)
    _, _, once, _ = through(network, tokens, keys, 4)
    for weight in network.parameters():
        weight.grad = torch.full_like(weight, 0.5)
    _, _, added, _ = through(network, tokens, keys, 4)
    for name, gradient in once.items():
        torch.testing.assert_close(added[name] - 0.5, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["bert", "mpnet"])
@pytest.mark.parametrize("noise", ["of texts", "of the device"])
def test_gradients_do_not_depend_on_how_many_graphs_are_kept(
    family: str,
    precision: Precision,
    noise: str,
    network_of: Callable[[str], EncoderNetwork],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if noise == "of the device":  # as on a GPU
        monkeypatch.setattr(gradient_cache, "make_noise", lambda keys, packed: DeviceNoise(int(keys[0]) >> 1))
    network = network_of(family)
    tokens, keys = make_batch(64)
    total = int(tokens.lengths.sum())
    vectors, loss, gradients, everything = through(network, tokens, keys, 32, precision=precision)
    assert everything.num_replayed_tokens == 0
    replayed = []
    for share in (0.0, 0.001, 0.4, 0.8):
        ours = through(
            network,
            tokens,
            keys,
            32,
            precision=precision,
            graph_memory_bytes=int(share * everything.num_graph_bytes),
        )
        assert ours[0].equal(vectors)
        assert ours[1] == loss
        assert_same_bits(ours[2], gradients)
        replayed.append(ours[3].num_replayed_tokens)
    assert total == replayed[0] > replayed[1] > replayed[2] > replayed[3] > 0, "the first is kept whatever it takes"


def held_by_graph(vectors: Tensor, seen: set[int]) -> int:
    """Bytes of the distinct storages that the nodes behind a tensor have saved."""
    total, nodes, visited = 0, [vectors.grad_fn], set()
    while nodes:
        node: Any = nodes.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        nodes += [function for function, _ in node.next_functions]
        names = [name for name in dir(node) if name.startswith("_saved_")]
        saved = [getattr(node, name) for name in names] + list(getattr(node, "saved_tensors", ()))
        for tensor in saved:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in seen:
                seen.add(tensor.untyped_storage().data_ptr())
                total += tensor.untyped_storage().nbytes()
    return total


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_bytes_counted_are_those_that_the_graphs_hold(
    family: str, precision: Precision, network_of: Callable[[str], EncoderNetwork]
) -> None:
    network = network_of(family)
    tokens, keys = make_batch(48)
    cache = make_cache(network, tokens, keys, precision=precision)
    cache.embed()
    seen = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    held = sum(held_by_graph(vectors, seen) for vectors in cache._kept)
    assert len(cache._kept) > 3
    assert cache.num_graph_bytes == pytest.approx(held, rel=0.02)


def test_graphs_are_kept_up_to_the_limit(network_of: Callable[[str], EncoderNetwork]) -> None:
    network = network_of("bert")
    tokens, keys = make_tokens([16] * 64), np.arange(64, dtype=np.uint64)
    everything = make_cache(network, tokens, keys)
    everything.embed()
    one = everything.num_graph_bytes // 8
    for count in range(1, 9):
        cache = make_cache(network, tokens, keys, graph_memory_bytes=one * count)
        cache.embed()
        assert len(cache._kept) == count
        assert cache.num_graph_bytes <= one * count
        assert cache.num_replayed_tokens == 16 * 64 - count * 128


class _Saved:
    """A tensor in a graph, which goes with it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class SavedBytes:
    """Watches what graphs hold: the distinct storages of saved tensors at any time."""

    def __init__(self, network: EncoderNetwork) -> None:
        self._weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
        self._holders: dict[int, int] = {}
        self.live = self.peak = 0

    @contextmanager
    def watch(self) -> Iterator[None]:
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda saved: saved.tensor):
            yield

    def _pack(self, tensor: Tensor) -> _Saved:
        saved, storage = _Saved(tensor), tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if place not in self._weights:
            if self._holders.get(place, 0) == 0:
                self.live += size
                self.peak = max(self.peak, self.live)
            self._holders[place] = self._holders.get(place, 0) + 1
            weakref.finalize(saved, self._drop, place, size)
        return saved

    def _drop(self, place: int, size: int) -> None:
        self._holders[place] -= 1
        if self._holders[place] == 0:
            self.live -= size


def peak_bytes(network: EncoderNetwork, num_texts: int, **settings: Any) -> tuple[int, int]:
    """Most bytes that graphs held at a time, and those that they hold in the end."""
    tokens = make_tokens([16] * num_texts)
    cache = make_cache(network, tokens, np.arange(num_texts, dtype=np.uint64), **settings)
    saved = SavedBytes(network)
    with saved.watch():
        vectors = cache.embed()
        cache.backward(torch.ones_like(vectors))
    network.zero_grad()
    return saved.peak, saved.live


def test_replaying_holds_the_graph_of_one_micro_batch_whatever_the_batch(
    network_of: Callable[[str], EncoderNetwork],
) -> None:
    network = network_of("bert")
    one, left = peak_bytes(network, 8, graph_memory_bytes=0)
    assert one > 8 * 16 * 32 * 4 * 2
    assert left == 0
    for num_texts in (16, 64, 256):
        assert peak_bytes(network, num_texts, graph_memory_bytes=0) == (one, 0)


def test_kept_graphs_are_given_back_one_by_one_and_replays_add_one(
    network_of: Callable[[str], EncoderNetwork],
) -> None:
    network = network_of("bert")
    everything = make_cache(network, make_tokens([16] * 64), np.arange(64, dtype=np.uint64))
    vectors = everything.embed()
    one = everything.num_graph_bytes // 8
    seen = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    assert held_by_graph(everything._kept[0], seen) == pytest.approx(one, rel=0.02)
    kept = everything._kept
    everything.backward(torch.ones_like(vectors))
    assert kept == [], "what has gone backward is no longer held"
    # Whoever replays after three were kept has given them back before.
    counted: list[int] = []
    cache = make_cache(network, make_tokens([16] * 64), np.arange(64, dtype=np.uint64), graph_memory_bytes=3 * one)
    vectors = cache.embed()
    handle = network.backbone.register_forward_pre_hook(lambda *_: counted.append(len(cache._kept)))
    cache.backward(torch.ones_like(vectors))
    handle.remove()
    assert counted == [0] * 5


@pytest.mark.parametrize("graph_memory_bytes", [0, ALL])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("noise", ["of texts", "of the device"])
def test_checkpointed_layers_give_the_same_gradients(
    noise: str,
    family: str,
    graph_memory_bytes: int,
    network_of: Callable[[str], EncoderNetwork],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if noise == "of the device":
        monkeypatch.setattr(gradient_cache, "make_noise", lambda keys, packed: DeviceNoise(int(keys[0]) >> 1))
    network = network_of(family)
    tokens, keys = make_batch(24)
    vectors, loss, gradients, cache = through(network, tokens, keys, 12, graph_memory_bytes=graph_memory_bytes)
    network.backbone.checkpoint_layers = True
    ours = through(network, tokens, keys, 12, graph_memory_bytes=graph_memory_bytes)
    assert ours[0].equal(vectors)
    assert ours[1] == loss
    assert_near(ours[2], gradients, 1e-6)
    if graph_memory_bytes:
        assert ours[3].num_graph_bytes < cache.num_graph_bytes / 3


def test_checkpointed_layers_hold_one_layer_at_a_time(network_of: Callable[[str], EncoderNetwork]) -> None:
    network = network_of("bert")
    plain, _ = peak_bytes(network, 8, graph_memory_bytes=0)
    network.backbone.checkpoint_layers = True
    # The watch does not see into a layer that is computed again: only what lies between layers is left to see.
    between, left = peak_bytes(network, 8, graph_memory_bytes=0)
    assert between < plain / 3
    assert left == 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("checkpoint_layers", [False, True])
def test_bfloat16_is_near_to_float32(
    family: str, checkpoint_layers: bool, network_of: Callable[[str], EncoderNetwork]
) -> None:
    network = network_of(family)
    network.backbone.checkpoint_layers = checkpoint_layers
    tokens, keys = make_batch(64)
    vectors, loss, gradients, _ = through(network, tokens, keys, 32)
    halved, half_loss, half_gradients, _ = through(network, tokens, keys, 32, precision="bfloat16")
    assert halved.dtype == torch.float32
    assert not halved.equal(vectors)
    assert functional.cosine_similarity(halved, vectors).min() > 0.999
    assert half_loss == pytest.approx(loss, rel=0.05)
    for name, gradient in gradients.items():
        assert half_gradients[name].dtype == torch.float32
        cosine = functional.cosine_similarity(half_gradients[name].flatten(), gradient.flatten(), dim=0)
        assert cosine > 0.98, name


def test_the_precision_goes_no_further_than_the_passes(network_of: Callable[[str], EncoderNetwork]) -> None:
    network = network_of("bert")
    tokens, keys = make_batch(8)
    through(network, tokens, keys, 4, precision="bfloat16")
    assert not torch.is_autocast_enabled("cpu")
    with torch.no_grad():
        assert network.backbone(pack(tokens, np.arange(8), CPU)).dtype == torch.float32


def test_vectors_are_in_the_order_of_the_texts(network_of: Callable[[str], EncoderNetwork]) -> None:
    network = network_of("bert")
    tokens, keys = make_batch(20)
    vectors = make_cache(network, tokens, keys, graph_memory_bytes=300_000, micro_batch_tokens=64).embed()
    texts = np.split(tokens.ids, np.cumsum(tokens.lengths)[:-1])
    for number, text in enumerate(texts):
        alone = Tokens(text, tokens.lengths[[number]], tokens.truncated[[number]])
        vector = make_cache(network, alone, keys[[number]]).embed()
        torch.testing.assert_close(vectors[number], vector[0], rtol=1e-5, atol=1e-5)


def test_padding_is_counted_by_hand(network_of: Callable[[str], EncoderNetwork]) -> None:
    tokens, keys = make_tokens([3, 9, 4, 4]), np.arange(4, dtype=np.uint64)
    # 9 alone has none; then 4, 4 and 3 in rectangles of 8.
    cache = make_cache(network_of("bert"), tokens, keys, micro_batch_tokens=12)
    assert cache.num_padding == 24 - 11


@pytest.mark.parametrize("phase", ["embed with graphs", "embed", "backward"])
def test_memory_that_runs_out_is_one_sentence(
    phase: str, network_of: Callable[[str], EncoderNetwork], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of("bert")
    tokens, keys = make_tokens([16] * 1200 + [5]), np.arange(1201, dtype=np.uint64)
    limit = ALL if phase == "embed with graphs" else 0
    cache = make_cache(network, tokens, keys, micro_batch_tokens=EVERYTHING, graph_memory_bytes=limit)
    vectors = torch.zeros(1201, 32)
    if phase == "backward":
        cache.embed()

    def fail(*_: object) -> None:
        raise MemoryError

    handle = network.backbone.layers[1].register_forward_pre_hook(fail)
    expected = (
        r"^out of memory in a micro-batch of 1,201 texts of up to 16 tokens; lower train\.micro_batch_tokens, or "
        r"train\.graph_memory_mib, which is the memory for the graphs of a batch, or set train\.checkpoint_layers$"
    )
    try:
        with pytest.raises(TrainingError, match=expected):
            cache.embed() if phase != "backward" else cache.backward(vectors)
    finally:
        handle.remove()


def test_other_errors_are_left_as_they_are(network_of: Callable[[str], EncoderNetwork]) -> None:
    network = network_of("bert")
    tokens, keys = make_batch(2)
    wrong = Tokens(tokens.ids + 10_000, tokens.lengths, tokens.truncated)
    with pytest.raises((IndexError, RuntimeError), match="out of range"):
        make_cache(network, wrong, keys).embed()


_RUNS_OUT = """
import resource
import sys
from pathlib import Path

import numpy as np
import torch

from pairloom.errors import TrainingError
from pairloom.models.read import read_model
from pairloom.models.tokenizer import Tokens
from pairloom.network.encoder import EncoderNetwork
from pairloom.train.gradient_cache import GradientCache

torch.set_num_threads(1)
network = EncoderNetwork(read_model(Path(sys.argv[1])))


def embed(num_texts, precision, graph_memory_bytes):
    tokens = Tokens(np.full(num_texts * 160, 5, np.int32), np.full(num_texts, 160), np.zeros(num_texts, np.bool_))
    cache = GradientCache(
        network,
        tokens,
        np.arange(num_texts, dtype=np.uint64),
        device=torch.device("cpu"),
        precision=precision,
        micro_batch_tokens=2**30,
        graph_memory_bytes=graph_memory_bytes,
    )
    return cache, cache.embed()


for precision in ("float32", "bfloat16"):  # what is loaded on first use is loaded
    cache, vectors = embed(4, precision, 0)
    cache.backward(vectors)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20, resource.getrlimit(resource.RLIMIT_AS)[1]))
for precision in ("float32", "bfloat16"):
    for graph_memory_bytes in (0, 2**40):
        try:
            embed(4000, precision, graph_memory_bytes)
        except TrainingError as error:
            print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_a_real_lack_of_memory_is_noticed(backbone_folder: BackboneFolder) -> None:
    command = [sys.executable, "-c", _RUNS_OUT, str(backbone_folder("bert"))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    said = result.stdout.splitlines()
    assert len(said) == 4, result.stderr
    assert all(line.startswith("out of memory in a micro-batch of 4,000 texts of up to 160 tokens;") for line in said)
