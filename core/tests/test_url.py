"""Backend URLs: what is read from them, and what is never shown."""

from __future__ import annotations

import pytest

from drumbeat import ConfigurationError
from drumbeat._url import BackendURL

SECRET = "s3cret"  # noqa: S105 - a made-up one, looked for in what is shown


def test_all_parts_are_read() -> None:
    """Scheme, credentials, several hosts, path and options come out decoded."""
    url = BackendURL.parse("x+y://us%40er:p%3Aw%2F@h1:1,h2,[::1]:65535/a%20b?k=v%26w&empty=")
    assert url == BackendURL(
        scheme="x+y",
        username="us@er",
        password="p:w/",  # noqa: S106 - made up
        hosts=(("h1", 1), ("h2", None), ("::1", 65535)),
        path="/a b",
        options={"k": "v&w", "empty": ""},
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", "not a backend URL"),
        ("", "not a backend URL"),
        ("://h", "not a backend URL"),
        ("Redis://h", "not a backend URL"),
        (f"redis://u:{SECRET}@h:99999", "malformed host"),
        (f"redis://u:{SECRET}@h:x", "malformed host"),
        (f"redis://u:{SECRET}@h,", "malformed host"),
        (f"redis://u:{SECRET}@[::1", "malformed"),
        (f"redis://u:{SECRET}@h/?a", "malformed options"),
        (f"redis://u:{SECRET}@h/?a=1&a=2", "gives a more than once"),
        (f"redis://u:{SECRET}@h/#x", "fragment"),
        (f"redis://h/?password={SECRET}&password={SECRET}", "gives password more than once"),
        (f"redis://h/?password={SECRET}&x", "malformed options"),
        (f"redis://u:{SECRET}@h\u2100", "malformed"),
        (f"u:{SECRET}@h", "not a backend URL"),
        (f"redis://u:{SECRET}/{SECRET}@h:bad", "malformed"),
    ],
)
def test_a_malformed_url_is_refused_without_its_password(text: str, problem: str) -> None:
    """A URL that cannot be read is refused by what is wrong, and the password is not shown."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        BackendURL.parse(text)
    assert SECRET not in str(caught.value)


def test_the_password_is_never_shown() -> None:
    """Neither str nor repr of a URL holds the password."""
    url = BackendURL.parse(f"redis://user:{SECRET}@h:1/2?a=b")
    assert str(url) == "redis://user:***@h:1/2"
    assert SECRET not in repr(url)
