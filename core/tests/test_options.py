"""Options of a backend's URL: each value checked, each problem named."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from drumbeat import ConfigurationError
from drumbeat._url import BackendURL
from drumbeat.options import TLS, read_choice, read_flag, read_hosts, read_number, read_tls

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A file with a certificate and its key."""
    path = tmp_path / "pair.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return path


def url(query: str) -> BackendURL:
    """Return a URL with these options."""
    return BackendURL.parse(f"x://user:secret@host/?{query}")


@pytest.mark.parametrize(("query", "expected"), [("", True), ("flag=true", True), ("flag=false", False)])
def test_a_flag_is_true_or_false(query: str, *, expected: bool) -> None:
    """A flag has its default where it is not given, and else the value that was written."""
    assert read_flag(url(query), "flag", default=True) is expected


@pytest.mark.parametrize("value", ["", "yes", "TRUE", "1"])
def test_a_flag_is_nothing_else(value: str) -> None:
    """A flag that is neither is refused by name, with what it may be."""
    with pytest.raises(ConfigurationError, match="flag must be true or false, not"):
        read_flag(url(f"flag={value}"), "flag", default=True)


def test_a_choice_is_one_of_its_words() -> None:
    """A word that is not offered is refused, with those that are."""
    assert read_choice(url("how=b"), "how", ("a", "b"), default="a") == "b"
    with pytest.raises(ConfigurationError, match="how must be a or b, not 'c'"):
        read_choice(url("how=c"), "how", ("a", "b"), default="a")


@pytest.mark.parametrize(("text", "expected"), [("", 2.0), ("n=1", 1.0), ("n=1.5", 1.5), ("n=3", 3.0)])
def test_a_number_lies_between_its_bounds(text: str, expected: float) -> None:
    """A number is read as written, its bounds included, and has its default where it is not given."""
    assert read_number(url(text), "n", default=2.0, lowest=1, highest=3) == expected


@pytest.mark.parametrize("text", ["0.9", "3.1", "nan", "inf", "-1", "many", ""])
def test_a_number_lies_nowhere_else(text: str) -> None:
    """What is no number, or out of bounds, is refused by name with the bounds."""
    with pytest.raises(ConfigurationError, match=r"n must be a number from 1 to 3, not"):
        read_number(url(f"n={text}"), "n", default=2.0, lowest=1, highest=3)


def test_a_whole_number_is_whole() -> None:
    """Where a count is wanted, a fraction is refused."""
    assert read_number(url("n=2"), "n", default=0, highest=3, whole=True) == 2
    with pytest.raises(ConfigurationError, match=r"whole number from 0 to 3, not '1\.5'"):
        read_number(url("n=1.5"), "n", default=0, highest=3, whole=True)


def test_hosts_have_ports() -> None:
    """A port that is not written is the server's own default."""
    assert read_hosts(BackendURL.parse("x://a:1,[::1],b"), default_port=7) == (("a", 1), ("::1", 7), ("b", 7))


@pytest.mark.parametrize("host", ["a..b", "x" * 64, ".a"])
def test_a_name_that_no_host_can_have_is_refused(host: str) -> None:
    """What can never be resolved is refused by name before anything is asked."""
    with pytest.raises(ConfigurationError, match="can be no host name"):
        read_hosts(BackendURL.parse(f"x://{host}"), default_port=7)


def test_tls_is_what_the_scheme_asks_for() -> None:
    """A scheme with TLS needs no option; one without TLS refuses options that would have no effect."""
    assert read_tls(url(""), secure=False) is None
    assert read_tls(url(""), secure=True) == TLS(ca_file=None, certificate=None, key=None, verify=True)
    with pytest.raises(ConfigurationError, match="tls_verify, but asks for no TLS") as refused:
        read_tls(url("tls_verify=false"), secure=False)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(("query", "speaks"), [("", False), ("tls=true", True), ("tls_verify=true", True)])
def test_tls_is_switched_on_by_any_of_its_options(query: str, *, speaks: bool) -> None:
    """Where the scheme does not tell, `tls` does, and any other option of TLS implies it."""
    assert (read_tls(url(query)) is not None) is speaks


def test_tls_that_is_switched_off_takes_no_options() -> None:
    """An option that would have no effect is refused, not ignored."""
    with pytest.raises(ConfigurationError, match="tls_verify, but asks for no TLS"):
        read_tls(url("tls=false&tls_verify=true"))


def test_tls_checks_the_server_unless_told_not_to() -> None:
    """By default certificate and name are checked; with `tls_verify=false` neither is."""
    checking, trusting = read_tls(url("tls=true")), read_tls(url("tls_verify=false"))
    assert checking is not None
    assert trusting is not None
    assert (checking.context().verify_mode, checking.context().check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (trusting.context().verify_mode, trusting.context().check_hostname) == (ssl.CERT_NONE, False)


def test_certificate_and_key_may_be_one_file(pair: Path) -> None:
    """Without `tls_key` the key is read from the certificate's file."""
    tls = read_tls(url(f"tls_certificate={pair}"))
    assert tls == TLS(ca_file=None, certificate=str(pair), key=str(pair), verify=True)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("tls_key={pair}", "tls_key without tls_certificate"),
        ("tls_ca_file={pair}.gone", "tls_ca_file must name a file"),
        ("tls_ca_file={bad}", "tls_ca_file=.*bad.pem is no readable file of certificates"),
        ("tls_certificate={bad}", "tls_certificate=.*bad.pem and tls_key=.*bad.pem are no readable certificate"),
        ("tls_certificate={pair}&tls_key={bad}", "are no readable certificate with its unencrypted key"),
    ],
)
def test_files_that_cannot_be_used_are_named(pair: Path, query: str, problem: str) -> None:
    """A file that is missing or holds something else is refused by option and path, before anything is sent."""
    bad = pair.with_name("bad.pem")
    bad.write_text("no certificate")
    with pytest.raises(ConfigurationError, match=problem):
        read_tls(url(query.format(pair=pair, bad=bad)))
