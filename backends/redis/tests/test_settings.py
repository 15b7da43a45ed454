"""What the URL may say, and what is refused before anything is sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from drumbeat import ConfigurationError
from drumbeat.hookspecs import BackendURL
from drumbeat_redis._settings import Settings

#: A file that is no certificate.
HERE = str(Path(__file__))


def settings(url: str) -> Settings:
    """Return what a URL asks for."""
    return Settings.from_url(BackendURL.parse(url))


@pytest.mark.parametrize(
    ("url", "hosts", "database", "service"),
    [
        ("redis://h", (("h", 6379),), 0, ""),
        ("redis://h:1/3", (("h", 1),), 3, ""),
        ("rediss://[::1]/", (("::1", 6379),), 0, ""),
        ("redis+sentinel://a,b:2/mymaster", (("a", 26379), ("b", 2)), 0, "mymaster"),
        ("redis+sentinel://a/mymaster/7", (("a", 26379),), 7, "mymaster"),
        ("redis+cluster://a,b:2", (("a", 6379), ("b", 2)), 0, ""),
    ],
)
def test_a_url_names_hosts_and_database(
    url: str, hosts: tuple[tuple[str, int], ...], database: int, service: str
) -> None:
    """Each scheme has its default port, and the path is the database, behind the service's name with Sentinel."""
    found = settings(url)
    assert (hosts, database, service) == (found.hosts, found.database, found.service)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://", "one host"),
        ("redis://a,b", "one host"),
        ("redis+cluster://", "hosts"),
        ("redis://h/x", "database"),
        ("redis://h/-1", "database"),
        ("redis://h/1/2", "database"),
        ("redis+sentinel://h", "/mymaster"),
        ("redis+sentinel://h/mymaster/x", "database"),
        ("redis+cluster://h/0", "only one"),
        ("redis://h?tls_verify=false", "rediss://"),
        ("rediss://h?tls_verify=perhaps", "tls_verify"),
        ("rediss://h?tls_ca_file=/no/such/file", "tls_ca_file"),
        ("rediss://h?tls_ca_file=HERE", "tls_ca_file"),
        ("rediss://h?tls_certificate=HERE", "tls_certificate"),
        ("rediss://h?tls_key=HERE", "tls_key"),
        ("redis://h?min_replicas=-1", "min_replicas"),
        ("redis://h?min_replicas=1.5", "min_replicas"),
        ("redis://h?min_replicas=nan", "min_replicas"),
        (f"redis://h/{'9' * 5000}", "number of a database"),
        ("redis://h?longest_ttl=ten", "longest_ttl"),
        ("redis://h?longest_ttl=0", "longest_ttl"),
        ("redis://h?longest_ttl=99999", "longest_ttl"),
    ],
)
def test_what_can_never_work_is_refused_by_name(url: str, named: str) -> None:
    """A wrong part of the URL is a ConfigurationError that names it, before anything is sent."""
    with pytest.raises(ConfigurationError, match=named):
        settings(url.replace("HERE", HERE))


def test_a_password_is_not_in_the_repr() -> None:
    """SAFE-1: the settings, which may end in a log, do not show the password."""
    assert "hunter2" not in repr(settings("redis://alice:hunter2@h"))


def test_the_client_is_loaded_by_those_who_connect_only() -> None:
    """Finding the backend by its entry point does not load the client library."""
    code = (
        "import sys, drumbeat\n"
        "from drumbeat._plugins import load_backend_factory\n"
        "load_backend_factory('redis')\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] == 'redis'))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert ran.stdout == "[]\n"
