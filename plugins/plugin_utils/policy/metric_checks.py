# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the schema can't say about what a policy measures: that conditions can be read and queries filled in. Notes every problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..documents import Document, Place
from ..metrics.model import WORDS, Comparison, query_fault

_FOR_INSTANCE = "write an operator and a number, such as < 0.01, or >= 0.5 and <= 2"


def check_metrics(document: Document) -> None:
    """Each metric of a bake is one that can be measured and judged, and there is where it comes from."""
    if document.is_good(("prometheus",)) and "token" in document.data["prometheus"] and "address" not in document.data["prometheus"]:
        document.problem(("prometheus",), "there is a token and nobody to give it to", "say where the address is")
    rollout = document.data.get("rollout", {})
    for path in (("bake",), ("canary_bake",), ("support", "exit")):
        place: Place = ("rollout", *path)
        bake = rollout
        for name in path:
            bake = bake.get(name) if isinstance(bake, dict) else None
        if not bake or not document.is_good(place):
            continue
        if not document.data.get("prometheus"):
            document.problem(place, "nothing says where the metrics come from", "say under prometheus where its address is")
        seen: set[str] = set()
        for index, metric in enumerate(bake["metrics"]):
            here = (*place, "metrics", index)
            if metric["name"] in seen:
                document.problem((*here, "name"), f"there is a metric {metric['name']} already", "give this one another name")
            seen.add(metric["name"])
            _check_metric(document, here, metric)
            if "compare" in metric and path != ("canary_bake",):
                why = "a later wave, or the last one, has too few hosts left to compare with"
                document.problem((*here, "compare"), why, "put it under canary_bake")


def _check_metric(document: Document, place: Place, metric: Mapping[str, Any]) -> None:
    conditions: dict[str, Comparison] = {}
    for name in ("good", "bad"):
        try:
            conditions |= {name: Comparison.parse(metric[name])} if name in metric else {}
        except ValueError:
            document.problem((*place, name), f"{metric[name]!a:.60} is no condition that can be read", _FOR_INSTANCE)
    both = conditions["good"].overlap(conditions["bad"]) if len(conditions) == 2 else None
    if both is not None:
        document.problem((*place, "bad"), f"{both:g} would be good and bad", "let no number meet both conditions")
    how = metric.get("compare")
    if (how is not None) == any(name in metric for name in ("good", "bad")):
        document.problem(place, "it has to be said in one way what is good", "give good or bad or both, or compare in their place")
    queries = [("query",)] + ([("compare", "total")] if how and "total" in how else [])
    for path in queries:
        text = metric["query"] if path == ("query",) else metric["compare"]["total"]
        if fault := query_fault(text):
            words = ", ".join(f"${word}" for word in WORDS)
            document.problem((*place, *path), f"the query has {fault}", f"use {words}, without quotes around them, and $$ for a dollar")
    if how is None:
        return
    if (how["kind"] == "counts") != ("total" in how):
        document.problem((*place, "compare"), "counts have a total, and values have none", "give total with kind: counts, and only there")
    if how["kind"] == "counts" and "worse" in how:
        document.problem((*place, "compare", "worse"), "more of a count is always worse", "leave it out, or count what is bad")
    if metric.get("of") == "wave":
        document.problem((*place, "of"), "hosts are compared one by one", "leave it out, and have the query give a value for each host")
