"""Promise: no token of an RPC URL gets into a text or a log line, whoever writes it."""

from __future__ import annotations

import logging

import pytest

from pipeline.chain.masking import TALKATIVE, Mask

TOKEN = "abcdef0123456789"
URLS = [
    f"https://rpc.example/v3/{TOKEN}",
    f"https://user:{TOKEN}@rpc.example:8545/",
    f"https://{TOKEN}:pw@rpc.example",
    f"https://rpc.example/?apikey={TOKEN}",
    f"https://rpc.example/path?apikey={TOKEN}&x=1#frag",
]


@pytest.mark.parametrize("url", URLS)
def test_urls_and_their_parts_are_masked(url: str) -> None:
    """The whole URL, its path as urllib3 prints it, and the token alone."""
    mask = Mask(url)
    path = url.split("rpc.example", 1)[1]
    for text in (f"cannot reach {url}", f'"POST {path} HTTP/1.1" 200', f"unknown project {TOKEN}"):
        assert TOKEN not in mask(text)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8545", "http://127.0.0.1:8545/"])
def test_a_url_without_secrets_changes_nothing(url: str) -> None:
    """Texts stay readable."""
    assert Mask(url)(f"{url} can not be reached /") == f"{url} can not be reached /"


def test_short_parts_of_a_path_stay() -> None:
    """``v3`` is no token, and would garble texts."""
    assert "v3" in Mask(URLS[0])("method v3_call is missing")


@pytest.mark.parametrize("name", TALKATIVE)
def test_the_libraries_log_lines_are_masked(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Also where the URL is an argument of the line."""
    for _ in range(2):
        Mask(URLS[0]).install()
    library = logging.getLogger(name)
    with caplog.at_level(logging.DEBUG, logger=name):
        library.debug("Making request HTTP. URI: %s, Method: %s", URLS[0], "eth_chainId")
    assert caplog.messages == ["Making request HTTP. URI: https://rpc.example/***, Method: eth_chainId"]
    assert len([f for f in library.filters if type(f).__name__ == "_LogFilter"]) == 1
