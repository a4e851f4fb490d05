"""What the environment says, and that secrets stay out of sight."""

import os
import sys
from pathlib import Path

import pytest

from bundler.header_file import HeaderLine
from bundler.mirrors import Mirror, joined, mirrored
from bundler.pip_settings import DEFAULT_INDEX, PackageIndexes, configuration_files
from bundler.settings import DEFAULT_HUB, Settings
from manifests.errors import SourceDeniedError, SourceError

NO_PIP = {"PIP_CONFIG_FILE": os.devnull}


def read(tmp_path: Path, **environ: str) -> Settings:
    return Settings.read({"HOME": str(tmp_path), **NO_PIP, **environ})


def test_an_empty_environment_gives_the_defaults(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert settings.store == tmp_path / ".cache" / "offline-bundle" / "store"
    assert settings.hub.endpoint == DEFAULT_HUB
    assert settings.hub.token is None
    assert settings.packages.indexes == (DEFAULT_INDEX,)
    assert settings.certificates is None


def test_the_store_is_where_the_environment_says(tmp_path: Path) -> None:
    assert read(tmp_path, BUNDLE_STORE="/s").store == Path("/s")
    assert read(tmp_path, XDG_CACHE_HOME="/c").store == Path("/c/offline-bundle/store")


def test_the_hub_is_where_the_environment_says(tmp_path: Path) -> None:
    assert read(tmp_path, HF_ENDPOINT="http://127.0.0.1:1/").hub.endpoint == "http://127.0.0.1:1"


@pytest.mark.parametrize("place", [".cache/huggingface/token", "home/token", "elsewhere"])
def test_the_token_is_where_the_hub_client_keeps_it(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("hf_secret\n")
    environ = {"home/token": {"HF_HOME": str(path.parent)}, "elsewhere": {"HF_TOKEN_PATH": str(path)}}
    assert read(tmp_path, **environ.get(place, {})).hub.token == "hf_secret"
    assert read(tmp_path, HF_TOKEN="first").hub.token == "first"


def test_no_secret_is_shown(tmp_path: Path) -> None:
    settings = read(
        tmp_path, HF_TOKEN="hush", BUNDLE_KEY_PASSPHRASE="hush", PIP_INDEX_URL="https://u:hush@example.org/simple"
    )
    assert (settings.hub.token, settings.key_passphrase) == ("hush", "hush")
    assert "hush" not in repr(settings)


def test_certificates_come_from_the_usual_places(tmp_path: Path) -> None:
    assert read(tmp_path, PIP_CERT="/p").certificates == Path("/p")
    assert read(tmp_path, PIP_CERT="/p", SSL_CERT_FILE="/s").certificates == Path("/s")
    assert read(tmp_path, SSL_CERT_FILE="/s", REQUESTS_CA_BUNDLE="/r").certificates == Path("/r")


def test_pip_waits_as_long_as_it_is_told_and_so_do_we(tmp_path: Path) -> None:
    assert read(tmp_path, PIP_DEFAULT_TIMEOUT="180").patience.stall == 180
    with pytest.raises(SourceError, match="not a number"):
        read(tmp_path, PIP_TIMEOUT="soon")


def indexes(tmp_path: Path, files: dict[str, str], **environ: str) -> PackageIndexes:
    """What pip's settings are with these files below `home`, `prefix` and `etc`."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folders = {name: tmp_path / name for name in ("home", "prefix")}
    return PackageIndexes.read(environ, **folders, system=tmp_path / "etc")


GLOBAL, LEGACY = "etc/pip.conf", "home/.pip/pip.conf"
USER, SITE = "home/.config/pip/pip.conf", "prefix/pip.conf"


def conf(index: str, section: str = "global") -> str:
    return f"[{section}]\nindex-url = {index}\n"


@pytest.mark.parametrize(
    ("files", "environ", "winner"),
    [
        ({GLOBAL: conf("g")}, {}, "g"),
        ({GLOBAL: conf("g"), LEGACY: conf("l")}, {}, "l"),
        ({LEGACY: conf("l"), USER: conf("u")}, {}, "u"),
        ({USER: conf("u"), SITE: conf("s")}, {}, "s"),
        ({SITE: conf("s")}, {"PIP_INDEX_URL": "e"}, "e"),
        ({USER: conf("u", "download"), SITE: conf("s")}, {}, "u"),
        ({USER: conf("u", "install"), GLOBAL: conf("g")}, {}, "g"),
        ({USER: "[global]\nindex_url = underscore\n"}, {}, "underscore"),
    ],
)
def test_pip_settings_have_the_precedence_that_pip_gives_them(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], winner: str
) -> None:
    assert indexes(tmp_path, files, **environ).indexes[0] == winner


def test_a_named_file_replaces_that_of_the_user_and_wins_over_the_others(tmp_path: Path) -> None:
    (tmp_path / "named.conf").write_text("[global]\nextra-index-url = n\n")
    files = {USER: conf("u"), SITE: "[global]\nextra-index-url = s\n"}
    assert indexes(tmp_path, files, PIP_CONFIG_FILE=str(tmp_path / "named.conf")).indexes == (DEFAULT_INDEX, "n")


def test_lists_may_have_several_lines(tmp_path: Path) -> None:
    found = indexes(tmp_path, {USER: "[global]\nextra-index-url =\n    a\n    b\nfind-links = /x ./y\n"})
    assert found.indexes == (DEFAULT_INDEX, "a", "b")
    assert found.find_links == ("/x", "./y")


def test_no_index_means_find_links_only(tmp_path: Path) -> None:
    assert indexes(tmp_path, {}, PIP_NO_INDEX="1", PIP_FIND_LINKS="/x") == PackageIndexes((), ("/x",))


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"home/\.config/pip/pip\.conf"):
        indexes(tmp_path, {USER: "no section"})


@pytest.mark.skipif(os.name == "nt", reason="pip has other places there")
def test_the_files_are_those_that_pip_itself_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = pytest.importorskip("pip._internal.configuration")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.delenv(name, raising=False)
    kinds = configuration.get_configuration_files()
    theirs = [Path(path) for kind in ("global", "user", "site") for path in kinds[kind]]
    ours = configuration_files({}, home=tmp_path, prefix=Path(sys.prefix))
    assert list(ours) == theirs


@pytest.mark.parametrize("token", ["hush hush", "hush\nhush", "hush\x1b[2J", "hush\u00e9", "hush\u2028hush"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_quoted(tmp_path: Path, token: str) -> None:
    with pytest.raises(SourceError, match="HF_TOKEN: a token has no white space") as caught:
        read(tmp_path, HF_TOKEN=token)
    assert "hush" not in str(caught.value) + caught.value.hint
    (tmp_path / "token").write_text(token)
    with pytest.raises(SourceError, match="a token has no white space"):
        read(tmp_path, HF_TOKEN_PATH=str(tmp_path / "token"))


def test_a_token_file_that_is_no_text_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xffhush")
    with pytest.raises(SourceError, match="is not text") as caught:
        read(tmp_path, HF_TOKEN_PATH=str(tmp_path / "token"))
    assert "0xff" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hush@example.org:99999/simple", "https://user:hush@example.org:port/simple",
        "https://user:hush@[example.org/simple", "https://user:hush/hush@example.org/simple",
        "https://user:12/hush@example.org/simple", "https://user:hush#hush@example.org/simple",
        "https://user:12?hush@example.org/simple", "https://user:hush@/simple",
    ],
)  # fmt: skip
@pytest.mark.parametrize("option", ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"])
def test_an_index_whose_address_is_none_is_refused_and_not_quoted(tmp_path: Path, url: str, option: str) -> None:
    with pytest.raises(SourceError, match="not a URL") as caught:
        read(tmp_path, **{option: url})
    assert "hush" not in str(caught.value) + caught.value.hint + repr(caught.value.__cause__)


@pytest.mark.parametrize(
    "url", ["https://example.org/feed@Local/simple", "https://u:p%2Fw@example.org:8443/simple", "http://[::1]:80/x"]
)
def test_an_index_whose_address_is_one_is_taken(tmp_path: Path, url: str) -> None:
    assert read(tmp_path, PIP_INDEX_URL=url).packages.indexes == (url,)


def test_a_hub_whose_address_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="HF_ENDPOINT: not a URL"):
        read(tmp_path, HF_ENDPOINT="https://hub:port")


def test_the_proxy_is_the_one_that_pip_was_told_of(tmp_path: Path) -> None:
    assert indexes(tmp_path, {USER: "[global]\nproxy = http://u:hush@p:1\n"}).proxy == "http://u:hush@p:1"
    assert indexes(tmp_path, {}, PIP_PROXY="http://q:2").proxy == "http://q:2"
    assert "hush" not in repr(indexes(tmp_path, {}))


def headers(tmp_path: Path, text: str, *, mode: int = 0o600) -> tuple[HeaderLine, ...]:
    """What a file of headers says."""
    path = tmp_path / "headers"
    path.write_text(text)
    path.chmod(mode)
    return read(tmp_path, BUNDLE_HEADERS=str(path)).headers


def test_headers_are_for_one_origin_each(tmp_path: Path) -> None:
    found = headers(
        tmp_path,
        "# of our forge\n\nhttps://Forge.Example PRIVATE-TOKEN: hush\n"
        "  https://forge.example:8443/   X-Key:a:b c  \nhttp://[::1]:80 Authorization: Bearer x\n",
    )
    assert [(line.origin, line.name, line.value) for line in found] == [
        ("https://forge.example:443", "PRIVATE-TOKEN", "hush"),
        ("https://forge.example:8443", "X-Key", "a:b c"),
        ("http://::1:80", "Authorization", "Bearer x"),
    ]
    assert "hush" not in repr(found)


def test_the_file_of_headers_is_among_the_users_settings_unless_one_is_named(tmp_path: Path) -> None:
    assert read(tmp_path).headers == ()
    for folder, environ in ((".config", {}), ("xdg", {"XDG_CONFIG_HOME": str(tmp_path / "xdg")})):
        path = tmp_path / folder / "offline-bundle" / "headers"
        path.parent.mkdir(parents=True)
        path.write_text(f"https://{folder}.example X: y\n")
        path.chmod(0o600)
        assert [line.origin for line in read(tmp_path, **environ).headers] == [f"https://{folder}.example:443"]
    assert headers(tmp_path, "") == ()


def test_a_file_of_headers_that_is_named_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="none does not exist"):
        read(tmp_path, BUNDLE_HEADERS=str(tmp_path / "none"))
    with pytest.raises(SourceError, match="cannot be read"):
        read(tmp_path, BUNDLE_HEADERS=str(tmp_path))


@pytest.mark.skipif(os.name == "nt", reason="modes are of POSIX")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o611])
def test_a_file_of_headers_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SourceDeniedError, match="may be read by other users") as caught:
        headers(tmp_path, "https://example.org X: hush", mode=mode)
    assert caught.value.hint == f"chmod 600 {tmp_path / 'headers'}"
    assert headers(tmp_path, "https://example.org X: hush", mode=0o400)


@pytest.mark.parametrize(
    "line",
    [
        "hush", "X-Key: hush", "example.org X-Key: hush", "https://example.org", "https://example.org X-Key hush",
        "https://example.org X Key: hush", "https://example.org X-Key:", "https://example.org X-Key: \t ",
        "https://example.org/hush X-Key: hush", "https://example.org?hush X-Key: hush",
        "https://user:hush@example.org X-Key: hush", "https://example.org:hush X-Key: hush",
        "ftp://example.org X-Key: hush", "https:// X-Key: hush", "https://example.org X-Key: hu\x1bsh",
        "https://example.org X-Key: hu\tsh", "https://example.org X-Key: hush\u00e9",
        "https://example.org Host: hush", "https://example.org content-length: 4", "https://example.org Range: hush",
        "https://example.org Transfer-Encoding: hush", "https://example.org Accept-Encoding: gzip",
        "https://example.org X-Key: hush\nhttps://EXAMPLE.org:443 x-key: other",
    ],
)  # fmt: skip
def test_a_line_that_is_no_header_of_an_origin_is_refused_and_not_quoted(tmp_path: Path, line: str) -> None:
    with pytest.raises(SourceError, match="headers") as caught:
        headers(tmp_path, f"# a comment\n{line}\n")
    assert "hush" not in str(caught.value) + caught.value.hint + repr(caught.value.__cause__)


def test_a_file_of_headers_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="more than 65536 bytes"):
        headers(tmp_path, "#" * 70_000)


MIRROR_CASES: list[tuple[str, str, str]] = [
    ("https://a.example=https://m.example", "https://a.example/x/y?q=1", "https://m.example/x/y?q=1"),
    ("https://a.example=https://m.example", "https://a.example", "https://m.example"),
    ("https://a.example/=https://m.example/p/", "https://a.example/x", "https://m.example/p/x"),
    ("https://a.example=https://m.example", "https://A.example:443/x", "https://m.example/x"),
    ("https://a.example=https://m.example", "http://a.example/x", "http://a.example/x"),
    ("https://a.example=https://m.example", "https://a.example:444/x", "https://a.example:444/x"),
    ("https://a.example=https://m.example", "https://a.example.org/x", "https://a.example.org/x"),
    ("https://a.example/x=https://m.example", "https://a.example/x", "https://m.example"),
    ("https://a.example/x=https://m.example", "https://a.example/x/y", "https://m.example/y"),
    ("https://a.example/x=https://m.example", "https://a.example/xy", "https://a.example/xy"),
    ("https://a.example/x=https://m.example", "https://a.example/x/../y", "https://a.example/x/../y"),
    ("https://a.example/x=https://m.example", "https://a.example/x/%2e%2E/y", "https://a.example/x/%2e%2E/y"),
    ("https://a.example=http://127.0.0.1:8080/a", "https://a.example/x", "http://127.0.0.1:8080/a/x"),
    ("https://a.example=https://a.example/m", "https://a.example/x", "https://a.example/m/x"),
    ("https://a.example/p=q=https://m.example", "https://a.example/p=q/x", "https://m.example/x"),
    ("https://a.example=https://m.example https://a.example/x=https://n.example", "https://a.example/x/y", "https://n.example/y"),
    ("https://a.example/x=https://n.example https://a.example=https://m.example", "https://a.example/x/y", "https://n.example/y"),
    ("https://a.example=https://m.example", "https://a.example/x?X-Amz-Signature=s&a=b", "https://a.example/x?X-Amz-Signature=s&a=b"),
    ("https://a.example=https://m.example", "https://a.example/x?sv=1&sig=s", "https://a.example/x?sv=1&sig=s"),
    ("https://a.example=https://a.example/m", "https://a.example/m/x", "https://a.example/m/x"),
    ("https://a.example/m=https://a.example", "https://a.example/m/x", "https://a.example/x"),
    ("", "https://a.example/x", "https://a.example/x"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "url", "asked"), MIRROR_CASES)
def test_a_mirror_is_asked_in_place_of_a_prefix(tmp_path: Path, given: str, url: str, asked: str) -> None:
    assert mirrored(url, read(tmp_path, BUNDLE_MIRRORS=given).mirrors) == asked


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://a.example", "two URLs with a '='"),
        ("https://a.example=", "two URLs with a '='"),
        ("a.example=m.example", "two URLs with a '='"),
        ("https://a.example=m.example", "two URLs with a '='"),
        ("https://a.example=https://b.example=https://c.example", "two URLs with a '='"),
        ("=https://m.example", "names no host"),
        ("a.example=https://m.example", "names no host"),
        ("s3://bucket=https://m.example", "and no more"),
        ("https://a.example?x=https://m.example", "and no more"),
        ("https://a.example=https://m.example?x", "and no more"),
        ("https://a.example=https://m.example#x", "and no more"),
        ("https://a.example=https://m.example/..", "and no more"),
        ("https://a.example=https://m.example:port", "not a URL"),
        ("https://user:hush@a.example=https://m.example", "no user and no password"),
        ("https://a.example=https://user:hush@m.example", "no user and no password"),
        ("https://a.example=https://user@m.example", "no user and no password"),
        ("https://a.example=https://m.example https://a.example/=https://n.example", "has two mirrors"),
    ],
)
def test_a_mirror_that_makes_no_sense_is_refused_with_what_would(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SourceError, match=r"^BUNDLE_MIRRORS: ") as caught:
        read(tmp_path, BUNDLE_MIRRORS=text)
    assert words in str(caught.value)
    assert caught.value.hint
    assert "hush" not in str(caught.value) + caught.value.hint
    if "password" in words:
        assert "netrc" in caught.value.hint


def test_an_option_s_mirror_wins_over_the_variable_s() -> None:
    option, variable = (Mirror.parse(f"https://a.example=https://{name}.example", subject="x") for name in "ov")
    other = Mirror("https://b.example", "https://v.example")
    assert set(joined([option], [variable, other])) == {option, other}


def test_certificates_of_requests_count_where_no_other_setting_names_any(tmp_path: Path) -> None:
    assert read(tmp_path, CURL_CA_BUNDLE="/c").certificates == Path("/c")
    assert read(tmp_path, CURL_CA_BUNDLE="/c", PIP_CERT="/p").certificates == Path("/p")
