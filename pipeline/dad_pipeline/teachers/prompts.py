"""Named sets of prompt templates and class names, for zero-shot teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

from dad_datasets.errors import UserError

TEMPLATE_SET_NAMES = ("openai_imagenet", "simple")
CLASS_NAME_SET_NAMES = ("imagenet",)

Template = str | Callable[[str], str]


def prompt_templates(templates: str | Sequence[str]) -> list[Template]:
    """The templates of a named set (`openai_imagenet`: 80, `simple`: 7), or the given list itself, checked.

    Raises UserError for an unknown set, an empty list, and a template that does not hold `{}` exactly where the class
    name goes.
    """
    if isinstance(templates, str):
        named = {"openai_imagenet": OPENAI_IMAGENET_TEMPLATES, "simple": SIMPLE_IMAGENET_TEMPLATES}
        if templates not in named:
            raise UserError(f"unknown template set {templates!r}; allowed: {', '.join(named)}, or a list of templates")
        return list(named[templates])
    if not templates:
        raise UserError("the list of templates is empty; at least one is needed, such as 'a photo of a {}.'")
    for template in templates:
        if not _has_one_place(template):
            raise UserError(f"template {template!r} must hold {{}} once, where the class name goes, and no other brace")
    return list(templates)


def _has_one_place(template: str) -> bool:
    return template.count("{}") == 1 and not set(template.replace("{}", "")) & set("{}")


def class_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """The class names of a named set (`imagenet`: 1000, in label order), or the given names themselves.

    Raises UserError for an unknown set and for an empty list or name.
    """
    if isinstance(names, str):
        if names not in CLASS_NAME_SET_NAMES:
            raise UserError(f"unknown class-name set {names!r}; allowed: {', '.join(CLASS_NAME_SET_NAMES)}, or a list")
        return tuple(IMAGENET_CLASSNAMES)
    if not names or not all(name.strip() for name in names):
        raise UserError("class names: the list, or a name in it, is empty")
    return tuple(names)
