"""Manual pages out of the commands' own help: one model of a page, and its two spellings, roff and plain text.

* A function of the commands: no clock, no terminal, no environment. The same program writes the same bytes.
* roff is pure ASCII, and nothing in a help text can be read as a request or an escape.
"""

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import click

from manifests.errors import families

ENVIRONMENT: Final[Mapping[str, str]] = {
    "BUNDLE_HOME": "The site's root, where --root names none.",
    "BUNDLE_STORE": "The builder's store, where --store names none.",
    "BUNDLE_KEY_PASSPHRASE": "The passphrase of a signing key; without it a prompt asks.",
    "BUNDLE_HEADERS": "A file of headers that some hosts want; else ~/.config/offline-bundle/headers, if it is there.",
    "BUNDLE_MIRRORS": "What is asked in place of what: FROM=TO, URL prefixes, separated by spaces.",
    "NETRC": "As requests reads it: the file of users and passwords by host, in place of ~/.netrc.",
    "HF_ENDPOINT": "The model hub, or a mirror of it.",
    "HF_TOKEN, HUGGING_FACE_HUB_TOKEN": "The hub's token.",
    "HF_TOKEN_PATH, HF_HOME": "Where the hub's own client keeps its token.",
    "ROBOFLOW_API_HOST": "The service that roboflow:// asks, or one that speaks as it does.",
    "ROBOFLOW_API_KEY": "The key of a workspace there; public models need none.",
    "INFERENCE_HOME, MODEL_CACHE_DIR": "A folder inside of a root; that root is used where BUNDLE_HOME is not set.",
    "MAX_ACTIVE_MODELS": "How many models stay loaded.",
    "ONNXRUNTIME_EXECUTION_PROVIDERS": "The execution providers that may be used, separated by commas.",
    "AWS_*": "As boto3 reads them: credentials, profile, region; AWS_ENDPOINT_URL names another store than Amazon's.",
    "AZURE_STORAGE_CONNECTION_STRING": "Azure's storage: the account, and what opens it. It wins over the three below.",
    "AZURE_STORAGE_ACCOUNT": "The storage account; enough for a public container.",
    "AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN": "What opens the account: one of its keys, or a SAS.",
    "REGISTRY_AUTH_FILE, DOCKER_CONFIG, XDG_RUNTIME_DIR": "Where logins to registries are kept, as podman has it.",
    "PIP_*": "As pip reads them: indexes, find-links, certificates, timeout, proxy.",
    "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY": "As requests reads them: proxies, and what is reached without one.",
    "REQUESTS_CA_BUNDLE, SSL_CERT_FILE, CURL_CA_BUNDLE": "The certificates to trust over HTTPS.",
    "HOME, XDG_CACHE_HOME, XDG_CONFIG_HOME, XDG_CONFIG_DIRS, XDG_DATA_HOME": "Where files lie that nothing else names.",
    "DEFAULT_DEVICE": "What models run on, where nothing else is asked for: cpu, cuda or an execution provider.",
    "ORT_DISABLE_TELEMETRY": "As onnxruntime reads it. It is set to 1 here, so that nothing is reported to its maker.",
    "NO_COLOR": "If set, no colours.",
}
"""What the program reads; a star stands for what another program's rules say."""
_WIDTH: Final = 80
_SOURCE_WIDTH: Final = 66
"""Characters of a line of roff, before escapes make it longer."""
_ESCAPES: Final = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Lines as they are."""

    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """A term, and what it means."""

    term: str
    text: str


Block: TypeAlias = Paragraph | Verbatim | Item


@dataclass(frozen=True, slots=True)
class Page:
    """A manual page: `name` as `bundle-trust-init`, sections in order."""

    name: str
    version: str
    sections: tuple[tuple[str, tuple[Block, ...]], ...]


def pages(context: click.Context, *, version: str) -> Iterator[Page]:
    """The page of the context's command, and those of the commands below it."""
    yield _page(context, version)
    for name, command in _commands(context):
        with click.Context(command, parent=context, info_name=name) as inner:
            yield from pages(inner, version=version)


def roff(page: Page) -> str:
    """The page in man(7)."""
    lines = [f'.TH {_escaped(page.name.upper())} 1 "" "bundle {_escaped(page.version)}" "bundle"']
    for title, blocks in page.sections:
        lines.append(f'.SH "{_escaped(title)}"')
        for number, block in enumerate(blocks):
            lines += _roff_block(block, is_first=not number)
    return "\n".join(lines) + "\n"


def text(page: Page) -> str:
    """The page for a terminal, or for searching."""
    sections = ("\n".join((title, *_text_blocks(blocks))) for title, blocks in page.sections)
    return "\n\n".join(sections) + "\n"


def _page(context: click.Context, version: str) -> Page:
    command = context.command
    name = context.command_path.replace(" ", "-")
    description, example = _described(command)
    below = list(_commands(context))
    sections: list[tuple[str, list[Block]]] = [
        ("NAME", [Paragraph(f"{name} - {_short(command)}")]),
        ("SYNOPSIS", [Verbatim(" ".join((context.command_path, *command.collect_usage_pieces(context))))]),
        ("DESCRIPTION", description),
        ("COMMANDS", [Item(f"{context.command_path} {each}", _short(inner)) for each, inner in below]),
        ("OPTIONS", [Item(*record) for record in _records(context)]),
        ("EXAMPLE", example),
        ("EXIT STATUS", list(_exit_status())),
        ("ENVIRONMENT", [Item(variable, meaning) for variable, meaning in ENVIRONMENT.items()]),
        ("SEE ALSO", _see_also(context, [each for each, _ in below])),
    ]
    return Page(name, version, tuple((title, tuple(blocks)) for title, blocks in sections if blocks))


def _commands(context: click.Context) -> list[tuple[str, click.Command]]:
    group = context.command
    if not isinstance(group, click.Group):
        return []
    found = ((name, group.get_command(context, name)) for name in group.list_commands(context))
    return [(name, command) for name, command in found if command is not None and not command.hidden]


def _short(command: click.Command) -> str:
    """The first sentence of the help, in one line."""
    first = inspect.cleandoc(command.help or "").partition("\n\n")[0]
    return re.split(r"(?<=[^.])\.(?:\s|$)", " ".join(first.split()), maxsplit=1)[0]


def _described(command: click.Command) -> tuple[list[Block], list[Block]]:
    """The help's paragraphs, and its example. Lines after click's mark, a backspace, stand as they are."""
    blocks: list[Block] = []
    example: list[Block] = []
    for part in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        if part.startswith("\b"):
            blocks.append(Verbatim(part.removeprefix("\b").strip("\n")))
        elif part.startswith("Example:"):
            example.append(Verbatim(" ".join(part.removeprefix("Example:").split())))
        elif part:
            blocks.append(Paragraph(" ".join(part.split())))
    return blocks, example


def _exit_status() -> Iterator[Item]:
    yield Item("0", "done")
    meanings = {each.exit_code: f"{each.__name__}: {each.meaning}" for each in families()}
    meanings |= {2: "UsageError: the command line is wrong: --help", 130: "interrupted from the keyboard"}
    for code, meaning in sorted(meanings.items()):
        yield Item(str(code), meaning.replace("`", ""))


def _records(context: click.Context) -> Iterator[tuple[str, str]]:
    """Names and help of each option."""
    for parameter in context.command.get_params(context):
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)) is not None:
            yield record


def _see_also(context: click.Context, below: list[str]) -> list[Block]:
    """The command above, and those below."""
    names = [context.parent.command_path] if context.parent else []
    names += [f"{context.command_path} {name}" for name in below]
    return [Paragraph(", ".join(f"{name.replace(' ', '-')}(1)" for name in names))] if names else []


def _roff_block(block: Block, *, is_first: bool) -> list[str]:
    if isinstance(block, Item):
        return [".TP", f".B {_escaped(block.term)}", *map(_escaped, _wrapped(block.text, 0, width=_SOURCE_WIDTH))]
    if isinstance(block, Verbatim):
        lines = [_escaped(line) for line in block.text.split("\n")]
        return [*([] if is_first else [".PP"]), ".nf", *lines, ".fi"]
    return [*([] if is_first else [".PP"]), *map(_escaped, _wrapped(block.text, 0, width=_SOURCE_WIDTH))]


def _escaped(line: str) -> str:
    """A line of text that roff prints as it is."""
    escaped = "".join(
        _ESCAPES.get(character) or (character if character.isascii() else f"\\[u{ord(character):04X}]")
        for character in line
    )
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _text_blocks(blocks: tuple[Block, ...]) -> Iterator[str]:
    for number, block in enumerate(blocks):
        if isinstance(block, Item):
            yield f"    {block.term}"
            yield from _wrapped(block.text, 8)
            continue
        if number:
            yield ""
        if isinstance(block, Verbatim):
            yield from (f"    {line}".rstrip() for line in block.text.split("\n"))
        else:
            yield from _wrapped(block.text, 4)


def _wrapped(line: str, indent: int, *, width: int = _WIDTH) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(
        line, width, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )
