"""Settings: read, changed by name, checked, written and read again."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from nunbit.asked import asked_config, spelled
from nunbit.config import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
    describe_settings,
)
from nunbit.data.named import NAMED
from nunbit.data.sources import anchored, open_source
from nunbit.errors import MissingInputError, UsageError
from nunbit.recipes import RECIPES, get_recipe
from nunbit.recipes.speed import UPRIGHT


def test_override_reads_each_type_from_text() -> None:
    config = RunConfig().override(
        {
            "train.epochs": "7",
            "optim.lr": "1e-2",
            "data.flip": "true",
            "optim.name": "sgd",
            "model.width": "32",
            "model.shared": "true",
            "model.style": "wide",
        }
    )
    assert config.train.epochs == 7
    assert config.optim.lr == 0.01
    assert config.data.flip is True
    assert config.optim.name == "sgd"
    assert config.model.args == {"width": 32, "shared": True, "style": "wide"}


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("train.epoch", "3", "did you mean 'epochs'"),
        ("optm.lr", "3", "did you mean 'optim.lr'"),
        ("optim.lr", "-1", "above 0"),
        ("optim.lr", "nan", "a number"),
        ("optim.lr", "fast", "a number"),
        ("train.epochs", "2.5", "a whole number"),
        ("train.epochs", "-1", "0 to 100000"),
        ("data.flip", "maybe", "true or false"),
        ("optim.name", "adan", "did you mean 'adam"),
        ("data.val_fraction", "0.9", "0 to below 0.9"),
        ("data.test_fraction", "0", "above 0, below 0.9"),
        ("data.test_fraction", "0.9", "above 0, below 0.9"),
    ],
)
def test_a_wrong_setting_is_one_line_with_what_is_allowed(
    setting: str, value: str, says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        RunConfig().override({setting: value})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "given", "says"),
    [
        (OptimConfig, {"name": "SGD"}, "optim.name is 'SGD'; allowed: adam, adamw"),
        (OptimConfig, {"schedule": "cosinus"}, "did you mean 'cosine'"),
        (OptimConfig, {"lr": "fast"}, "a number"),
        (DataConfig, {"normalize": "imagenet"}, "data.normalize is 'imagenet'"),
        (DataConfig, {"source": None}, "data.source is None; allowed: a text"),
        (TrainConfig, {"precision": "fp16"}, "train.precision is 'fp16'"),
        (TrainConfig, {"epochs": 2.5}, "a whole number"),
        (EvalConfig, {"views": "miror"}, "did you mean 'mirror'"),
        (ModelConfig, {"args": 3}, "an object of options"),
        (RunConfig, {"recipe": 3}, "recipe is 3; allowed: a text"),
        (RunConfig, {"optim": {"name": "sgd"}}, "allowed: OptimConfig"),
    ],
)
def test_a_section_made_in_python_is_checked_too(
    section: type, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        section(**given)


def test_a_section_reads_its_values_as_the_command_line_does() -> None:
    assert DataConfig(flip="false").flip is False  # type: ignore[arg-type]
    assert TrainConfig(epochs="5").epochs == 5  # type: ignore[arg-type]
    assert isinstance(OptimConfig(lr=1).lr, float)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_survives_its_json(name: str) -> None:
    config = get_recipe(name)
    assert RunConfig.from_json(config.to_json()) == config


def test_from_json_refuses_what_it_does_not_know() -> None:
    body = json.loads(RunConfig().to_json())
    body["train"]["epocs"] = 3
    with pytest.raises(UsageError, match="epochs"):
        RunConfig.from_json(json.dumps(body))
    for text, says in (
        ("[1]", "not a JSON object"),
        ("{", "not JSON"),
        ('{"format_version": 99}', "format 99"),
        ('{"optimizer": {}}', "did you mean 'optim'"),
    ):
        with pytest.raises(UsageError, match=says):
            RunConfig.from_json(text)


def test_sections_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().epochs = 3  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    rows = describe_settings()
    names = [row["name"] for row in rows]
    assert "optim.lr" in names
    assert len(names) == len(set(names))
    assert len([n for n in names if n.startswith("data.")]) == len(dataclasses.fields(DataConfig))
    assert all(len(row["meaning"]) > 10 for row in rows)
    allowed = {row["name"]: row["allowed"] for row in rows}
    assert allowed["data.resize"] == ["crop", "squash", "pad"]
    assert allowed["data.flip"] == ["true", "false"]
    assert allowed["optim.lr"] == []


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'birds/net'"):
        get_recipe("bird/net")


def test_other_data_takes_the_recipe_for_photographs() -> None:
    assert get_recipe(None).recipe == "digits/cnn"
    assert get_recipe(None, "photos/").recipe == "photos/cnn"
    assert get_recipe(None, "photos/").data.source == "photos/"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_on_a_set_that_it_is_made_for_or_asks_for_a_folder(name: str) -> None:
    data = get_recipe(name).data
    assert not (data.flip and data.source in UPRIGHT)
    if data.source not in NAMED:
        with pytest.raises(MissingInputError, match=r"no such path; name a folder with --data$"):
            open_source(data.source)


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_can_be_asked_for_in_words(name: str) -> None:
    config = get_recipe(name).override(
        {"train.epochs": "3", "optim.lr": "0.02", "data.source": "my photos/it's", "train.seed": 7}
    )
    assert asked_again(config) == config


def test_words_carry_another_network_and_its_options() -> None:
    config = asked_config("birds/width", None, "cnn", {"model.width": 8, "train.threads": 1})
    command = spelled(config)
    assert command is not None
    assert "--model.name cnn" in command
    assert asked_again(config) == config
    assert spelled(get_recipe("birds/net")) == "nunbit train birds/net"


def test_options_of_another_network_may_be_written_with_a_dash() -> None:
    for option in ("model.drop-rate", "model.drop_rate"):
        config = get_recipe("photos/cnn").override({"model.name": "timm:resnet18", option: 0.3})
        assert config.model.args == {"drop_rate": 0.3}


def test_paths_mean_the_same_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "fixes.csv", "w.safetensors", "digits", "pretrained"):
        Path(name).touch()
    given = {"data.overrides": "fixes.csv", "model.weights": "w.safetensors"}
    config = anchored(get_recipe("photos/cnn", "photos").override(given))
    assert config.data.source == str(tmp_path / "photos")
    assert config.data.overrides == str(tmp_path / "fixes.csv")
    assert config.model.weights == str(tmp_path / "w.safetensors")
    known = {"data.source": "digits", "model.weights": "pretrained"}
    config = anchored(config.override(known))
    assert (config.data.source, config.model.weights) == ("digits", "pretrained")
    # Only a source is ever one of the known sets: a run folder or a table may bear such a name.
    named = anchored(config.override({"data.overrides": "digits", "model.weights": "digits"}))
    assert named.data.overrides == named.model.weights == str(tmp_path / "digits")


def test_a_path_below_the_home_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos").mkdir()
    given = {"data.source": "~/photos", "data.overrides": "~/none.csv"}
    data = anchored(RunConfig().override(given)).data
    assert (data.source, data.overrides) == (str(tmp_path / "photos"), "~/none.csv")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"optim.momentum": 0.9}, "'optim.momentum' has no effect while optim.name is adamw"),
        (
            {"optim.schedule": "cosine", "optim.warmup_fraction": 0.1},
            "'optim.warmup_fraction' has no effect while optim.schedule is cosine",
        ),
        ({"data.small_fraction": 0.5}, "'data.small_fraction' has no effect while data.small_size"),
    ],
)
def test_a_setting_that_nothing_looks_at_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked_config(None, None, None, given)
    used = {"optim.name": "sgd", "optim.schedule": "linear", "data.small_size": 4}
    config = asked_config(None, None, None, {**given, **used})
    assert config.optim.schedule == "linear"
    # What a recipe sets is no question of the caller's.
    assert asked_config("cifar10/speed", None, None, {"optim.name": "adamw"}).optim.momentum == 0.6


def test_a_dash_is_an_underline_where_settings_are_refused() -> None:
    for name in ("train.max-steps", "train.max_steps"):
        with pytest.raises(UsageError, match="follows from the budget"):
            asked_config(None, None, None, {name: 50}, for_budget=True)


def test_settings_of_no_recipe_have_no_words() -> None:
    assert spelled(RunConfig(recipe="mine")) is None


def asked_again(config: RunConfig) -> RunConfig:
    """Return what the printed command asks for."""
    nunbit, train, recipe, *words = shlex.split(spelled(config) or "")
    assert (nunbit, train) == ("nunbit", "train")
    pairs = zip(words[::2], words[1::2], strict=True)
    return get_recipe(recipe).override({name.removeprefix("--"): value for name, value in pairs})


@pytest.mark.parametrize(
    ("section", "field"), [("model", "width"), ("model", "freze"), ("data", "siz")]
)
def test_a_field_that_no_section_has_is_refused_in_every_section(section: str, field: str) -> None:
    """In the network's section it was dropped, and another network trained than was asked for."""
    body = json.loads(RunConfig().to_json())
    body[section][field] = 32
    with pytest.raises(UsageError, match=f"no setting '{section}.{field}'"):
        RunConfig.from_json(json.dumps(body))


def test_options_are_added_to_those_of_the_same_network() -> None:
    first = RunConfig().override({"model.width": 8})
    assert first.override({"optim.lr": 0.1}).model.args == {"width": 8}
    assert first.override({"model.depth": 3}).model.args == {"width": 8, "depth": 3}
    assert first.override({"model.name": "net"}).model.args == {}
    assert first.override({"model.name": "net", "model.width": 4}).model.args == {"width": 4}
    assert RunConfig.from_json(first.to_json()) == first


def test_words_carry_an_option_that_is_true_or_false() -> None:
    shared = get_recipe("birds/resdeep").override({"model.shared": True, "data.flip": True})
    words = spelled(shared)
    assert words is not None
    assert "--model.shared true" in words
    assert "--data.flip true" in words


def test_options_that_are_no_options_are_one_line() -> None:
    with pytest.raises(UsageError, match=r"model\.args is '5'; allowed: an object of options"):
        RunConfig().override({"model.args": "5", "model.width": 3})
