"""Looking up rows against torch's embedding; and when attention over packed texts is taken."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pairloom.models.architecture import Architecture
from pairloom.network.kernels import look_up, takes_packed

SMALL = Architecture(
    family="bert",
    vocabulary_size=11,
    hidden_size=64,
    num_layers=1,
    num_heads=2,
    feed_forward_size=16,
    activation="gelu",
    num_positions=16,
    position_offset=0,
    num_token_types=2,
    relative_buckets=0,
    relative_max_distance=128,
    pad_token_id=0,
    norm_epsilon=1e-5,
    hidden_dropout=0.1,
    attention_output_dropout=0.1,
    attention_dropout=0.1,
)
ROWS = torch.tensor([3, 0, 3, 10, 3, 7, 0])


def make_table(dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.randn(11, 5, generator=torch.Generator().manual_seed(0), dtype=dtype))


def gradient_by_torch(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    leaf = table.detach().clone().requires_grad_()
    (functional.embedding(rows, leaf) * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_looking_up_gives_the_rows_and_their_gradient_where_rows_repeat(dtype: torch.dtype) -> None:
    table = make_table(dtype)
    weights = torch.randn(len(ROWS), 5).to(dtype)
    found = look_up(table, ROWS)
    assert found.equal(table[ROWS])
    (found * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert table.grad is not None
    assert table.grad.dtype == dtype
    tolerance = {torch.bfloat16: 2e-2, torch.float32: 1e-6, torch.float64: 1e-14}[dtype]
    torch.testing.assert_close(table.grad, gradient_by_torch(table, ROWS, weights), rtol=tolerance, atol=tolerance)
    assert not table.grad[[1, 2, 4, 5, 6, 8, 9]].any()


def test_gradients_add_up_over_backward_passes_and_over_uses() -> None:
    table, others = make_table(), torch.tensor([10, 1])
    weights = torch.randn(len(ROWS), 5), torch.randn(2, 5), torch.randn(2, 5)
    (look_up(table, ROWS) * weights[0]).sum().backward()  # type: ignore[no-untyped-call]
    ((look_up(table, others) * weights[1]).sum() + (look_up(table, others) * weights[2]).sum()).backward()  # type: ignore[no-untyped-call]
    expected = gradient_by_torch(table, ROWS, weights[0]) + gradient_by_torch(table, others, weights[1] + weights[2])
    torch.testing.assert_close(table.grad, expected)


def test_it_adds_to_a_gradient_that_torch_made() -> None:
    table = make_table()
    (table * 2).sum().backward()  # type: ignore[no-untyped-call]
    look_up(table, torch.tensor([4])).sum().backward()  # type: ignore[no-untyped-call]
    expected = torch.full((11, 5), 2.0)
    expected[4] += 1
    assert table.grad is not None
    assert table.grad.equal(expected)


def test_torchs_own_gradient_is_added_to_its() -> None:
    table = make_table()
    (look_up(table, torch.tensor([4])).sum() + (table * 2).sum()).backward()  # type: ignore[no-untyped-call]
    expected = torch.full((11, 5), 2.0)
    expected[4] += 1
    assert table.grad is not None
    assert table.grad.equal(expected)


def test_a_frozen_table_gets_no_gradient() -> None:
    table = make_table().requires_grad_(False)
    found = look_up(table, ROWS)
    assert found.equal(table[ROWS])
    assert not found.requires_grad
    assert table.grad is None


def test_nothing_is_kept_without_gradients() -> None:
    table = make_table()
    with torch.no_grad():
        assert not look_up(table, ROWS).requires_grad
    with torch.inference_mode():
        assert look_up(table, ROWS).equal(table[ROWS])


def test_a_table_that_is_computed_gets_its_gradient_from_torch() -> None:
    table = make_table(torch.float64)
    assert torch.autograd.gradcheck(lambda leaf: look_up(leaf * 2, ROWS), table)


def test_a_cpu_pads() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert not takes_packed(torch.device("cpu"), SMALL, dtype)


def test_packed_attention_is_taken_where_flash_attention_can(monkeypatch: pytest.MonkeyPatch) -> None:
    def takes(capability: tuple[int, int] = (8, 0), dtype: torch.dtype = torch.bfloat16, **facts: int) -> bool:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        return takes_packed(torch.device("cuda", 0), dataclasses.replace(SMALL, **facts), dtype)  # type: ignore[arg-type]

    assert takes()
    assert takes(capability=(9, 0))
    assert takes(dtype=torch.float16)
    assert takes(hidden_size=512)
    assert not takes(capability=(7, 5))
    assert not takes(dtype=torch.float32)
    assert not takes(relative_buckets=32)
    assert not takes(hidden_size=514), "heads of 257"
    assert not takes(hidden_size=60), "heads of 30: the kernels take multiples of 8"


def test_torchs_operator_has_the_arguments_that_are_given_to_it_by_their_place() -> None:
    """It is not public. An upgrade that changes it must be noticed where there is no GPU to run it on."""
    arguments = torch.ops.aten._flash_attention_forward.default._schema.arguments
    names = [argument.name for argument in arguments if not argument.kwarg_only]
    first = ["query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k", "dropout_p", "is_causal"]
    assert names == [*first, "return_debug_mask"]
    assert all(argument.has_default_value() for argument in arguments if argument.kwarg_only)
