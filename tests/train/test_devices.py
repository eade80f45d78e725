"""The same training on one, two and four processes, with dropout: losses, gradients and weights are those of one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pairloom.models.read import read_model
from tests.conftest import WORDS, make_pairs, make_shards
from tests.train.test_world import FORKS, free_port
from tests.train.training_jobs import STEPS, run_as

SIZES = (1, 2, 4)
SETTINGS: dict[str, dict[str, Any]] = {
    "pairs": {},
    "triplets": {"data": {"datasets": ["triplets"]}},
    "uneven": {"train": {"batch_size": 10, "weight_decay": 0.1}},
    "fewest": {"train": {"batch_size": 4}},
    "learnt-scale": {"loss": {"learn_scale": True, "scale": 10.0}, "train": {"batch_size": 9}},
    "two-datasets": {"data": {"datasets": ["pairs", "others"], "datasets_per_batch": 2}, "train": {"batch_size": 11}},
    "contexts": {"data": {"datasets": ["contexts"]}, "train": {"batch_size": 10}},
    "mixed-kinds": {"data": {"datasets": ["pairs", "triplets", "contexts"]}},
    "masked": {"data": {"datasets": ["alike"]}, "loss": {"query_query": True, "document_document": True}},
    "unmasked": {"data": {"datasets": ["alike"]}, "loss": {"mask_false_negatives": False}},
    "clipped": {"train": {"max_gradient_norm": 0.05}},
    "replayed": {"train": {"graph_memory_mib": 0, "micro_batch_tokens": 32}},
    "averaged": {"train": {"average_decay": 0.9, "freeze_embeddings": True, "freeze_layers": 1}},
    "two-encoders": {
        "model": {"encoders": "two"},
        "data": {"datasets": ["pairs", "triplets"]},
        "loss": {"learn_scale": True},
        "train": {"batch_size": 10, "average_decay": 0.9, "max_gradient_norm": 0.5},
    },
}


@dataclass(frozen=True)
class Outcome:
    """Of a job of some processes: what its ranks tell, and the arrays of rank 0."""

    ranks: list[dict[str, Any]]
    folder: Path

    def arrays(self, name: str, kind: str) -> dict[str, npt.NDArray[np.float32]]:
        with np.load(self.folder / f"{name}.npz") as file:
            return {key.removeprefix(kind): file[key] for key in file.files if key.startswith(kind)}

    def told(self, name: str) -> npt.NDArray[np.float64]:
        """Loss, norm, scale, accuracy, tokens, and cut anchors and candidates of each step."""
        return np.array(self.ranks[0][name]["told"])


def recipes(folder: Path, base: Path) -> dict[str, dict[str, Any]]:
    make_shards(folder / "pairs", make_pairs(60))
    make_shards(folder / "others", make_pairs(50, seed=3))
    make_shards(
        folder / "triplets", [(anchor, positive, f"no {anchor}") for anchor, positive in make_pairs(60, seed=1)]
    )
    make_shards(
        folder / "contexts", [(*pair, f"{pair[1]} {pair[0]} before") for pair in make_pairs(60, seed=2)], contexts=True
    )
    # Different texts that are the same to a model that reads five tokens, special ones included.
    alike = [(f"{WORDS[n % 3]} a b {n}", f"{WORDS[n % 5]} c d {n}") for n in range(60)]
    make_shards(folder / "alike", alike)
    made = {}
    for name, changes in SETTINGS.items():
        data: dict[str, Any] = {"datasets": ["pairs"], **changes.get("data", {})}
        datasets = [{"shards": str(folder / dataset)} for dataset in data["datasets"]]
        if name in ("masked", "unmasked"):
            data |= {"anchor_max_tokens": 5, "positive_max_tokens": 5}
        made[name] = {
            "model": {"base": str(base), **changes.get("model", {})},
            "data": {**data, "datasets": datasets},
            "loss": changes.get("loss", {}),
            "train": {
                "steps": STEPS, "batch_size": 12, "warmup_steps": 2, "learning_rate": 1e-3, "micro_batch_tokens": 64,
                **changes.get("train", {}),
            },
        }  # fmt: skip
    return made


@pytest.fixture(scope="module")
def outcomes(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Outcome]:
    """All settings on one, two and four processes; each job does them one after another."""
    described = recipes(tmp_path_factory.mktemp("shards"), model_folder)
    found = {}
    for size in SIZES:
        folder = tmp_path_factory.mktemp(f"job-of-{size}")
        common = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        processes = []
        for rank in range(size):
            variables = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            processes.append(FORKS.Process(target=run_as, args=(variables, described, folder)))
            processes[-1].start()
        try:
            for process in processes:
                process.join(timeout=100)
            codes = [process.exitcode for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.join()
                process.close()
        said = [(folder / f"stderr-{rank}").read_text() for rank in range(size)]
        assert codes == [0] * size, said
        assert said == [""] * size
        ranks = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(size)]
        found[size] = Outcome(ranks, folder)
    return found


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("name", SETTINGS)
def test_any_number_of_processes_learns_the_same(outcomes: dict[int, Outcome], name: str, size: int) -> None:
    one, several = outcomes[1], outcomes[size]
    # Losses and counts, and the norm, too, are those of the whole batch and not of a rank's share.
    np.testing.assert_allclose(several.told(name), one.told(name), rtol=1e-5)
    rows, expected_rows = several.arrays(name, "rows."), one.arrays(name, "rows.")
    assert rows.keys() == expected_rows.keys()
    for step, expected in expected_rows.items():
        np.testing.assert_allclose(rows[step], expected, rtol=1e-4, atol=1e-5, err_msg=f"step {step}")

    gradients, expected_gradients = several.arrays(name, "grad."), one.arrays(name, "grad.")
    assert gradients.keys() == expected_gradients.keys()
    size_of_all = np.sqrt(sum(float(np.sum(np.square(gradient))) for gradient in expected_gradients.values()))
    for parameter, gradient in expected_gradients.items():
        difference = float(np.linalg.norm(gradients[parameter] - gradient))
        # Some gradients are nothing but rounding (a softmax does not see a key's bias): beside all others they are small.
        assert difference <= 1e-5 * max(float(np.linalg.norm(gradient)), 1e-2 * size_of_all), parameter

    weights, expected_weights = several.arrays(name, "weight."), one.arrays(name, "weight.")
    assert weights.keys() == expected_weights.keys()
    for parameter, weight in expected_weights.items():
        np.testing.assert_allclose(weights[parameter], weight, rtol=1e-4, atol=1e-4, err_msg=parameter)


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("name", SETTINGS)
def test_all_ranks_hold_the_same_bits(outcomes: dict[int, Outcome], name: str, size: int) -> None:
    ranks = [rank[name] for rank in outcomes[size].ranks]
    assert len({rank["bits"] for rank in ranks}) == 1
    assert all(rank["told"] == ranks[0]["told"] for rank in ranks)
    for shares in zip(*(rank["shares"] for rank in ranks), strict=True):
        assert sum(own for own, _ in shares) == shares[0][1], "each pair has one rank that reads it"


def test_what_was_compared_is_not_the_same_for_any_training(outcomes: dict[int, Outcome], model_folder: Path) -> None:
    """Were the settings without effect, the comparisons would prove little."""
    architecture = read_model(model_folder).architecture
    assert architecture.hidden_dropout == architecture.attention_dropout == 0.1
    first = {name: outcomes[1].told(name)[0] for name in SETTINGS}
    assert first["replayed"] == pytest.approx(first["pairs"], rel=1e-5), "how it is computed changes nothing"
    assert first["clipped"][1] > 1, "the norm is that before clipping"
    clipped = outcomes[4].arrays("clipped", "grad.")
    norm = np.sqrt(sum(float(np.sum(np.square(gradient, dtype=np.float64))) for gradient in clipped.values()))
    assert norm == pytest.approx(0.05, rel=1e-4), "the whole gradient has been clipped, not each rank's"
    assert first["masked"][5] > 0 < first["masked"][6], "some texts are cut"
    assert first["masked"][0] != pytest.approx(first["unmasked"][0], rel=1e-2)
    assert outcomes[1].told("learnt-scale")[-1][2] != pytest.approx(10, rel=1e-4)
    assert any(own != whole / 4 for own, whole in outcomes[4].ranks[0]["uneven"]["shares"])
    before = outcomes[1].arrays("averaged", "weight.")
    assert not any("embeddings" in name for name in outcomes[1].arrays("averaged", "grad."))
    assert before.keys() > outcomes[1].arrays("averaged", "grad.").keys()
    for name in SETTINGS:
        losses = outcomes[1].told(name)[:, 0]
        assert np.ptp(losses) > 0.01
