# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package's documents as a host reads them: believed because of the digest, and still not trusted with where they write."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Any, NamedTuple

from .payload_format import DEEPEST, LONGEST, TARGET, WHITEOUT, is_mode, is_tar_of, unseen
from .release_record import DIGEST, INDEX, HostError, Texts, is_config, is_index, strict_json

_PAYLOAD = "application/vnd.oci.image.layer.v1.tar"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NOT_FOR_HOSTS = (
    "application/vnd.tidegate.release.documentation.v1",
    "application/vnd.tidegate.release.ansible.v1+tar",
    "application/vnd.tidegate.release.ansible.index.v1+json",
)


class Payload(NamedTuple):
    """The blob that the contents are in, for those who fetch it themselves; ``size`` in bytes."""

    digest: str
    size: int


class Documents(NamedTuple):
    """What a package's documents say: its config, the entries of its file index, and which blob its payload is."""

    config: dict[str, Any]
    files: list[dict[str, Any]]
    payload: Payload
    texts: Texts


def read_package(digest: str, manifest: bytes, config: bytes, index: bytes) -> Documents:
    """Check the package's documents against ``digest`` and read them; raises :class:`HostError`."""
    texts = Texts(manifest, config, index)
    if texts.digest != digest:
        raise HostError(f"the package manifest is not {digest}; archive and deploy again")
    document = texts.check()
    try:
        for text in texts:
            text.decode()  # other encodings that JSON has once had are kept by nobody
        payloads = [Payload(layer["digest"], layer["size"]) for layer in document["layers"] if layer["mediaType"] == _PAYLOAD]
        # Any other layer would be laid over the payload by whoever unpacks it as an image, a scanner for one.
        others = [layer for layer in document["layers"] if layer["mediaType"] not in (_PAYLOAD, INDEX, *_NOT_FOR_HOSTS)]
        if len(payloads) != 1 or others or not DIGEST.fullmatch(payloads[0].digest) or not _is_count(payloads[0].size):
            raise HostError(f"the package {digest} does not have one payload and what stays in the library alone; archive it again")
        read = _read_config(digest, config), _read_index(digest, index)
        if not is_tar_of(read[1], payloads[0].size):
            raise HostError(f"the payload and the file index of the package {digest} are not one tree; archive it again")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HostError(f"the documents of package {digest} are malformed; archive it again") from error
    return Documents(*read, payloads[0], texts)


def _read_config(digest: str, text: bytes) -> dict[str, Any]:
    """The config, with all that a switch relies on: it would be too late to miss something between stop and start."""
    config: dict[str, Any] = strict_json(text)
    whole = isinstance(config["name"], str) and isinstance(config["version"], str) and config["health"]
    for hook in config.get("hooks", {}).values():
        whole = whole and hook["command"] and hook["timeout"] > 0
    for check in config["health"]:
        whole = whole and check["name"] and check["timeout"] > 0 and {"http", "tcp", "command"} & check.keys()
    logs = config.get("logs", [])
    whole = whole and isinstance(logs, list) and all(isinstance(log, str) or isinstance(log["unit"], str) for log in logs)
    if not whole or not is_config(config):
        raise HostError(f"the package {digest} has an incomplete config; archive it again")
    return config


def _read_index(digest: str, text: bytes) -> list[dict[str, Any]]:
    """The entries by path, so that a directory comes before what is in it; all of them stay inside the tree."""
    listed = strict_json(text)["files"]
    if not is_index(listed):
        raise HostError(f"the package {digest} has a malformed file index; archive it again")
    files: list[dict[str, Any]] = sorted(listed, key=lambda entry: str(entry["path"]))
    directories = {""}
    sizes: dict[str, int] = {}
    twins = set()  # in the form that what looks the same has in common
    for entry in files:
        path, kind = entry["path"], entry["type"]
        parent, _slash, name = path.rpartition("/")
        # A path whose parent is not a directory of this very package could lead out of the tree by way of a link.
        if path.startswith("/") or name in ("", ".", "..") or parent not in directories:
            raise HostError(f"the package {digest} has a file with the path {path!r}; archive it again")
        twin = path if path.isascii() else unicodedata.normalize("NFC", path)
        good = unseen(path) is None and twin not in twins and path.count("/") < DEEPEST and len(path.encode()) <= LONGEST
        good = good and not name.startswith(WHITEOUT)
        twins.add(twin)
        if kind == "link":
            target = os.path.normpath(os.path.join(parent, entry["target"]))
            good = good and _plain(entry["target"]) and len(entry["target"].encode()) <= TARGET
            good = good and not target.startswith("/") and target.split("/")[0] != ".."
        else:
            good = good and is_mode(kind, entry["mode"])
        if kind == "directory":
            directories.add(path)
        elif kind == "file":
            good = good and _SHA256.fullmatch(entry["sha256"]) and sizes.setdefault(entry["sha256"], entry["size"]) == entry["size"]
            chunks = entry.get("chunks")
            if chunks is not None:
                good = good and all(_SHA256.fullmatch(sha) and sizes.setdefault(sha, size) == size for size, sha in chunks)
                good = good and sum(size for size, _sha in chunks) == entry["size"]
        if not good:
            raise HostError(f"the package {digest} has a bad entry for {path!r}; archive it again")
    return files


def _plain(text: str) -> bool:
    """Whether it is a name that can be seen for what it is."""
    return bool(text.encode()) and unseen(text) is None


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0
