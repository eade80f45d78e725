"""Settings of a server: what counts over what, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pairloom.errors import UsageError
from pairloom.serve.settings import Settings, load_settings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "serve.toml"
    path.write_text('models = ["one", "fast=two"]\nport = 8001\ndeadline_s = 5\nlog_format = "json"\n')
    return path


def test_the_environment_counts_over_the_file_and_the_command_line_over_both(config: Path) -> None:
    environment = {"PAIRLOOM_SERVE_PORT": "8002", "PAIRLOOM_SERVE_DEADLINE_S": "6", "OTHER_PORT": "1"}
    settings = load_settings(config, {"port": 8003, "host": None}, environment=environment)
    assert settings.models == ("one", "fast=two")
    assert (settings.port, settings.deadline_s, settings.log_format) == (8003, 6.0, "json")
    assert settings.host == "127.0.0.1"


def test_what_is_set_on_the_command_line_counts_over_its_flags() -> None:
    assert load_settings(None, {"port": 1}, ["port=2"], environment={}).port == 2


def test_without_anything_a_server_listens_to_its_own_machine_only() -> None:
    settings = load_settings(environment={})
    assert settings == Settings()
    assert (settings.host, settings.cors_origins, settings.log_texts, settings.workers) == ("127.0.0.1", (), False, 1)


def test_a_constructor_does_not_look_at_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIRLOOM_SERVE_PORT", "9")
    assert Settings().port == 8000
    assert load_settings().port == 9


def test_words_and_switches_are_read_from_the_environment() -> None:
    environment = {
        "PAIRLOOM_SERVE_MODELS": "one, b=two",
        "PAIRLOOM_SERVE_LOG_TEXTS": "true",
        "PAIRLOOM_SERVE_COLLECTION": "2024",
        "PAIRLOOM_SERVE_CORS_ORIGINS": "https://a.example",
    }
    settings = load_settings(environment=environment)
    assert settings.models == ("one", "b=two")
    assert settings.log_texts
    assert settings.collection == "2024"
    assert settings.cors_origins == ("https://a.example",)


def test_an_unknown_setting_is_named_with_its_place(tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text("prot = 1\n")
    with pytest.raises(UsageError, match=r"a\.toml: prot is not a setting"):
        load_settings(config, environment={})
    with pytest.raises(UsageError, match="the environment: PAIRLOOM_SERVE_PROT is not a setting"):
        load_settings(environment={"PAIRLOOM_SERVE_PROT": "1"})
    with pytest.raises(UsageError, match="--set: prot is not a setting"):
        load_settings(None, None, ["prot=1"], environment={})


def test_a_wrong_value_is_named_with_its_place(config: Path) -> None:
    with pytest.raises(UsageError, match="the environment: PAIRLOOM_SERVE_PORT = 'many'"):
        load_settings(config, environment={"PAIRLOOM_SERVE_PORT": "many"})
    with pytest.raises(UsageError, match="the command line: port = '65536'"):
        load_settings(config, {"port": 65_536}, environment={})
    with pytest.raises(UsageError, match="--set: deadline_s = '0'"):
        load_settings(config, None, ["deadline_s=0"], environment={})
    with pytest.raises(UsageError, match="--set: deadline_s = 'inf'"):
        load_settings(config, None, ["deadline_s=inf"], environment={})
    with pytest.raises(UsageError, match="--set port: write setting=value"):
        load_settings(config, None, ["port"], environment={})


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read"):
        load_settings(tmp_path / "none.toml", environment={})
    broken = tmp_path / "broken.toml"
    broken.write_text("port = = 1")
    with pytest.raises(UsageError, match=r"broken\.toml: not TOML"):
        load_settings(broken, environment={})


def test_keys_of_the_environment_are_never_shown() -> None:
    settings = load_settings(environment={"PAIRLOOM_SERVE_API_KEYS": "web:a-key-nobody-may-see"})
    assert "nobody" not in repr(settings)
    assert "nobody" not in settings.model_dump_json()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_documentation_has_every_setting_and_its_default() -> None:
    table = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    rows = {row.split("|")[1].strip(" `"): row for row in table.splitlines() if row.startswith("| `")}
    assert set(Settings.model_fields) <= set(rows)
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            shown = str(field.default) if name == "port" else f"{field.default:,}".removesuffix(".0")
            assert f"| {shown} |" in rows[name].replace("`", ""), rows[name]
