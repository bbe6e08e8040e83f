"""Feature layouts as the `layout` column of a baseline holds them: JSON, kept for as long as any cell of the model."""

from collections.abc import Iterable, Mapping
from typing import Any

from service.domain.stats.histogram import CategoricalBins, FeatureBins, FeatureLayout, NumericBins


def layout_to_json(layout: FeatureLayout) -> dict[str, Any]:
    return {"features": [_bins_to_json(bins) for bins in layout.features]}


def layout_from_json(stored: Mapping[str, Any]) -> FeatureLayout:
    return FeatureLayout(features=tuple(_bins_from_json(bins) for bins in stored["features"]))


def longest_layouts(stored: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, FeatureLayout]:
    """By model: of the layouts of its baselines, which begin alike, the one that knows most features."""
    longest: dict[str, FeatureLayout] = {}
    for model, layout_json in stored:
        layout = layout_from_json(layout_json)
        if model not in longest or layout.slots > longest[model].slots:
            longest[model] = layout
    return longest


def _bins_to_json(bins: FeatureBins) -> dict[str, Any]:
    placed = {"name": bins.name, "first_slot": bins.first_slot}
    match bins:
        case NumericBins():
            return placed | {"kind": "numeric", "edges": list(bins.edges)}
        case CategoricalBins():
            return placed | {"kind": "categorical", "values": list(bins.values)}


def _bins_from_json(stored: Mapping[str, Any]) -> FeatureBins:
    if stored["kind"] == "numeric":
        edges = tuple(float(edge) for edge in stored["edges"])
        return NumericBins(name=stored["name"], first_slot=stored["first_slot"], edges=edges)
    return CategoricalBins(name=stored["name"], first_slot=stored["first_slot"], values=tuple(stored["values"]))
