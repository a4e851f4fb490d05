"""YAML as a manifest may use it: plain values, each key once, and every key path knows its line.

* Only plain values: strings, numbers, lists, mappings. No tag makes an object.
* Aliases are followed, but what they unfold to is bounded, and one that contains itself is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from manifests.errors import ManifestError

MAXIMUM_NODES: Final = 100_000
"""Values in a manifest, after all aliases are unfolded."""
_MERGE: Final = "tag:yaml.org,2002:merge"
_ANY: Final = "[...]"
"""What a key path says where it does not tell which key of a mapping it means."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a text says (`value`), and the tree that it was read from."""

    value: object
    root: Node | None

    def line_of(self, facts: Mapping[str, str]) -> int | None:
        """The line, from 1, of the key path in the fact `key`, or of the key in the fact `unknown` below it."""
        if self.root is None:
            return None
        line, node = _descend(self.root, facts.get("key", "$").removeprefix("$"))
        if "unknown" in facts and (found := _line_of_key(node, facts["unknown"])) is not None:
            return found
        return line


def parse(text: str, *, subject: str) -> Document:
    """The document in `text`. Errors: `ManifestError` with `subject` and the line."""
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return Document(None, None)
        _check(root, subject, {}, set())
        return Document(_constructed(loader, root, subject), root)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ManifestError(f"{subject}{line}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ManifestError(f"{subject}: not valid YAML: {error}".replace("\n", " ")) from error
    except RecursionError as error:
        raise ManifestError(f"{subject}: nested too deeply") from error


def _constructed(loader: yaml.SafeLoader, root: Node, subject: str) -> object:
    try:
        return loader.construct_document(root)
    except (AttributeError, LookupError, TypeError) as error:  # what PyYAML's constructors do with `!!bool maybe`
        raise ManifestError(f"{subject}: not valid YAML: a value is not what its tag says") from error


def _check(node: Node, subject: str, sizes: dict[int, int], above: set[int]) -> int:
    """The number of values that `node` unfolds to; refused if too many, endless, or with a key twice."""
    if id(node) in sizes:
        return sizes[id(node)]
    if id(node) in above:
        raise ManifestError(f"{subject}:{_line(node)}: an alias that contains itself")
    above.add(id(node))
    if isinstance(node, MappingNode):
        _refuse_duplicates(node, subject)
    size = 1 + sum(_check(child, subject, sizes, above) for child in _children(node))
    if size > MAXIMUM_NODES:
        raise ManifestError(f"{subject}:{_line(node)}: unfolds to more than {MAXIMUM_NODES} values")
    above.discard(id(node))
    sizes[id(node)] = size
    return size


def _refuse_duplicates(node: MappingNode, subject: str) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, ScalarNode) or key.tag == _MERGE:
            continue
        if key.value in lines:
            raise ManifestError(
                f"{subject}:{_line(key)}: the key `{key.value}` is there already, in line {lines[key.value]}"
            )
        lines[key.value] = _line(key)


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _descend(root: Node, path: str) -> tuple[int, Node]:
    """As deep as `path` (`.models[0].files.weights.onnx`) leads, and the line there.

    A step that the text does not have is passed over: short forms leave out `packages[0]`, and a path may say `[...]`.
    """
    line, node = _line(root), root
    while path:
        if step := _step(node, path):
            line, node, path = step
        else:
            path = re.sub(r"^(\.[^.\[]*|\[[^\]]*\]?|.)", "", path)
    return line, node


def _step(node: Node, path: str) -> tuple[int, Node, str] | None:
    """One step: the line that it leads to, the node there, and the rest of the path."""
    if isinstance(node, SequenceNode) and (match := re.match(r"\[(\d+)\]", path)):
        place = int(match[1])
        if place < len(node.value):
            child = node.value[place]
            return _line(child), child, path[match.end() :]
    if isinstance(node, MappingNode) and path.startswith(_ANY):
        steps = [step for _, child in node.value if (step := _step(child, path[len(_ANY) :]))]
        return steps[0] if len(steps) == 1 else None
    if isinstance(node, MappingNode):
        for key, child in sorted(node.value, key=lambda pair: -len(str(pair[0].value))):
            name = f".{key.value}"
            if isinstance(key, ScalarNode) and path.startswith(name) and path[len(name) :][:1] in {"", ".", "["}:
                return _line(key), child, path[len(name) :]
    return None


def _line_of_key(node: Node, name: str) -> int | None:
    """The line of the first key called `name` in or below `node`."""
    if isinstance(node, MappingNode):
        for key, _ in node.value:
            if isinstance(key, ScalarNode) and key.value == name:
                return _line(key)
    return next((line for child in _children(node) if (line := _line_of_key(child, name)) is not None), None)


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1
