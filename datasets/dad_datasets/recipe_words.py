"""What a generation recipe asks for, in a line each: for the data card and the report.

The recipe is read from a manifest, where it is plain JSON: the pipeline, which has its types, need not be installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RecipeFields = Mapping[str, Any]


def in_words(recipe: RecipeFields) -> dict[str, str]:
    """Teacher, quantizer, attack, views, what is stored and the source, each as far as the recipe names it."""
    described = {
        "teacher": model_in_words(recipe.get("teacher") or {}),
        "quantizer": _quantizer(recipe.get("quantizer") or {}),
        "attack": _attack(recipe.get("attack") or {}),
        "views": _views(recipe["views"]),
        "stored": _store(recipe["store"]),
        "source": str(recipe["source"].get("path", "")),
    }
    return {name: words for name, words in described.items() if words}


def model_in_words(model: RecipeFields) -> str:
    """A recipe's `teacher` section: architecture, kind and weights; of an ensemble all members."""
    kind = str(model.get("kind", "")).replace("_", " ")
    if "members" in model:
        return f"{kind} of " + "; ".join(model_in_words(member) for member in model["members"])
    weights = model.get("checkpoint") or model.get("pretrained")
    origin = "with random weights" if weights == "random" else f"with {weights}" if weights else ""
    parts = [str(model.get("architecture", "")), f"({kind})" if kind else "", origin]
    return " ".join(part for part in parts if part)


def _quantizer(quantizer: RecipeFields) -> str:
    return f"VQGAN from {quantizer['checkpoint']}" if quantizer.get("checkpoint") else ""


def _attack(attack: RecipeFields) -> str:
    if not attack:
        return ""
    steps = attack.get("steps", 0)
    size = f" of {attack.get('step_size', 0):.4g}" if steps else ""
    words = [
        f"preset {attack.get('preset', 'unknown')}",
        f"{attack.get('norm', '')} ball of radius {attack.get('epsilon', 0):.4g}",
        f"{steps} step{'' if steps == 1 else 's'}{size}",
        f"random start with probability {attack.get('random_start', 0):.4g}",
        f"gradient {str(attack.get('gradient', '')).replace('_', ' ')}",
        f"re-encoding {str(attack.get('reencode', '')).replace('_', ' ')}",
    ]
    against = attack.get("model")
    return ", ".join(words) + (f"; against {model_in_words(against)}" if against else "")


def _views(views: RecipeFields) -> str:
    kinds = [
        f"{draw.get('count', 1)} × {str(draw.get('kind', 'view')).replace('_', ' ')}"
        + ("" if draw.get("attack", True) else " (clean only)")
        for draw in views.get("draw", ())
    ]
    return f"{views.get('size', '?')} pixels a side; for each image {', '.join(kinds) or 'one view'}"


def _store(store: RecipeFields) -> str:
    logits = store.get("logits", "full")
    image = store.get("image", "webp")
    parts = [
        "no images" if image == "none" else f"images as {image}",
        "codes" if store.get("codes", True) else "",
        "clean canvases" if store.get("clean") else "",
        "all logits" if logits == "full" else f"the {logits.get('top_k')} largest logits",
    ]
    return ", ".join(part for part in parts if part)
