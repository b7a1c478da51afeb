"""The environment in which pages are made of templates, in the user's language."""

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from nunbit.language import language, translations


def page_environment(package: str) -> Environment:
    """Return the environment for a package's `templates/` and those here; one for each language.

    Every text of a template goes through `_()` or `{% trans %}` (jinja2's i18n extension).
    """
    return _environment(package, language())


@cache
def _environment(package: str, code: str) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("nunbit.pages")]),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_translations(translations(code), newstyle=True)  # type: ignore[attr-defined]  # from the extension
    return environment
