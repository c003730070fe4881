# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory makes of expressions is what Ansible makes of them, whatever they and the CIs look like."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, is_trusted_as_template, trust_as_template
from ansible_collections.tidegate.release.plugins.inventory.cmdb import InventoryModule
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.expressions import CompilingTemplar
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from hypothesis import example, given
from hypothesis import strategies as st

LOADER = DataLoader()
NAMES = ("os", "tier", "duties", "nested", "odd")
TEXTS = ("", "a", "b", "a-b", "A b", "{{ lookup('pipe', 'id') }}", "#jinja2: x", "{", "é", "x1")
SCALARS = st.sampled_from((*TEXTS, 0, 1, True, False, None, 1.5))
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.lists(st.sampled_from(TEXTS), max_size=3),
    st.dictionaries(st.sampled_from(("key", "items", "a", "")), st.one_of(SCALARS, st.just({"deep": "d"})), max_size=3),
)
PATHS = st.sampled_from(
    (
        *NAMES,
        *("tidegate_ci.site", "tidegate_ci['class']", "tidegate_ci.attributes.serial", "nested.key", "nested['key']", "nested.items"),
        *("nested.key.deep", "missing", "missing.deep", "inventory_hostname", "group_names", "range", "made", "os.upper", "duties[0]"),
        *("'a'", "1", "true", "none", "omit", "'{{ 1 }}'", "tidegate_ci.attributes"),
    )
)
SHAPES = st.sampled_from(
    (
        *(
            "{0}",
            " {0} ",
            "{0} | default('d')",
            "{0} | default({1})",
            "{0} | d({1}, true)",
            "{0} | default",
            "{0} | default(default_value=1)",
        ),
        *("{0} == 'a'", "{0} != {1}", "{0} < 1", "1 < {0} <= 2", "{0} ~ '-' ~ {1}", "{0} in {1}", "'a' not in {0}", "{0} in ['a', 'b']"),
        *("{0} is defined", "{0} is not defined", "{0} is undefined", "{0} is string", "not {0}", "{0} and {1}", "{0} or {1}"),
        *(
            "{0} if {1} else 'z'",
            "{0} if {1}",
            "{0} | upper",
            "{0} + {1}",
            "[{0}, {1}]",
            "{{'k': {0}}}",
            "{0}.x | default('d')",
            "'\\d' ~ {0}",
        ),
        *(
            "'\\d' ~ {0}",
            "{0} | string | length > 1",
            "{{{{ {0} }}}}",
            "{0} {1}",
            "{0} is defined and {0} == 'a'",
            "range(2) | list",
            "",
            "(",
        ),
    )
)
EXPRESSIONS = st.builds(lambda shape, one, other: shape.format(one, other), SHAPES, PATHS, PATHS)
KEYED = st.fixed_dictionaries(
    {"key": EXPRESSIONS},
    optional={
        "prefix": st.sampled_from(("", "p")),
        "separator": st.sampled_from(("", "-", "_")),
        "parent_group": st.sampled_from(("parent", "{{ 'made' }}", "{{ tidegate_ci.site }}", "{{ omit }}", "p_a")),
        "default_value": st.sampled_from(("none", "")),
        "trailing_separator": st.booleans(),
    },
)
CONFIGS = st.fixed_dictionaries(
    {
        "strict": st.booleans(),
        "leading_separator": st.booleans(),
        "use_extra_vars": st.booleans(),
        "compose": st.dictionaries(st.sampled_from(("made", "os", "c2")), EXPRESSIONS, max_size=2),
        "groups": st.dictionaries(st.sampled_from(("g1", "g-2")), EXPRESSIONS, max_size=2),
        "keyed_groups": st.lists(KEYED, max_size=3),
    }
)
ATTRIBUTES = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)
EXTRA = {"tier": trust_as_template("{{ 'extra' }}"), "odd": "extra"}


PLAIN: dict[str, Any] = {
    "strict": True,
    "leading_separator": True,
    "use_extra_vars": False,
    "compose": {},
    "groups": {},
    "keyed_groups": [],
}


def _trusted(config: Any) -> Any:
    """As a file that Ansible has read."""
    if isinstance(config, dict):
        return {key: _trusted(value) for key, value in config.items()}
    if isinstance(config, list):
        return [_trusted(value) for value in config]
    return trust_as_template(config) if isinstance(config, str) else config


def _cis(attributes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    words = {"class": "server", "environment": None, "installations": {"hello": {"version": "1", "digest": "d"}}, "written_off": None}
    return [
        {"name": f"h{n}", "site": TEXTS[n + 1], "attributes": {"serial": f"S{n}", **given}, **words} for n, given in enumerate(attributes)
    ]


def _plugin(config: dict[str, Any], templar: Templar) -> Any:
    plugin: Any = InventoryModule()
    plugin.get_option = {"connection_variables": [], **_trusted(config)}.get
    plugin.inventory, plugin.templar, plugin._vars = InventoryData(), templar, EXTRA
    return plugin


def _state(inventory: InventoryData) -> Any:
    groups = {
        name: (
            sorted(host.name for host in group.hosts),
            sorted(child.name for child in group.child_groups),
            sorted(parent.name for parent in group.parent_groups),
        )
        for name, group in inventory.groups.items()
    }
    return groups, {name: host.get_vars() for name, host in inventory.hosts.items()}


def _ours(config: dict[str, Any], cis: list[dict[str, Any]]) -> tuple[Any, str]:
    plugin = _plugin(config, CompilingTemplar(LOADER))
    said = ""
    try:
        plugin._add(copy.deepcopy(cis))
    except TidegateError as error:
        said = str(error).partition("; so it is for ")[0]
    except Exception as error:
        return type(error), str(error)
    return _state(plugin.inventory), said


def _ansible(config: dict[str, Any], cis: list[dict[str, Any]]) -> tuple[Any, str]:
    """By Constructable alone, as its own documentation has it."""
    plugin = _plugin(config, Templar(LOADER))
    faults = []
    strict = config["strict"]
    try:
        for ci in copy.deepcopy(cis):
            name, attributes = ci["name"], ci.pop("attributes")
            serial = {"serial": attributes.pop("serial")}
            variables = {**attributes, "tidegate_ci": ci | {"attributes": serial}}
            plugin.inventory.add_host(name)
            for key, value in variables.items():
                plugin.inventory.set_variable(name, key, value)
            try:
                plugin._set_composite_vars(plugin.get_option("compose"), variables | {"inventory_hostname": name}, name, strict)
                plugin._add_host_to_composed_groups(plugin.get_option("groups"), {}, name, strict)
                plugin._add_host_to_keyed_groups(plugin.get_option("keyed_groups"), {}, name, strict)
            except AnsibleError as error:
                faults.append(str(error))
    except Exception as error:
        return type(error), str(error)
    return _state(plugin.inventory), faults[0] if faults else ""


def _all_text(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in _all_text(part)]
    if isinstance(value, list | tuple):
        return [text for part in value for text in _all_text(part)]
    return [value] if isinstance(value, str) else []


@given(CONFIGS, st.lists(ATTRIBUTES, min_size=1, max_size=3))
@example({**PLAIN, "compose": {"os": "tier"}, "groups": {"g1": "os == 'b'"}, "keyed_groups": [{"key": "os"}]}, [{"os": "a", "tier": "b"}])
@example({**PLAIN, "compose": {"made": "nested.items"}}, [{"nested": {"items": "a"}}])
@example({**PLAIN, "groups": {"g1": "'a' == 'a'"}, "keyed_groups": [{"key": "group_names"}]}, [{}])
@example({**PLAIN, "keyed_groups": [{"key": "odd"}]}, [{"odd": 1}])
@example({**PLAIN, "keyed_groups": [{"key": "inventory_hostname"}]}, [{}])
def test_hosts_groups_and_variables_are_those_that_ansible_makes(config: dict[str, Any], attributes: list[dict[str, Any]]) -> None:
    cis = _cis(attributes)
    (state, said) = _ours(config, cis)
    if "would be a host and a group" in said:  # which Ansible only warns of
        said = ""
    assert (state, said) == _ansible(config, cis)
    if isinstance(state, tuple):
        assert not any(map(is_trusted_as_template, _all_text(state[1])))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("x", "a"),
        ("y.z", "deep"),
        ("x | default('none')", "a"),
        ("gone | default('none')", "none"),
        ("y.gone | default('none')", "none"),
        ("x ~ '.' ~ y.z", "a.deep"),
        ("x == 'a' and 'b' in z", True),
    ],
)
def test_a_plain_expression_needs_no_engine(monkeypatch: pytest.MonkeyPatch, expression: str, value: object) -> None:
    templar = CompilingTemplar(LOADER, {"x": "a", "y": {"z": "deep"}, "z": ["b"]})
    monkeypatch.setattr(Templar, "evaluate_expression", None)
    assert templar.evaluate_expression(trust_as_template(expression)) == value


def test_another_expression_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ansible-core goes about it in this version: otherwise it is right and slow, and nobody would be told."""
    templar = CompilingTemplar(LOADER)
    environment = templar._engine.environment
    compiled = []
    compile_expression = environment.compile_expression
    monkeypatch.setattr(environment, "compile_expression", lambda text, *more: (compiled.append(text), compile_expression(text, *more))[1])
    for number in range(20):
        templar.available_variables = {"x": f"a{number}"}
        assert templar.evaluate_expression(trust_as_template("x | upper")) == f"A{number}"
        assert templar.evaluate_conditional(trust_as_template("x | upper != ''"))
    assert compiled == ["x | upper", "x | upper != ''"]


@pytest.mark.parametrize("expression", ["x", "x ~ 'b'"])
def test_an_expression_that_nobody_vouches_for_is_refused(expression: str) -> None:
    with pytest.raises(AnsibleError):
        CompilingTemplar(LOADER, {"x": "a"}).evaluate_expression(expression)
