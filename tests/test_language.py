"""Korean and English: every text is translated, with the same values in it, and each is chosen."""

import ast
import os
import re
import subprocess
import sys
from gettext import NullTranslations
from pathlib import Path
from types import ModuleType

import pytest
import torch
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po
from torch import nn

import nunbit
from fake_runs import fake_run, logits_of
from nunbit.errors import UsageError
from nunbit.explaining.convolution import draw_convolution
from nunbit.language import LANGUAGES, LOCALE, VARIABLES, language, tr, trn
from nunbit.models.catalog import find_entry
from nunbit.models.dryrun import dry_run
from nunbit.models.freeze import freeze, trainable
from nunbit.models.registry import build_model
from nunbit.models.summary import aligned, summarize
from nunbit.models.surgery import append, get, replace
from nunbit.reporting.page import run_page

ROOT = Path(nunbit.__file__).parents[2]
TRANSLATED = [code for code in LANGUAGES if code != "en"]
FIELD = re.compile(r"\{(\w+)[^}]*\}|%\((\w+)\)s")
HANGUL = re.compile("[가-힣]")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """tools/messages.py, which is no part of the package."""
    sys.path.insert(0, str(ROOT / "tools"))
    import messages

    return messages


@pytest.fixture(params=TRANSLATED)
def catalogue(request: pytest.FixtureRequest) -> Catalog:
    """A catalogue as it is in the repository."""
    with (LOCALE / request.param / "LC_MESSAGES" / "nunbit.po").open("rb") as file:
        return read_po(file, locale=request.param)


def forms(message: Message) -> list[tuple[str, str]]:
    """Return (text, translation) of every form that a language has."""
    if isinstance(message.id, str):
        return [(message.id, str(message.string))]
    return [(message.id[-1], translation) for translation in message.string]


def texts(catalogue: Catalog) -> list[Message]:
    return [message for message in catalogue if message.id]


def test_no_text_lacks_a_translation_and_none_is_left_over(
    catalogue: Catalog, tool: ModuleType
) -> None:
    today = {message.id for message in texts(tool.updated(catalogue))}
    assert len(today) > 700, "the texts were found"
    assert {message.id for message in texts(catalogue)} == today, "run: make messages"
    for message in texts(catalogue):
        assert not message.fuzzy
        for text, translation in forms(message):
            assert translation, f"to translate: {text}"


def test_no_text_hides_in_an_f_string(tool: ModuleType) -> None:
    """Where the extraction of texts does not look."""
    for path in sorted(tool.PACKAGE.rglob("*.py")):
        for part in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(part, ast.JoinedStr):
                calls = [n for n in ast.walk(part) if isinstance(n, ast.Call) and n.args]
                said = {ast.unparse(n.func) for n in calls if isinstance(n.args[0], ast.Constant)}
                assert not said & set(tool.KEYWORDS), f"{path}:{part.lineno}"


def test_templates_say_nothing_untranslated(tool: ModuleType) -> None:
    """All words outside of `_(...)`, `{% trans %}` and tags are names that no language changes."""
    names = {"F", "config", "json", "nunbit", "torch", "Python", "px"}
    code = r"\{% (trans|block style).*?(endtrans|endblock) [+-]?%\}|\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}"
    tags = r"<(style|code|pre)>.*?</\1>|<[^>]*>|&\w+;"
    for path in sorted(tool.PACKAGE.glob("*/templates/*.html")):
        said = path.read_text(encoding="utf-8")
        for hidden in (code, tags):
            said = re.sub(hidden, " ", said, flags=re.DOTALL)
        assert set(re.findall(r"[A-Za-z]+", said)) <= names, path.name


def test_translations_have_the_values_of_their_texts(catalogue: Catalog) -> None:
    for message in texts(catalogue):
        for text, translation in forms(message):
            assert set(FIELD.findall(text)) == set(FIELD.findall(translation)), text
            assert text.startswith("\n") == translation.startswith("\n"), text
            # What is formatted by % needs its % doubled in both.
            assert ("%%" in text) == ("%%" in translation), text


def test_help_keeps_its_arguments(catalogue: Catalog) -> None:
    """The names below "Args:" are those of the function, in any language."""
    for message in texts(catalogue):
        for text, translation in forms(message):
            names, translated = (re.findall(r"^    (\w+):", t, re.M) for t in (text, translation))
            assert names == translated, text


def test_what_gettext_reads_is_what_was_translated(catalogue: Catalog, tool: ModuleType) -> None:
    compiled = LOCALE / str(catalogue.locale) / "LC_MESSAGES" / "nunbit.mo"
    assert compiled.read_bytes() == tool.as_mo(catalogue), "run: make messages"


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({}, "en"),
        ({"NUNBIT_LANG": "ko"}, "ko"),
        ({"NUNBIT_LANG": "en", "LANG": "ko_KR.UTF-8"}, "en"),
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANGUAGE": "ko:en", "LANG": "en_US.UTF-8"}, "ko"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
    ],
)
def test_the_language_is_chosen(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], code: str
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language() == code


def test_values_are_put_in_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "{braces} and 100%"
    assert tr("no file {path}", path=path) == f"no file {path}"
    assert trn("{count} picture", "{count} pictures", 1) == "1 picture"
    assert trn("{count} picture", "{count} pictures", 2000) == "2,000 pictures"
    monkeypatch.setenv("NUNBIT_LANG", "ko")
    assert tr("no file {path}", path=path) == f"{path}: 파일이 없습니다"
    assert trn("{count} picture", "{count} pictures", 2000) == "사진 2,000장"
    assert tr("a text that nobody translated") == "a text that nobody translated"


def test_errors_speak_korean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUNBIT_LANG", "ko")
    with pytest.raises(UsageError, match="없습니다; 'digits/cnn'입니까"):
        nunbit.get_recipe("digits/cn")


def alexnet() -> nn.Module:
    with torch.device("meta"):
        return build_model(
            "torchvision:alexnet", num_classes=2, in_channels=3, image_size=(224, 224)
        )


def test_the_nearest_name_is_said_in_every_language(monkeypatch: pytest.MonkeyPatch) -> None:
    model = alexnet()
    for code in LANGUAGES:
        monkeypatch.setenv("NUNBIT_LANG", code)
        nearest = re.escape(tr("did you mean '{near}'?", near="features"))
        with pytest.raises(UsageError, match=nearest):
            get(model, "featurs")
        with pytest.raises(UsageError, match=nearest):
            freeze(model, "featurs")
        with pytest.raises(UsageError, match=tr("allowed: {words}", words="features, avgpool")):
            get(model, "qqq")


class Marking(NullTranslations):
    """A language whose texts are the English ones in brackets."""

    def gettext(self, message: str) -> str:
        return f"[{message}]"


def test_what_is_said_of_networks_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    model = alexnet()
    monkeypatch.setattr("nunbit.language.translations", lambda _: Marking())
    shared = nn.Sequential(nn.Linear(4, 4))
    twice = nn.Sequential(shared, shared)
    with pytest.raises(UsageError, match=r"\['0' and '1'\] are one object"):
        append(twice, "0", nn.ReLU())
    with pytest.raises(UsageError, match=r"\[ReLU without \(\)\] is no layer"):
        replace(model, "features.1", nn.ReLU)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"\[features.2 \(MaxPool2d\), given .*: .*\]"):
        dry_run(model, (3, 8, 8))
    with pytest.raises(UsageError, match=r"\[near: resnet18"):
        find_entry("timm:resnet19")
    assert trainable(model).lines()[0].split() == ["[parameter]", "[dimensions]", "[numbers]"]
    assert trainable(model).lines()[1].endswith("[trains]")
    header = summarize(nn.Linear(3, 2), 3, (3, 3)).lines()[0]
    assert header.split() == ["[layer]", "[kind]", "[output]", "[parameters]"]


def test_columns_of_a_table_end_where_hangul_ends() -> None:
    rows = [("층", "수"), ("conv", "1,234"), ("linear1", "5")]
    assert aligned(rows, right=1) == ["층          수", "conv     1,234", "linear1      5"]


def said(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run nunbit as a process with these variables."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return subprocess.run(
        [sys.executable, "-m", "nunbit", *words],
        env=environment | {"PYTHONUTF8": "1"} | variables,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_help_speaks_korean() -> None:
    shown = said("train", "--help", LANG="ko_KR.UTF-8").stdout
    assert "신경망을 학습하고, 측정하고" in shown
    assert "예:\n  nunbit train" in shown
    assert "--skip-bad" in shown
    assert shown.index("인자") < shown.index("옵션")


def test_an_unknown_language_is_one_line() -> None:
    done = said("recipes", NUNBIT_LANG="klingon")
    assert done.returncode == 2
    assert done.stderr == "nunbit: NUNBIT_LANG is 'klingon'; allowed: en, ko\n"


def test_pages_speak_korean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    labels = [0, 0, 1, 1]
    made = fake_run(tmp_path, ("cat", "dog"), labels, logits_of([0, 1, 1, 1], [0.9] * 4, 2))
    english = run_page(made)
    monkeypatch.setenv("NUNBIT_LANG", "ko")
    korean = run_page(made)
    assert '<html lang="ko">' in korean
    assert "<h2>손실과 정확도</h2>" in korean
    assert "%%" not in korean.split("nunbit-data")[0].split("</style>")[1]
    assert not HANGUL.search(english.split("</style>")[1])
    page = draw_convolution(None, None).files["explanation.html"].decode()
    assert '<html lang="ko">' in page
    assert "평균 커널" in page


def test_records_do_not_depend_on_the_language(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What programs read is the same: names of fields, kinds, settings."""
    results = []
    for code in LANGUAGES:
        monkeypatch.setenv("NUNBIT_LANG", code)
        report = nunbit.doctor("digits", features="none", out=tmp_path / code, quiet=True).to_dict()
        results.append([*report, *(issue["kind"] for issue in report["issues"])])
    assert results[0] == results[1]
