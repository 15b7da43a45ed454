"""What a URL may say."""

from __future__ import annotations

import subprocess
import sys

import pytest

from drumbeat import ConfigurationError
from drumbeat.hookspecs import BackendURL
from drumbeat_zookeeper._target import OPTIONS, Target


def target(url: str) -> Target:
    """Read a URL."""
    return Target.from_url(BackendURL.parse(url))


def test_hosts_and_path() -> None:
    """Several hosts each have their port or 2181; the path is the chroot; without a host it is this one."""
    read = target("zookeeper://one:1,two,[::1]:3/app/part/")
    assert read.hosts == (("one", 1), ("two", 2181), ("::1", 3))
    assert read.chroot == "/app/part"
    assert target("zookeeper://").hosts == (("localhost", 2181),)


def test_users_and_access() -> None:
    """With a user what is made belongs to the user, unless the URL says otherwise; without one it is open."""
    assert target("zookeeper://ann:x@h").creator_only
    assert not target("zookeeper://ann:x@h?acl=open").creator_only
    assert not target("zookeeper://h").creator_only
    assert target("zookeeper://ann:x@h").auth == "digest"
    assert target("zookeeper://ann:x@h?auth=sasl").auth == "sasl"


def test_tls_is_implied_by_its_options() -> None:
    """TLS is off until it is asked for, by itself or by another of its options."""
    assert target("zookeeper://h").tls is None
    assert target("zookeeper://h?tls=true").tls is not None
    trusting = target("zookeeper://h?tls_verify=false").tls
    assert trusting is not None
    assert not trusting.verify


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("zookeeper://h?auth=kerberos", "auth must be digest or sasl"),
        ("zookeeper://h?acl=nobody", "acl must be creator or open"),
        ("zookeeper://h?tls=perhaps", "tls must be true or false"),
        ("zookeeper://h?tls_verify=0", "tls_verify must be true or false"),
        ("zookeeper://ann@h", "a user and a password"),
        ("zookeeper://:x@h", "a user and a password"),
        ("zookeeper://h?auth=sasl", "a user and a password"),
        ("zookeeper://h?acl=creator", "acl=creator needs a user"),
        ("zookeeper://h/a//b", "names no node"),
        ("zookeeper://h/a/../b", "names no node"),
        ("zookeeper://h/a%00", r"U\+0000"),
        ("zookeeper://h/a%0Ab", r"U\+000A"),
        ("zookeeper://h/%C2%85", r"U\+0085"),
        ("zookeeper://h/%EE%80%80", r"U\+E000"),
        ("zookeeper://h/%EF%BF%BF", r"U\+FFFF"),
        ("zookeeper://h/%F0%9F%98%80", r"U\+1F600"),
        ("zookeeper://h,a..b", "'a..b' in zookeeper:.*can be no host name"),
        (f"zookeeper://{'a' * 64}", "can be no host name"),
        ("zookeeper://h?tls=false&tls_verify=true", "asks for no TLS; leave out tls=false"),
        ("zookeeper://h?tls_key=/k", "tls_key without tls_certificate"),
        ("zookeeper://h?tls_ca_file=/nowhere/ca.pem", "/nowhere/ca.pem"),
    ],
)
def test_what_can_never_work_is_refused(url: str, words: str) -> None:
    """A bad option, half a user, a path that is none, or a file that is not there is named before anything is sent."""
    with pytest.raises(ConfigurationError, match=words):
        target(url)


def test_sasl_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """auth=sasl without pure-sasl names the extra that brings it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"drumbeat-zookeeper\[sasl\]"):
        target("zookeeper://ann:x@h?auth=sasl")


def test_every_option_has_a_line_for_people() -> None:
    """The options that are read are those that are documented."""
    assert set(OPTIONS) == {"auth", "acl", "tls", "tls_ca_file", "tls_certificate", "tls_key", "tls_verify"}
    assert all(OPTIONS.values())


def test_the_entry_point_loads_no_client() -> None:
    """To look at the backend's class, its options and a URL does not import kazoo."""
    program = (
        "import sys\n"
        "from drumbeat_zookeeper import ZooKeeperBackend\n"
        "assert ZooKeeperBackend.options\n"
        "print('kazoo' in sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
