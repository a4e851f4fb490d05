"""A manifest as text: YAML with comments, written line by line.

* Nothing that a file or its name says can be more than the value, or the comment, that it is written as.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from bundler.initialise.entries import Model, Noted, Package
from manifests.errors import printable

_PLAIN: Final = re.compile(r"(?:\.{0,2}/|[A-Za-z])[A-Za-z0-9._/@=+-]*(?:://[A-Za-z0-9._/@=+-]+)?")
_WORDS: Final = frozenset({"false", "n", "no", "null", "off", "on", "true", "y", "yes"})
"""What YAML takes for something else than text."""
_LONGEST_NOTE: Final = 600
_HEAD: Final = """\
# What this bundle line carries. `bundle lock` pins it, `bundle build` makes the bundle.
name: {name} # the bundle line: 1 to 63 of a-z, 0-9, '.', '_', '-'
models:
"""


def manifest(name: str, models: Sequence[tuple[str, Model]], notes: Iterable[str] = ()) -> str:
    """The text for the bundle line `name`, with each model under its id; `notes` stand at the end."""
    blocks = ["\n".join(_model(model_id, model)) + "\n" for model_id, model in models]
    tail = "".join(f"{line}\n" for note in notes for line in _comment(note, 0))
    return _HEAD.format(name=value(name)) + "\n".join(blocks) + (f"\n{tail}" if tail else "")


def value(text: str) -> str:
    """`text` as a value in YAML: in quotes, unless nobody could take it for anything else."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return '"' + "".join(map(_character, text)) + '"'


def _model(model_id: str, model: Model) -> Iterator[str]:
    for note in model.notes:
        yield from _comment(note, 2)
    yield _line("  - id", Noted(model_id, model.id_note))
    if model.task.value:
        yield _line("    task", model.task)
    for key, noted in (("architecture", model.architecture), ("license", model.license)):
        if noted is not None:
            yield _line(f"    {key}", noted)
    if model.source:
        yield _line("    source", Noted(model.source))
        if model.unpack:
            yield f"    unpack: true{_behind('its members are the files; SOURCE#folder/ takes a part of them')}"
        yield from _patterns("include", model.include)
        yield from _patterns("exclude", model.exclude)
    elif len(model.packages) == 1:
        yield from _package(model.packages[0], "    ")
    else:
        yield "    packages:"
        for package in model.packages:
            first, *rest = _package(package, "        ")
            yield f"      - {first.lstrip()}"
            yield from rest


def _package(package: Package, margin: str) -> Iterator[str]:
    """The keys of a package; in a list, the first line carries the dash and so cannot be a comment."""
    listed = len(margin) > 4
    if listed:
        yield _line(f"{margin}id", Noted(package.id, "letters and digits only"))
    for note in package.notes:
        yield from _comment(note, len(margin))
    if package.backend:
        yield _line(f"{margin}backend", Noted(package.backend))
    if package.quantization is not None:
        yield _line(f"{margin}quantization", package.quantization)
    yield f"{margin}files:"
    yield from _files(package.files, margin)


def _files(files: Mapping[str, str], margin: str) -> Iterator[str]:
    for path, source in files.items():
        yield f"{margin}  {value(path)}: {value(source)}"


def _patterns(key: str, patterns: Sequence[Noted]) -> Iterator[str]:
    if patterns:
        yield f"    {key}:"
    for pattern in patterns:
        quoted = '"' + "".join(map(_character, pattern.value)) + '"'
        yield f"      - {quoted}{_behind(pattern.note)}"


def _line(key: str, noted: Noted) -> str:
    return f"{key}: {value(noted.value)}{_behind(noted.note)}"


def _behind(note: str) -> str:
    return f" # {_shortened(note)}" if note else ""


def _comment(note: str, margin: int) -> Iterator[str]:
    yield f"{' ' * margin}# {_shortened(note)}"


def _shortened(note: str) -> str:
    text = printable(note)
    return text if len(text) <= _LONGEST_NOTE else f"{text[:_LONGEST_NOTE]}…"


def _character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"
