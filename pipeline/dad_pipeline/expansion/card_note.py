"""What the data card of an expanded set says of where its images come from."""

from __future__ import annotations

from dad_pipeline.expansion.comparison import HashComparison
from dad_pipeline.expansion.origin import Origin
from dad_pipeline.expansion.plan import ExpansionPlan


def card_note(origin: Origin, plan: ExpansionPlan, hashes: HashComparison) -> str:
    """Markdown: the set of codes, its decoder, the arithmetic, and how near the pixels are to those of the teacher."""
    made, compute = origin.manifest.fingerprinted, plan.compute
    torch_version = plan.manifest.fingerprinted["expanded"]["libraries"].get("torch", "unknown")
    if compute.decoder_precision == "float32":
        tolerance = (
            "The others may differ by 1/255 in a value that lies on a rounding edge, and no more: "
            "`dad expand --check K` compares K views with the decoder in float64 and refuses what differs more."
        )
    else:
        tolerance = (
            f"They were decoded in {compute.decoder_precision}, for which no bound is promised: "
            "`dad expand --check K` says how far K views are from the decoder in float64."
        )
    return (
        "`dad expand` decoded these images from a set that was generated with codes and logits alone "
        f"(`store.image: none`), whose fingerprint is `{origin.manifest.fingerprint}`. The decoder is the quantizer "
        f"that the codes were made with, sha256 of its weights `{made['weights']['quantizer']}`; it ran on "
        f"{compute.device} in {compute.decoder_precision}, {compute.views_per_call} views at a time, with "
        f"{compute.threads} threads of torch {torch_version}.\n\n"
        "The stored logits are those of the pixels that the teacher scored when the codes were made. By their sha256, "
        f"{hashes.identical:,} of the {hashes.views:,} images here have these very pixels. {tolerance}"
    )
