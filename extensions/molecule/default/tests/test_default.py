"""What has to be true of each host once the release is live. What your service does comes here too; its health checks have been asked."""

import os
from pathlib import Path

import yaml
from testinfra.host import Host

RELEASE = yaml.safe_load(Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "rfc.yml").read_text())["release"]


def test_the_release_is_what_the_link_says(host: Host) -> None:
    home = f"/opt/tidegate/{RELEASE['name']}"
    assert host.file(f"{home}/current").linked_to.startswith(f"{home}/releases/{RELEASE['version']}-")
