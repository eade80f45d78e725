"""The mixture in the trainer of sentence-transformers: the batches that reach the loss are the mixture's."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pairloom.errors import ArtifactError, UsageError
from pairloom.pairs.dataset import Dataset
from pairloom.pairs.mixture import Mixture
from pairloom.pairs.shards import Shards
from pairloom.sentence_transformers_data import STATE_FILE, TrainerBatches
from tests.conftest import make_pairs, make_shards
from tests.pairs.fakes import different

hf_datasets = pytest.importorskip("datasets")
pytest.importorskip("accelerate")
from sentence_transformers import (  # noqa: E402
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss  # noqa: E402

BATCH_SIZE = 4
Texts = list[tuple[str, ...]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of a model this small wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def datasets(tmp_path: Path) -> list[Dataset]:
    """Two, with weights of 1 and 3; in the first each anchor comes twice."""
    twice = [(anchor, f"{positive} {time}") for anchor, positive in make_pairs(9, seed=1) for time in "ab"]
    return [
        Dataset("small", Shards(make_shards(tmp_path / "small", twice)), weight=1),
        Dataset("large", Shards(make_shards(tmp_path / "large", make_pairs(50, seed=2))), weight=3),
    ]


def mixture(datasets: Sequence[Dataset], **options: Any) -> Mixture:
    return Mixture(datasets, **{"batch_size": BATCH_SIZE, "seed": 7, **options})


def expected(mixture: Mixture, steps: int) -> list[Texts]:
    return [list(zip(*batch.columns, strict=True)) for batch in islice(mixture, steps)]


class SpyLoss(MultipleNegativesRankingLoss):  # type: ignore[misc]
    """Keeps the tokens of the texts that reach it."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__(model)
        self.seen: list[list[list[list[int]]]] = []

    def forward(self, sentence_features: Any, labels: Any) -> Any:
        features = list(sentence_features)
        self.seen.append(
            [
                [ids[mask.bool()].tolist() for ids, mask in zip(one["input_ids"], one["attention_mask"], strict=True)]
                for one in features
            ]
        )
        return super().forward(features, labels)


def tokens(model: SentenceTransformer, batches: Sequence[Sequence[Sequence[str]]]) -> list[list[list[list[int]]]]:
    return [
        [[model.tokenizer(text)["input_ids"] for text in column] for column in zip(*batch, strict=True)]
        for batch in batches
    ]


def trainer(
    model_folder: Path, out: Path, batches: TrainerBatches, max_steps: int, *, callback: bool = True, **options: Any
) -> SentenceTransformerTrainer:
    torch.manual_seed(0)
    model = SentenceTransformer(str(model_folder), device="cpu")
    train_dataset = options.pop("train_dataset", None) or batches.train_dataset()
    args = SentenceTransformerTrainingArguments(
        str(out),
        max_steps=max_steps,
        multi_dataset_batch_sampler=batches,
        prompts=batches.prompts,
        **{
            "save_steps": 3,
            "learning_rate": 1e-3,
            "warmup_steps": 1,
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "dataloader_pin_memory": False,
            **options,
        },
    )
    made = SentenceTransformerTrainer(
        model=model,
        args=args,
        train_dataset=train_dataset,
        loss=SpyLoss(model),
        callbacks=[batches.callback()] if callback else [],
    )
    made.model.model_card_data.generate_widget_examples = False
    return made


def test_the_batches_that_reach_the_loss_are_the_mixtures(
    model_folder: Path, datasets: list[Dataset], tmp_path: Path
) -> None:
    batches = TrainerBatches(mixture(datasets), steps=40)
    run = trainer(model_folder, tmp_path / "out", batches, 40, save_strategy="no")
    run.train()
    drawn = expected(mixture(datasets), 40)
    assert run.loss.seen == tokens(run.model, drawn)
    assert all(len({text for pair in batch for text in pair}) == 2 * BATCH_SIZE for batch in drawn)
    names = Counter(batch.names for batch in islice(mixture(datasets), 40))
    from_small = {tuple(map(tuple, tokens(run.model, [[row]])[0][0])) for row in _rows(datasets[0])}
    shares = Counter(tuple(map(tuple, batch[0][:1])) in from_small for batch in run.loss.seen)
    assert (shares[True], shares[False]) == (names["small",], names["large",])
    assert 4 <= shares[True] <= 17, "a quarter of 40, three standard deviations about it"


def _rows(dataset: Dataset) -> Texts:
    return list(zip(*dataset.texts(np.arange(len(dataset))), strict=True))


@pytest.mark.parametrize(
    ("steps", "accumulation", "with_state"),
    [(8, 1, True), (3, 1, True), (3, 2, True), (8, 1, False), (3, 2, False)],
)
def test_a_resumed_trainer_equals_an_unbroken_one(
    model_folder: Path, datasets: list[Dataset], tmp_path: Path, steps: int, accumulation: int, with_state: bool
) -> None:
    """Also where the trainer counts several epochs, and where there is no state and the batches are drawn again."""
    options: dict[str, Any] = {"gradient_accumulation_steps": accumulation, "callback": with_state, "save_steps": 5}
    unbroken = trainer(model_folder, tmp_path / "out", TrainerBatches(mixture(datasets), steps=steps), 8, **options)
    unbroken.train()
    trained = len(unbroken.loss.seen)
    assert unbroken.loss.seen == tokens(unbroken.model, expected(mixture(datasets), trained))

    batches = TrainerBatches(mixture(datasets), steps=steps)
    resumed = trainer(model_folder, tmp_path / "out", batches, 8, **options)
    checkpoint = tmp_path / "out" / "checkpoint-5"
    assert (checkpoint / STATE_FILE).exists() == with_state
    resumed.train(resume_from_checkpoint=str(checkpoint))
    left = len(resumed.loss.seen)
    assert 0 < left < trained
    assert resumed.loss.seen == unbroken.loss.seen[-left:]
    if with_state:
        begun = json.loads((checkpoint / STATE_FILE).read_text())["step"]
        assert begun == trained - left
        assert batches._begin.place.step == begun, "nothing was drawn again"
    for ours, theirs in zip(unbroken.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_workers_ahead_of_the_model_do_not_count_in_the_state(
    model_folder: Path, datasets: list[Dataset], tmp_path: Path
) -> None:
    batches = TrainerBatches(mixture(datasets), steps=20)
    run = trainer(model_folder, tmp_path / "out", batches, 3, dataloader_num_workers=1, dataloader_prefetch_factor=3)
    run.train()
    plain = mixture(datasets)
    list(islice(plain, 3))
    assert json.loads((tmp_path / "out" / "checkpoint-3" / STATE_FILE).read_text()) == plain.state()
    assert batches._next_step > 3


def test_prompts_swap_and_own_batch_sizes(model_folder: Path, tmp_path: Path) -> None:
    def datasets() -> list[Dataset]:
        return [
            Dataset("a", Shards(tmp_path / "a"), swap=True, batch_size=3),
            Dataset("b", Shards(tmp_path / "b"), anchor_prompt="question ", positive_prompt="answer "),
        ]

    make_shards(tmp_path / "a", make_pairs(20, seed=1))
    triplets = [(*pair, f"cold {number}") for number, pair in enumerate(make_pairs(20, seed=2))]
    make_shards(tmp_path / "b", triplets)
    batches = TrainerBatches(mixture(datasets()), steps=8)
    assert batches.batch_size is None
    run = trainer(model_folder, tmp_path / "out", batches, 8, save_strategy="no")
    run.train()
    drawn = [
        [
            [prompt + text for text, prompt in zip(row, prompts, strict=False)]
            for row in zip(*batch.columns, strict=True)
        ]
        for batch in islice(mixture(datasets()), 8)
        for prompts in [("question ", "answer ", "answer ") if batch.names == ("b",) else ("", "")]
    ]
    assert {len(batch) for batch in drawn} == {3, BATCH_SIZE}
    assert run.loss.seen == tokens(run.model, drawn)


def test_several_datasets_share_a_batch(model_folder: Path, datasets: list[Dataset], tmp_path: Path) -> None:
    batches = TrainerBatches(mixture(datasets, datasets_per_batch=2), steps=4)
    run = trainer(model_folder, tmp_path / "out", batches, 4, save_strategy="no")
    run.train()
    assert run.loss.seen == tokens(run.model, expected(mixture(datasets, datasets_per_batch=2), 4))


def test_a_changed_mixture_is_noticed_on_resume(model_folder: Path, datasets: list[Dataset], tmp_path: Path) -> None:
    trainer(model_folder, tmp_path / "out", TrainerBatches(mixture(datasets), steps=9), 3).train()
    changed = TrainerBatches(mixture(datasets, seed=8), steps=9)
    with pytest.raises(UsageError, match="seed was 7 and is 8"):
        trainer(model_folder, tmp_path / "out", changed, 6).train(resume_from_checkpoint=True)
    state = tmp_path / "out" / "checkpoint-3" / STATE_FILE
    allowed = TrainerBatches(mixture(datasets, seed=8), steps=9, allow_changes=True)
    allowed.restore(json.loads(state.read_text()))
    state.write_text("{")
    with pytest.raises(ArtifactError, match=STATE_FILE):
        trainer(model_folder, tmp_path / "out", changed, 6).train(resume_from_checkpoint=True)


def test_consumed_batches_are_never_trained_on(model_folder: Path, datasets: list[Dataset], tmp_path: Path) -> None:
    later = mixture(datasets)
    list(islice(later, 5))
    batches = TrainerBatches(mixture(datasets), steps=9)
    batches.restore(later.state())
    run = trainer(model_folder, tmp_path / "out", batches, 9, callback=False)
    with pytest.raises(UsageError, match="batch 0 of the mixture was consumed before"):
        run.train()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda sets: {"small": sets["small"]}, "has 1 datasets and the mixture 2; give it small, large"),
        (lambda sets: {"large": sets["large"], "small": sets["small"]}, "small: has 18 rows in the mixture and 50"),
        (lambda sets: {**sets, "large": sets["large"].shuffle(seed=0)}, "large: row 0 of the trainer's dataset is not"),
        (lambda sets: {**sets, "large": sets["large"].select_columns(["positive", "anchor"])}, "anchors first"),
    ],
)
def test_other_rows_than_the_mixtures_are_refused(
    model_folder: Path, datasets: list[Dataset], tmp_path: Path, build: Any, message: str
) -> None:
    batches = TrainerBatches(mixture(datasets), steps=9)
    train_dataset = hf_datasets.DatasetDict(build(batches.train_dataset()))
    with pytest.raises(UsageError, match=message):
        trainer(model_folder, tmp_path / "out", batches, 9, train_dataset=train_dataset).train()


def test_datasets_that_were_loaded_the_usual_way(model_folder: Path, datasets: list[Dataset], tmp_path: Path) -> None:
    loaded = {
        dataset.name: hf_datasets.load_dataset(
            "arrow",
            data_files=sorted(map(str, (tmp_path / dataset.name).glob("*.arrow"))),
            split="train",
            cache_dir=str(tmp_path / "cache"),
        ).select_columns(["anchor", "positive"])
        for dataset in datasets
    }
    batches = TrainerBatches(mixture(datasets), steps=2)
    run = trainer(model_folder, tmp_path / "out", batches, 2, train_dataset=loaded, save_strategy="no")
    run.train()
    assert run.loss.seen == tokens(run.model, expected(mixture(datasets), 2))


@pytest.mark.parametrize("split_batches", [False, True])
@pytest.mark.parametrize("restored", [False, True])
def test_devices_take_turns_or_share(datasets: list[Dataset], split_batches: bool, restored: bool) -> None:
    """Through accelerate's own shares, which is what the trainer has on two devices."""
    from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler

    whole = list(TrainerBatches(mixture(datasets), steps=8))
    state = mixture(datasets)
    list(islice(state, 4))
    shares = []
    for process in range(2):
        batches = TrainerBatches(mixture(datasets), steps=8)
        if restored:
            batches.restore(state.state())
        share = BatchSamplerShard(batches, 2, process, split_batches=split_batches, even_batches=False)
        shares.append(list(SkipBatchSampler(share, skip_batches=4 if split_batches else 2)))
    if split_batches:
        assert [one + other for one, other in zip(*shares, strict=True)] == whole[4:]
    else:
        assert [batch for pair in zip(*shares, strict=True) for batch in pair] == whole[4:]


def test_what_the_trainer_cannot_follow_is_refused(datasets: list[Dataset]) -> None:
    with pytest.raises(UsageError, match="steps is 0"):
        TrainerBatches(mixture(datasets), steps=0)
    rows = different(20)
    with pytest.raises(UsageError, match="pairs for only 10 of 11 batches"):
        TrainerBatches(mixture([Dataset("a", rows, max_epochs=2)]), steps=11)
    with pytest.raises(UsageError, match="a: the trainer cannot cut the texts of one dataset"):
        TrainerBatches(mixture([Dataset("a", rows, anchor_max_tokens=9)]), steps=9)
    with pytest.raises(
        UsageError, match="a: has a column of past contexts, and the trainer's losses take a third column"
    ):
        TrainerBatches(mixture([Dataset("a", different(20, columns=3, contexts=True))]), steps=9)
    with pytest.raises(UsageError, match="datasets_per_batch is 2"):
        sets = [Dataset("a", rows, anchor_prompt="q"), Dataset("b", rows)]
        TrainerBatches(mixture(sets, datasets_per_batch=2), steps=9)
    with pytest.raises(UsageError, match="a: is not made of shards"):
        TrainerBatches(mixture([Dataset("a", rows)]), steps=9).train_dataset()


def test_states_of_batches_that_are_not_known(monkeypatch: pytest.MonkeyPatch, datasets: list[Dataset]) -> None:
    monkeypatch.setattr("pairloom.sentence_transformers_data._MAX_AHEAD", 3)
    batches = TrainerBatches(mixture(datasets), steps=9)
    list(islice(batches, 6))
    plain = mixture(datasets)
    list(islice(plain, 4))
    assert batches.state(4) == plain.state()
    for step in (2, 7):
        with pytest.raises(UsageError, match="of 6 batches drawn the last 3 are remembered"):
            batches.state(step)


def test_the_trainers_arguments_can_be_pickled_and_keep_the_batches_out(datasets: list[Dataset]) -> None:
    batches = TrainerBatches(mixture(datasets), steps=9)
    assert pickle.loads(pickle.dumps(batches)) == "the batches of a pairloom mixture"


def test_epochs_go_on_in_the_stream_and_can_be_had_again(datasets: list[Dataset]) -> None:
    whole = list(TrainerBatches(mixture(datasets), steps=9))
    source = mixture(datasets)
    next(source)
    batches = TrainerBatches(source, steps=3)
    assert len(batches) == 3
    for epoch in (0, 1, 2, 0, 2, 1, 1):
        batches.set_epoch(epoch)
        assert list(batches) == whole[3 * epoch : 3 * epoch + 3]
    assert source.place.step == 1
