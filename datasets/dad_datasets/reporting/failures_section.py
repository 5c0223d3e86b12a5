"""What could not be made, and why."""

from __future__ import annotations

from collections.abc import Mapping

from dad_datasets.reporting.markup import Child, element
from dad_datasets.reporting.page import Section
from dad_datasets.reporting.table import table

MOST_UNITS = 50
MOST_REASONS = 100


def failures_section(
    what: str, failed: int, total: int, reasons: Mapping[str, int], units: Mapping[str, str]
) -> Section:
    """`failed` of `total` `what` ("views"), how many for each reason; and `units` not made at all, with theirs."""
    if not failed and not units:
        return Section(title="Failures", content=[element("p", f"None of the {total:,} {what} failed.")])
    content: list[Child] = [element("p", f"{failed:,} of {total:,} {what} failed ({failed / max(1, total):.2%}).")]
    if reasons:
        ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:MOST_REASONS]
        rows = [(reason, f"{count:,}") for reason, count in ordered]
        content.append(table(f"Failed {what} by reason", ("reason", what), rows))
    if units:
        shown = f", the first {MOST_UNITS}" if len(units) > MOST_UNITS else ""
        content.append(
            table(
                f"{len(units):,} units that were not made{shown}",
                ("unit", "reason"),
                list(units.items())[:MOST_UNITS],
                texts=2,
            )
        )
    return Section(title="Failures", content=content)
