"""What has to be true of each host once the release is live."""

from testinfra.host import Host


def test_the_release_answers(host: Host) -> None:
    address = host.ansible.get_variables()["ansible_host"]
    assert host.check_output("curl -s http://%s:8080/health", address) == "hello 1.0"


def test_it_is_what_the_link_says(host: Host) -> None:
    assert host.file("/opt/tidegate/hello/current").linked_to.startswith("/opt/tidegate/hello/releases/1.0-")
