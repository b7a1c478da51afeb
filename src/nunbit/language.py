"""The language of what nunbit says: that of NUNBIT_LANG, else of the locale, else English.

The English text is the key of its translation (gettext). Values are filled in after the look-up, so
that a translation may put them in another order. docs/translating.md says how to add a text.
"""

import gettext
import os
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "ko")
VARIABLE = "NUNBIT_LANG"
# In the order of gettext: LANGUAGE is a list, and LC_ALL beats LC_MESSAGES beats LANG.
VARIABLES = (VARIABLE, "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
DOMAIN = "nunbit"
LOCALE = Path(__file__).parent / "locale"


def language() -> str:
    """Return the language that is asked for where nunbit has it, else `en`."""
    asked = next((os.environ[name] for name in VARIABLES if os.environ.get(name)), "en")
    code = asked.partition(":")[0].partition(".")[0].partition("_")[0].partition("-")[0].lower()
    return code if code in LANGUAGES else "en"


def tr(text: str, /, **fields: object) -> str:
    """Return a text in the user's language, with its `{fields}` filled in.

    Args:
        text: English, a literal, so that it can be found in the source.
        fields: values of the placeholders, as for `str.format`.
    """
    found = translations(language()).gettext(text)
    return found.format(**fields) if fields else found


def trn(one: str, many: str, count: int, /, **fields: object) -> str:
    """Return one of two texts by a count, which both may name as `{count}`."""
    found = translations(language()).ngettext(one, many, count)
    return found.format(count=f"{count:,}", **fields)


def mark(text: str) -> str:
    """Return a text that is translated where it is shown, so that its extraction finds it."""
    return text


@cache
def translations(code: str) -> gettext.NullTranslations:
    """Return the catalogue of a language; English needs none."""
    return gettext.translation(DOMAIN, LOCALE, [code], fallback=code == "en")
