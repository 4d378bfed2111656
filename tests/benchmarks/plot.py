"""The plot of the docs: credentials a second against batch size and backlog, from measured figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import vl_convert

VEGA_LITE = "6.1"

#: What stands below each part.
AXES = {
    "batch size": "largest batch, anvil with a block for each transaction",
    "queued": "credentials queued, mock mode",
}

OURS, PEER = "ours", "peer"


def svg(report: Mapping[str, Any]) -> str:
    """One drawing, a part for each axis on which something was measured. Raises `ValueError` if none."""
    parts = [_part(axis, points) for axis in AXES if (points := list(_points(report, axis)))]
    if not parts:
        raise ValueError("no figure has a place in the plot: measure chain or scale")
    return vl_convert.vegalite_to_svg({"hconcat": parts, "background": "white"}, vl_version=VEGA_LITE)


def _points(report: Mapping[str, Any], axis: str) -> Iterator[dict[str, Any]]:
    for row in report["rows"]:
        if row.get("axis") != axis:
            continue
        for side in (OURS, PEER):
            if row[side]:
                yield {"side": side, "at": row["at"], **row[side]}


def _part(axis: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    """A line through the medians, on logarithmic scales, and a bar from the lowest to the highest round."""
    rate = {"type": "quantitative", "scale": {"type": "log"}}
    x = {
        "field": "at",
        "type": "quantitative",
        "scale": {"type": "log"},
        "title": AXES[axis],
        "axis": {"values": sorted({point["at"] for point in points}), "format": ",d"},
    }
    color = {"field": "side", "type": "nominal", "title": None, "sort": [OURS, PEER]}
    return {
        "width": 320,
        "height": 240,
        "data": {"values": points},
        "encoding": {"x": x, "color": color},
        "layer": [
            {
                "mark": {"type": "line", "point": True},
                "encoding": {"y": {"field": "median", "title": "credentials a second", **rate}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"y": {"field": "min", **rate}, "y2": {"field": "max"}},
            },
        ],
    }
