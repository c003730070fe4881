# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.payload import FileEntry
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.intake.sbom import Found, brought, check, find, make
from hypothesis import given, settings
from hypothesis import strategies as st

DIGEST = "sha256:" + "1" * 64


def payload(**contents: bytes | str) -> tuple[list[FileEntry], dict[str, bytes]]:
    blobs = {path: text.encode() if isinstance(text, str) else text for path, text in contents.items()}
    entries = [FileEntry(path, "file", 0o644, len(blob), hashlib.sha256(blob).hexdigest()) for path, blob in sorted(blobs.items())]
    return entries, blobs


def deb(control: str, compression: str = "xz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{compression}") as archive:
        info = tarfile.TarInfo("./control")
        info.size = len(control)
        archive.addfile(info, io.BytesIO(control.encode()))
    members = [("debian-binary", b"2.0\n"), (f"control.tar.{compression}", packed.getvalue())]
    return b"!<arch>\n" + b"".join(
        f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2)
        for name, content in members
    )


TREE = {
    "bin/start": "#!/bin/sh\n",
    "lib/requests/__init__.py": "",
    "lib/requests-2.32.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: requests\nVersion: 2.32.0\nLicense: Apache-2.0\n\ntext\n",
    "lib/requests-2.32.0.dist-info/RECORD": "requests/__init__.py,sha256=x,0\n",
    "web/node_modules/@vue/core/package.json": '{"name": "@vue/core", "version": "3.4.0", "license": "MIT"}',
    "web/node_modules/@vue/core/index.js": "",
    "pkg/hello_1.0_all.deb": deb("Package: hello\nVersion: 1.0\n"),
}


def test_packages_are_found_and_what_belongs_to_them_is_not_listed_twice() -> None:
    entries, blobs = payload(**TREE)
    found = find(entries, blobs.__getitem__)
    assert {(part.kind, part.namespace, part.name, part.version, part.licence) for part in found} == {
        ("pypi", None, "requests", "2.32.0", "Apache-2.0"),
        ("npm", "@vue", "core", "3.4.0", "MIT"),
        ("deb", "debian", "hello", "1.0", None),
        ("generic", None, "bin/start", "", None),
    }


def test_what_is_made_is_valid_cyclonedx_and_the_same_each_time() -> None:
    entries, blobs = payload(**TREE)
    first = make("web", "1.0", DIGEST, entries, blobs.__getitem__)
    assert first == make("web", "1.0", DIGEST, list(reversed(entries)), blobs.__getitem__)
    document = check(first, "made")
    assert document["metadata"]["component"]["name"] == "web"
    assert {part.get("purl") for part in document["components"]} == {
        "pkg:pypi/requests@2.32.0",
        "pkg:npm/%40vue/core@3.4.0",
        "pkg:deb/debian/hello@1.0",
        None,
    }
    assert make("web", "1.0", "sha256:" + "2" * 64, entries, blobs.__getitem__) != first


@pytest.mark.parametrize(("path", "taken"), [("bom.json", True), ("sbom/web.cdx.json", True), ("a/b/bom.json", False), ("bom.xml", False)])
def test_the_sbom_that_a_payload_brings_is_found_on_top(path: str, taken: bool) -> None:
    assert brought(payload(**{path: "{}", "other": ""})[0]) == (path if taken else None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b'{"specVersion": "9"}',
        b'{"specVersion": "1.6"}',
        b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": "x"}',
    ],
)
def test_what_is_no_sbom_is_refused_in_a_sentence(content: bytes) -> None:
    with pytest.raises(TidegateError, match=r"bom\.json .*correct it"):
        check(content, "bom.json")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a-1.dist-info/METADATA", b"\xff\xfe"),
        ("node_modules/a/package.json", b"[" * 100_000),
        ("node_modules/a/package.json", b'{"name": 1}'),
        ("a.deb", b"!<arch>\n" + b"x" * 60),
        ("a.deb", deb("Package: hello\n")),
        ("a.deb", b"!<arch>\n" + f"{'control.tar.xz':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{4:<10}`\n".encode() + b"oops"),
    ],
)
def test_what_only_looks_like_a_package_is_a_plain_file(path: str, content: bytes) -> None:
    entries, blobs = payload(**{path: content})
    sha = hashlib.sha256(content).hexdigest()
    assert find(entries, blobs.__getitem__) == [Found("generic", path, "", path=path, sha256=sha)]


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["a-1.dist-info/METADATA", "node_modules/a/package.json", "a.deb"]), st.binary(max_size=200))
def test_no_content_breaks_it(path: str, content: bytes) -> None:
    entries, blobs = payload(**{path: content})
    assert json.loads(make("web", "1", DIGEST, entries, blobs.__getitem__))["bomFormat"] == "CycloneDX"
