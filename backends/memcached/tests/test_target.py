"""What a URL may say, and what is refused before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import drumbeat
from drumbeat import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from drumbeat_memcached import MemcachedBackend

SECRET = "swordfish"  # noqa: S105 - of these tests alone


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("memcached://a:1,b:2", "two processes could then lead at once"),
        ("memcached://", "with exactly one"),
        ("memcached://a..b", "'a..b' in memcached://a..b can be no host name"),
        ("memcached://a/0", "Memcached has no databases"),
        ("memcached://ann@a", "both or for neither"),
        (f"memcached://:{SECRET}@a", "both or for neither"),
        (f"memcached://ann:{SECRET}%20more@a", "has a space in it"),
        ("memcached://ann:@a", "is empty"),
        ("memcached://a?tls=false&tls_verify=true", "asks for no TLS"),
        ("memcached://a?tls_verify=maybe", "tls_verify must be true or false, not 'maybe'"),
        ("memcached://a?tls_key=/dev/null", "tls_key without tls_certificate"),
        ("memcached://a?tls_ca_file=/does/not/exist", "tls_ca_file must name a file, not '/does/not/exist'"),
        ("memcached://a?tls_certificate=/does/not/exist", "tls_certificate must name a file"),
    ],
)
def test_what_can_never_work_is_refused(store: Callable[[str], MemcachedBackend], url: str, reason: str) -> None:
    """A URL that can never work is refused with the reason and without the password."""
    with pytest.raises(ConfigurationError) as refusal:
        store(url)
    assert reason in str(refusal.value)
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("option", ["tls_ca_file", "tls_certificate"])
def test_a_file_that_is_no_certificate_is_refused(
    store: Callable[[str], MemcachedBackend], tmp_path: Path, option: str
) -> None:
    """A file with something else in it is refused by the option's name."""
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    with pytest.raises(ConfigurationError, match=f"{option}={rubbish}"):
        store(f"memcached://a?{option}={rubbish}")


def test_an_unknown_option_is_refused() -> None:
    """The names of all options are in the refusal of an unknown one."""
    with pytest.raises(ConfigurationError, match=r"tls_ca_file.*tls_verify") as refusal:
        drumbeat.connect("memcached://127.0.0.1:1?tls_authority=x")
    assert "tls_authority" in str(refusal.value)


def test_the_port_may_be_left_out(store: Callable[[str], MemcachedBackend]) -> None:
    """Without a port the server's own default is meant."""
    assert str(store("memcached://cache.example")._target) == "cache.example:11211"
    assert str(store("memcached://[::1]/")._target) == "[::1]:11211"
