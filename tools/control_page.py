"""Writes docs/controls.md: a line for each control, from what its ControlSpec says. A test sees that it is current."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.control_spec import ControlSpec
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.evaluate import CONTROLS
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.findings import Result

PAGE = Path(__file__).parents[1] / "docs/controls.md"
FILES = "plugins/plugin_utils/clearance/controls"
_HEAD = f"""# Controls

A clearance says of each of these controls, in this order, one of {", ".join(f"`{result}`" for result in Result)}.
`fail` and `inconclusive` stand in the way of the RFC. A control is `inconclusive` when what it looks at can't be read, and
`not_applicable` where the policy or the release does not ask for it.

Controls with a yes under "at gates" are asked again before each wave, as what they look at can change meanwhile: the time, what people
signed, what the next hosts would meet, whether the release was retired. A control that can be waived and is `fail` becomes `waived` for
one RFC when the people whom `waivers` in the policy names for it sign that, with `tidegate.release.waive`. One that is `inconclusive` is
never waived.

Controls that a [policy](schemas/policy.md) adds under `controls` come after these. They can be waived, and those that speak of `now` or
`evidence` are asked at gates.

This page is made from the controls by `tools/control_page.py`.

| control | finds out | at gates | can be waived | file |
| --- | --- | --- | --- | --- |
"""


def page() -> str:
    """The page, as Markdown."""
    return _HEAD + "".join(f"| {' | '.join(_cells(spec))} |\n" for spec in CONTROLS.values())


def _cells(spec: ControlSpec) -> tuple[str, ...]:
    file = f"{spec.check.__module__.rpartition('.')[2]}.py"
    gates = "yes" if spec.asked_at_gates else "no"
    return f"`{spec.name}`", spec.description, gates, spec.waivable.value, f"[{file}](../{FILES}/{file})"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
