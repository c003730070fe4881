# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an answer of Prometheus to an instant query says of hosts. Pure: whatever is in it, it says so or it counts for nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from ..activity import listed

WHOLE = ""
"""In place of a host's name: that of a value for all of them."""
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?", re.IGNORECASE)
_PORT = re.compile(r":[0-9]{1,5}")
_INFO = "PromQL info:"  # what some versions say among the warnings, and nothing is missing
_SAYS = 200  # letters that are repeated of what it says of itself


@dataclass(frozen=True)
class MetricAnswer:
    """The ``values`` by host; and why they are not all that was asked for (``unclear``), or why there is no answer (``error``)."""

    values: Mapping[str, float] = field(default_factory=dict)
    unclear: str = ""
    error: str = ""


def read_answer(document: object, wanted: Collection[str], others: Collection[str], label: str) -> MetricAnswer:
    """What a document of the query API says of the hosts ``wanted``, by the label that names them, and, where it does, of ``others``.

    With nobody wanted it has to be one number, for all of them. Anything that is not of the API's form is an error.
    """
    if not isinstance(document, Mapping):
        return MetricAnswer(error="Prometheus answers with something that is not of its API")
    if document.get("status") != "success":
        said = f": {document['error']!a:.{_SAYS}}" if isinstance(document.get("error"), str) else ""
        return MetricAnswer(error=f"Prometheus answers that it can't{said}")
    data = document.get("data")
    kind, result = (data.get("resultType"), data.get("result")) if isinstance(data, Mapping) else (None, None)
    if kind not in ("vector", "scalar", "string", "matrix") or not isinstance(result, list):
        return MetricAnswer(error="Prometheus answers with something that is not of its API")
    warnings = document.get("warnings") or []
    told = [str(one) for one in warnings if not str(one).startswith(_INFO)] if isinstance(warnings, list) else [str(warnings)]
    if kind in ("string", "matrix"):
        return MetricAnswer(unclear=f"the query gives a {kind}, and no numbers of one moment")
    if kind == "scalar" and wanted:
        return MetricAnswer(unclear="the query gives one number, and not one for each host")
    series = [{"value": result}] if kind == "scalar" else result
    found = _whole(series) if not wanted else _by_host(series, set(wanted), set(others), label)
    return MetricAnswer(found.values, f"Prometheus warns: {told[0]!a:.{_SAYS}}", found.error) if told and not found.error else found


def _whole(series: list[Any]) -> MetricAnswer:
    if len(series) != 1:
        return MetricAnswer(unclear="there is no value" if not series else f"there are {len(series)} values, and not one")
    value = _value(series[0])
    if isinstance(value, str):
        return MetricAnswer(unclear=f"the value is {value}")
    return MetricAnswer({WHOLE: value})


def _by_host(series: list[Any], wanted: set[str], others: set[str], label: str) -> MetricAnswer:
    values: dict[str, float] = {}
    twice, none, nameless = [], {}, False
    for one in series:
        labels = one.get("metric") if isinstance(one, Mapping) else None
        if not isinstance(labels, Mapping):
            return MetricAnswer(error="Prometheus answers with something that is not of its API")
        if not isinstance(labels.get(label), str):
            nameless = True
            continue
        host = _host(labels[label], wanted, others)
        if host is None:
            continue
        value = _value(one)
        if host in values or host in none:
            twice.append(host)
        elif isinstance(value, str):
            none[host] = value
        else:
            values[host] = value
    for host in twice:
        values.pop(host, None)
    missing = sorted(wanted - values.keys())
    if nameless:
        return MetricAnswer(values, f"there is a value without the label {label}, so nobody knows of which host it is")
    if missing:
        why = [f"{host} is {none[host]}" for host in missing if host in none] + [f"{host} has several" for host in missing if host in twice]
        return MetricAnswer(values, f"no value of {len(missing)} of {len(wanted)} hosts ({why[0] if why else listed(missing)})")
    return MetricAnswer(values)


def _host(name: str, wanted: set[str], others: set[str]) -> str | None:
    """The host that a label names: by its very name, or by that and a port."""
    bare, _colon, _port = name.rpartition(":")
    for one in (name, bare) if _PORT.fullmatch(name[len(bare) :]) else (name,):
        if one in wanted or one in others:
            return one
    return None


def _value(one: object) -> float | str:
    """The number of a sample; in words where it is none."""
    sample = one.get("value") if isinstance(one, Mapping) else None
    if not isinstance(sample, list) or len(sample) != 2 or not isinstance(sample[1], str):
        return "no number"
    text = sample[1]
    number = float(text) if _NUMBER.fullmatch(text) else None
    return number if number is not None and isfinite(number) else f"{text!a:.20}"
