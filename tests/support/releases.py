# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases to archive, and ways to harm what was archived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import Descriptor
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from documents import EXAMPLES, simple_manifest, write_document

HELLO = EXAMPLES / "hello"


def write_release(folder: Path, files: Mapping[str, bytes] | None = None, **changes: object) -> Path:
    """A release's directory with these files as its payload; ``changes`` replace keys of its manifest."""
    (folder / "payload").mkdir(parents=True)
    write_document(folder / "release.yml", simple_manifest(**changes))
    (folder / "README.md").write_text("# Hello\n")
    for name, content in ({"bin/hello": b"#!/bin/sh\necho hello\n", "lib/data": b"data"} if files is None else files).items():
        path = folder / "payload" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if name.startswith("bin/") else 0o644)
    return folder


def write_role_release(folder: Path, role: str = "ansible/app", **changes: object) -> Path:
    """Give the release in ``folder`` a role; ``changes`` replace keys of its manifest, and ``None`` takes one out."""
    tasks = {f"tasks/{step}.yml": "- ansible.builtin.debug:\n" for step in ("activate", "check", "back_out")}
    for name, content in {**tasks, "files/run.sh": "#!/bin/sh\n"}.items():
        path = folder / role / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755 if name.endswith(".sh") else 0o644)
    (folder / role / "link").symlink_to("files/run.sh")
    own = {"role": role, "steps": ["check", "activate"], "on_first": "back_out", "atomic": False}
    data = {**yaml.safe_load((folder / "release.yml").read_text()), "ansible": own, **changes}
    write_document(folder / "release.yml", {key: value for key, value in data.items() if value is not None})
    return folder


def spoil(home: OciLayout, digest: str, content: bytes | None = None) -> Path:
    """Change a blob on disk behind the library's back: another content of the same length unless one is given."""
    path = home.path / "blobs" / "sha256" / digest.removeprefix("sha256:")
    old = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(bytes(255 - byte for byte in old) if content is None else content)
    return path


def replace_list(home: OciLayout, subject: str, entries: Iterable[Descriptor]) -> None:
    """List these for ``subject`` and nothing else, as somebody may who can write there."""
    with home._locked():
        home._enter({}, {subject: list(entries)})
