# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of CIs that applies: the shipped one and, on top of it, what the team has set, which the CMDB itself keeps.

It is there, and not in a file that each writer names, so that all who write obey the same one.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from ..documents import load_document
from ..errors import TidegateError
from .chain import append_history
from .ci_changes import shown
from .hosts import says_how_to_connect
from .model import MODULE, CiModel, build_model, class_key
from .schema import schema

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

SHIPPED = Path(__file__).parent / "model.yml"
_EVENT = "model set"
_REACHING = "{} of CIs says how Ansible connects; it becomes a host variable only where the inventory file lists it in connection_variables"
_ONLY = 1  # the id of the row


def load_team_model(path: str | Path) -> dict[str, Any]:
    """What a team's file has besides ``schema``. Raises :class:`DocumentError` with everything that is wrong with it."""
    document = load_document(path, "model")
    shipped = {class_key(name) for name in shipped_document()["classes"]}
    classes = document.data.get("classes")
    for name, given in classes.items() if isinstance(classes, dict) else ():
        if isinstance(given, dict) and "host" not in given and class_key(name) not in shipped:
            document.problem(("classes", name), f"it does not say whether a {name} is a host", "add host: true or host: false")
    document.finish()
    known = build_model(shipped_document(), document.data).classes
    for name, given in document.data.get("relations", {}).items():
        for end in ("from", "to"):
            for index, one in enumerate(given.get(end, ())):
                if class_key(one) not in known:
                    document.problem(("relations", name, end, index), f"there is no class {one}", "correct it, or add it to classes")
    document.finish()
    return {key: value for key, value in document.data.items() if key not in ("$schema", "schema")}


@functools.cache
def shipped_document() -> dict[str, Any]:
    """The model that comes with the collection."""
    loaded: dict[str, Any] = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    return loaded


@functools.cache
def shipped_model() -> CiModel:
    """The model where no team has set one."""
    return build_model(shipped_document())


def own_document(connection: sa.Connection) -> dict[str, Any]:
    """What the team has set; empty where it has set nothing."""
    found: dict[str, Any] | None = connection.scalar(sa.select(schema().ci_model.c.document))
    return found or {}


def model_in(connection: sa.Connection) -> CiModel:
    """The model that applies to this CMDB. Raises :class:`TidegateError` when what is there can't be one."""
    own = own_document(connection)
    if not own:
        return shipped_model()
    try:
        return build_model(shipped_document(), own)
    except (AttributeError, TypeError, ValueError) as error:
        raise TidegateError(f"the model of CIs that the CMDB has can't be understood; set it again with {MODULE}") from error


def set_model(connection: sa.Connection, document: Mapping[str, Any], actor: str, now: datetime, note: Mapping[str, str]) -> None:
    """Have the team's model be ``document`` from now on, in the caller's transaction; the history has what it was before."""
    table, before = schema().ci_model, own_document(connection)
    connection.execute(sa.delete(table))
    connection.execute(sa.insert(table), {"id": _ONLY, "document": dict(document), "actor": actor, "at": now})
    data = {"before": before, "after": dict(document), **note}
    append_history(connection, [{"at": now, "actor": actor, "event": _EVENT, "data": data}])


def unknown_in(connection: sa.Connection, model: CiModel) -> list[str]:
    """The classes and kinds of relations that the CMDB has and ``model`` does not, each with how many have it."""
    ci, relation = schema().ci.c, schema().relation.c
    classes = sa.select(ci.class_, sa.func.count()).where(ci.class_.is_not(None)).group_by(ci.class_).order_by(ci.class_)
    kinds = sa.select(relation.kind, sa.func.count()).group_by(relation.kind).order_by(relation.kind)
    return [
        *(f"class {shown(name)} of {_counted(count, 'CI')}" for name, count in connection.execute(classes) if model.of(name) is None),
        *(f"kind {shown(name)} of {_counted(count, 'relation')}" for name, count in connection.execute(kinds) if name not in model.kinds),
    ]


def not_in_model(unknown: Sequence[str]) -> str:
    """What :func:`unknown_in` found, as a sentence."""
    return (
        f"the model of CIs does not have {', '.join(unknown)}; all of it stays as it is, but no other CI or relation can get it: "
        f"add it with {MODULE}, or correct the CIs"
    )


def notes_on_upgrade(connection: sa.Connection, model: CiModel) -> list[str]:
    """What of a CMDB means something else than before there was a model, a sentence each."""
    ci = schema().ci.c
    unknown = unknown_in(connection, model)
    text = sa.cast(ci.attributes, sa.Text)
    rows = connection.scalars(sa.select(ci.attributes).where(text.contains('"ansible_', autoescape=True)))
    reaching = sorted({name for attributes in rows for name in attributes if says_how_to_connect(name)})
    return [
        *([not_in_model(unknown)] if unknown else []),
        *([_REACHING.format(", ".join(reaching))] if reaching else []),
    ]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
