"""Where the page is served, and to whom."""

import socket
from pathlib import Path
from typing import Any

import pytest
from programs import PATIENCE

from bnn.app import Address, accounts_in
from bnn.app.address import MAX_UPLOAD
from bnn.errors import InputError


def test_by_default_it_is_for_this_machine_alone() -> None:
    address = Address()
    assert address.url == "http://127.0.0.1:7860/"
    assert not address.is_exposed
    assert address.max_upload == MAX_UPLOAD


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_hosts_that_only_this_machine_reaches(host: str) -> None:
    assert not Address(host=host).is_exposed


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.7", "2001:db8::7", "digits.example.org"])
def test_a_network_reaches_the_others_unless_there_are_passwords(host: str) -> None:
    assert Address(host=host).is_exposed
    assert not Address(host=host, accounts=[("ada", "secret")]).is_exposed


def test_the_url_of_a_host_with_colons_has_brackets() -> None:
    assert Address(host="::1", port=80).url == "http://[::1]:80/"


@pytest.mark.parametrize("host", ["no..host", "x" * 300, "é" * 80], ids=["empty", "long", "long-idna"])
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(InputError, match=r"^\S+ is no host: give an IP address or a name\.$"):
        Address(host=host)


@pytest.mark.parametrize("port", [0, -1, 65536, 70000])
def test_what_is_no_port(port: int) -> None:
    with pytest.raises(InputError, match=f"^{port} is no port: choose one from 1 to 65535[.]$"):
        Address(port=port)


@pytest.mark.parametrize("root_path", ["", "/digits", "/a/b"])
def test_root_paths(root_path: str) -> None:
    assert Address(root_path=root_path).root_path == root_path


@pytest.mark.parametrize("root_path", ["digits", "/", "/digits/", "http://example.org/digits/"])
def test_what_is_no_root_path(root_path: str) -> None:
    with pytest.raises(
        InputError, match=r"^--root-path \S+ must start with a slash, and not end with one\.$"
    ):
        Address(root_path=root_path)


@pytest.mark.parametrize("max_upload", [0, -1])
def test_an_upload_must_be_something(max_upload: int) -> None:
    assert Address(max_upload=1).max_upload == 1
    with pytest.raises(InputError, match="--max-upload must be above 0"):
        Address(max_upload=max_upload)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"proxies": ["nginx"]}, "--proxy nginx is no IP address"),
        ({"proxies": ["10.0.0.1", "10.0.0.0/99"]}, "--proxy 10.0.0.0/99 is no IP address"),
        ({"names": ["https://example.org"]}, "--name https://example.org is no host name"),
        ({"names": ["example.org:80"]}, "--name example.org:80 is no host name"),
    ],
)
def test_who_is_believed_must_be_an_address_and_a_name_a_name(options: dict[str, Any], words: str) -> None:
    assert Address(proxies=["10.0.0.1", "10.1.0.0/16", "::1"], names=["digits.example.org"])
    with pytest.raises(InputError, match=f"^{words}"):
        Address(**options)


@pytest.mark.parametrize(
    ("path", "within"),
    [("/digits/health", "/health"), ("/health", "/health"), ("/digitsx", "/digitsx"), ("/digits", "/digits")],
)
def test_a_path_is_the_same_whether_or_not_the_proxy_took_the_root_off(path: str, within: str) -> None:
    assert Address(root_path="/digits").path_within(path) == within


def test_it_listens_where_it_says(free_port: int) -> None:
    with (
        Address(port=free_port).listen() as listening,
        socket.create_connection(("127.0.0.1", free_port), timeout=PATIENCE) as visitor,
    ):
        accepted, _ = listening.accept()
        with accepted:
            visitor.sendall(b"x")
            assert accepted.recv(1) == b"x"


def test_a_busy_port_is_told_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            InputError,
            match=rf"^the page cannot be served at 127\.0\.0\.1, port {port}: [a-z ]* in use; [^\n]+\.$",
        ):
            Address(port=port).listen()


@pytest.mark.parametrize("host", ["192.0.2.7", "no such host", "%"])
def test_a_host_that_is_not_this_machine_is_told_in_one_sentence(host: str, free_port: int) -> None:
    with pytest.raises(InputError, match=r"^the page cannot be served at [^\n]+ another port or host\.$"):
        Address(host=host, port=free_port).listen()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# The file of accounts


def written(folder: Path, content: bytes) -> Path:
    (folder / "accounts").write_bytes(content)
    return folder / "accounts"


@pytest.mark.parametrize(
    ("content", "accounts"),
    [
        (b"ada:secret", [("ada", "secret")]),
        (b"ada:secret\nbob:other\n", [("ada", "secret"), ("bob", "other")]),
        (b"# ours\n\n  ada:a:b:c  \n   # his\r\nbob:#x\r\n", [("ada", "a:b:c"), ("bob", "#x")]),
        ("\ufeffädä:geheim ß\n".encode(), [("ädä", "geheim ß")]),
    ],
)
def test_accounts_are_lines_of_user_and_password(
    tmp_path: Path, content: bytes, accounts: list[tuple[str, str]]
) -> None:
    assert accounts_in(written(tmp_path, content)) == accounts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds none"),
        (b"# nobody\n\n", "holds none"),
        (b"ada:secret\nbob\n", "line 2 of .* is no account: write user:password"),
        (b"\n:secret\n", "line 2 of .* is no account"),
        (b"ada:\n", "line 1 of .* is no account"),
        (b"ada:\xff\n", "cannot be read: it is not UTF-8 text"),
    ],
)
def test_what_is_no_file_of_accounts_is_told_without_a_password(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message) as told:
        accounts_in(written(tmp_path, content))
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)
    assert str(told.value).endswith(".")


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match=r"^the file of accounts \S+ cannot be read: [^\n]+\.$"):
            accounts_in(path)
