# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CMDB as the inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cmdb
short_description: Make the CMDB the inventory
version_added: 0.1.0
description:
  - Every CI of the CMDB that is a host, or those of them that O(query) picks, becomes a host in the group V(all). Its attributes become
    host variables.
  - Hosts are the CIs with the status V(installed) or V(maintenance), of the classes that C(host_classes) of the policy names. Where it
    names none, they are those of classes that are hosts in the model of CIs, see M(tidegate.release.cmdb_model), and of none and of
    classes that it does not have.
  - The host variable C(tidegate_ci) holds the CI itself, C(name), C(class), C(site), C(environment), C(status), C(owned_by),
    C(support_group), C(location), C(time_zone), C(revision) and C(installations), the latter by release, each with C(version) and
    C(digest).
  - Of attributes that begin with C(ansible_), only V(ansible_host), V(ansible_port), V(ansible_user) and those in O(connection_variables)
    become host variables, for what else such a variable says can have anything run on this machine. The others are in
    C(tidegate_ci.attributes).
  - An attribute whose name Ansible has for itself, such as C(name), C(tags), C(serial) or C(lookup), becomes no host variable. It is in
    C(tidegate_ci.attributes) instead. Which names these are depends on the version of ansible-core.
  - Attributes come from outside and are never templated, whatever they look like.
  - It is all or nothing. Where ansible-core would only warn about an inventory that can't be read and go on without its hosts, this
    plugin ends the run, whatever E(ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED) says.
  - The file is called C(cmdb), or its name ends in C(cmdb.yml), C(cmdb.yaml), C(tidegate.yml) or C(tidegate.yaml).
  - A variable that stands in for an option has to be an extra variable. ansible-core has no others when it reads an inventory.
  - With O(cache) what O(query) picked is kept until the CMDB changes, so a cached inventory is never an outdated one.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
requirements:
  - SQLAlchemy >= 2
  - jmespath >= 1
  - jsonschema >= 4.20
  - psycopg >= 3 for a CMDB in PostgreSQL
options:
  plugin:
    description: Marks the file as one for this plugin.
    type: str
    required: true
    choices: [tidegate.release.cmdb]
  cmdb:
    description:
      - The CMDB, the path of an SQLite file or an SQLAlchemy database URL such as V(postgresql+psycopg://cmdb@db/cmdb).
      - A relative path in the inventory file starts at that file.
    type: str
    vars:
      - name: tidegate_cmdb
    env:
      - name: TIDEGATE_CMDB
  query:
    description:
      - JMESPath expression over the list of all CIs that gives CIs or their names.
      - The CIs look like C(tidegate_ci), with all their attributes in C(attributes). Those that are no hosts are left out afterwards.
    type: str
  at:
    description:
      - The moment of the past of which the hosts are asked for, RFC 3339 with an offset, such as V(2027-05-03T12:00:00Z).
      - That is an inventory to look at, as what releases were where. A deployment goes by what the CMDB has now.
    type: str
    vars:
      - name: tidegate_cmdb_at
  policy:
    description:
      - The file of the release policy, for its C(host_classes).
      - A relative path in the inventory file starts at that file. Without any, the policy that comes with the collection applies.
    type: str
    vars:
      - name: tidegate_policy
    env:
      - name: TIDEGATE_POLICY
  connection_variables:
    description:
      - Names of attributes that become host variables although they say how Ansible connects, such as V(ansible_python_interpreter).
        Whoever may write a CI then decides that.
    type: list
    elements: str
    default: []
  strict:
    description:
      - Fail when an expression of O(compose), O(groups) or O(keyed_groups) can't be evaluated for a host, or a key is empty and
        has no C(default_value).
      - With V(false) such a host quietly lacks the variable or the group.
    type: bool
    default: true
seealso:
  - module: tidegate.release.cmdb_ci
  - module: tidegate.release.cmdb_ci_info
"""

EXAMPLES = r"""
# Everything, in groups by site and class
plugin: tidegate.release.cmdb
cmdb: ../../cmdb.sqlite
keyed_groups:
  - key: tidegate_ci.site
    prefix: site
    default_value: unknown
groups:
  web: tidegate_ci.class == 'web'

---
# The hosts as they were, to look at
plugin: tidegate.release.cmdb
cmdb: ../../cmdb.sqlite
at: "2027-05-03T12:00:00Z"

---
# Only what runs pypiserver 2.3.2 in production
plugin: tidegate.release.cmdb
query: "[?environment=='production' && installations.pypiserver.version=='2.3.2']"
"""

import json
import traceback
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError, AnsibleParserError, ExitCode
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.vars import validate_variable_name
from ansible.vars.reserved import is_reserved_name
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.expressions import CompilingTemplar
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.options import VariableOptions
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.hosts import described, is_host, says_how_to_connect
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.model import CiModel
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.past import past_of, time_option
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.query import pick_rows
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.upgrade import HEAD
from ansible_collections.tidegate.release.plugins.plugin_utils.collector import uncollected
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.libs import require
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.load import load_host_classes
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import library_needs, optional_setting, required_setting

# Taken by Ansible for loops, and by our audit and verify for what a host answered, but on no list.
_TAKEN = frozenset({"item", "audit_facts", "verify_facts"})
_NAMED = 5  # CIs that a message names
# Values that many CIs have are marked by Ansible, and in memory, once.
_SHARED = frozenset({str, int, bool})
_SHARED_AT_MOST = 10_000


def _can_be_variable(name: str, listed: Collection[str]) -> bool:
    """Whether an attribute can be a host variable: it hides nothing of Ansible's, in the version that runs, and says nothing of how Ansible
    connects that is not ``listed``."""
    if says_how_to_connect(name) and name not in listed:
        return False
    if name in _TAKEN or name in constants.INTERNAL_STATIC_VARS or is_reserved_name(name):
        return False
    try:
        validate_variable_name(name)
    except AnsibleError:
        return False
    return True


def _beside(path: str, other: str) -> str:
    """``other`` as it is named in the file ``path``: a relative one starts there."""
    return str(Path(path).absolute().parent / other)


class InventoryModule(VariableOptions, BaseInventoryPlugin, Constructable, Cacheable):
    """Read every CI in one snapshot, then add those that are hosts."""

    NAME = "tidegate.release.cmdb"

    def verify_file(self, path: str) -> bool:
        return path.endswith(("/cmdb", "cmdb.yml", "cmdb.yaml", "tidegate.yml", "tidegate.yaml")) and bool(super().verify_file(path))

    def parse(self, inventory: InventoryData, loader: DataLoader, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        config = loader.load_from_file(path, cache="none")
        if not isinstance(config, dict) or config.get("plugin") != self.NAME:
            raise AnsibleParserError(f"{path} is not an inventory file of {self.NAME}")
        try:
            self.templar.available_variables = self._vars
            self._read_config_data(path)
            if unknown := sorted(config.keys() - self.option_definitions.keys()):
                raise TidegateError(f"{', '.join(unknown)} is not an option of {self.NAME}; see ansible-doc -t inventory {self.NAME}")
            with uncollected():
                require("base", *library_needs({"cmdb": self.get_option("cmdb")}))
                self.templar = CompilingTemplar(loader)
                classes = self._host_classes(path, given=bool(config.get("policy")))
                cis, model = self._cis(path, given=bool(config.get("cmdb")), cached=cache)
                hosts = [ci for ci in cis if is_host(ci, classes, model)]
                del cis
                self._add(hosts)
        except Exception as error:
            # Any other exception is a warning to ansible-core, which goes on with the hosts of other sources, or with some of ours.
            self.display.vvv(traceback.format_exc())
            self.display.error(f"The CMDB can't be the inventory, {path}: {error}", wrap_text=False)
            raise SystemExit(ExitCode.PARSER_ERROR) from error

    def _host_classes(self, path: str, given: bool) -> tuple[str, ...]:
        """The classes of hosts that the policy names; ``given``: the inventory file names the policy."""
        policy = optional_setting({"policy": self.get_option("policy")}, "policy")
        if policy is None:
            return ()
        return load_host_classes(_beside(path, policy) if given else policy)

    def _cis(self, path: str, given: bool, cached: bool) -> tuple[list[dict[str, Any]], CiModel]:
        """The picked CIs, and the model that says which of them are hosts.

        ``given``: the inventory file names the CMDB, ``cached``: Ansible allows to read the cache.
        """
        query = self.get_option("query")
        url = required_setting({"cmdb": self.get_option("cmdb")}, "cmdb")
        if given and "://" not in url:
            url = _beside(path, url)
        at = time_option({"at": self.get_option("at")}, "at")
        with Cmdb.open(url) as cmdb, cmdb.read() as connection:
            model = cmdb.model(connection)
            if at is not None:
                return pick_rows(query, past_of(connection, at, utc_now()).query_rows()), model
            if not self.get_option("cache"):
                return cmdb.query(query, connection), model
            # Both are JSON in a string: a cache plugin's own way of writing may give a hostile attribute a meaning when it reads it back.
            state = json.dumps([cmdb.label, query, cmdb.marker(connection), HEAD])  # an upgrade changes what CIs look like
            key = self.get_cache_key(path)
            kept = self.cache.get(key) if cached else None
            if kept is None or kept["state"] != state:
                kept = {"state": state, "cis": json.dumps(cmdb.query(query, connection))}
                self.cache[key] = kept
            cis: list[dict[str, Any]] = json.loads(kept["cis"])
            return cis, model

    def _add(self, cis: list[dict[str, Any]]) -> None:
        """Add the CIs as hosts, and take them out of the list: both at once would be half as much memory again."""
        inventory: Any = self.inventory
        strict, compose = self.get_option("strict"), self.get_option("compose")
        groups, keyed = self.get_option("groups"), self.get_option("keyed_groups")
        listed = frozenset(self.get_option("connection_variables"))
        fetch = "group_names" in repr([groups, keyed])  # which change from one group to the next
        usable: dict[str, bool] = {}
        faults: dict[str, str] = {}
        shared: dict[tuple[type, Any], Any] = {}
        cis.reverse()
        try:
            while cis:
                ci = cis.pop()
                name = ci["name"]
                for attribute in ci["attributes"].keys() - usable.keys():
                    usable[attribute] = _can_be_variable(attribute, listed)
                variables = {key: value for key, value in ci["attributes"].items() if usable[key]}
                # The others only: every attribute twice would be a third more memory, and half as much again of time to list them.
                variables["tidegate_ci"] = ci | {"attributes": {k: v for k, v in ci["attributes"].items() if not usable[k]}}
                known = name in inventory.hosts
                inventory.add_host(name)
                host = inventory.hosts[name]
                for key, value in variables.items():
                    like = (type(value), value) if type(value) in _SHARED else None
                    if like in shared and key not in host.vars:
                        host.vars[key] = shared[like]
                        continue
                    inventory.set_variable(name, key, value)
                    if like and len(shared) < _SHARED_AT_MOST:
                        shared[like] = host.vars[key]
                if compose or groups or keyed:
                    try:
                        self._set_composite_vars(compose, variables | {"inventory_hostname": name}, name, strict)
                        # As they are in the CMDB, and not as Ansible has marked them, where nobody else has set them.
                        plain = {} if known else {key: value for key, value in variables.items() if key not in (compose or ())}
                        variables = host.get_vars() | plain
                        self._add_host_to_composed_groups(groups, variables, name, strict, fetch_hostvars=fetch)
                        self._add_host_to_keyed_groups(keyed, variables, name, strict, fetch_hostvars=fetch)
                    except AnsibleError as error:
                        faults[described(ci)] = str(error)
        finally:
            if both := sorted(inventory.groups.keys() & inventory.hosts.keys()):
                raise TidegateError(
                    f"{', '.join(both)} would be a host and a group, so that one host's name would select many; "
                    "give the group another prefix"
                )
        if faults:
            names, more = list(faults)[:_NAMED], len(faults) - _NAMED
            raise TidegateError(
                f"{faults[names[0]]}; so it is for {', '.join(names)}{f' and {more} more' if more > 0 else ''}. Give these CIs what "
                "the expression needs; if they are no hosts, name the classes of hosts in host_classes of the policy"
            )
