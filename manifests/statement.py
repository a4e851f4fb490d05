"""The statement: what the signers of a bundle claim. An in-toto statement whose subject is the index."""

from dataclasses import dataclass
from typing import Final

from manifests import canonical
from manifests.digest import Digest
from manifests.errors import FormatError, UnsupportedFormatError
from manifests.index import FORMAT, Index
from manifests.manifest import Struct

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
MAXIMUM_SIZE: Final = 8 << 10
_TYPE: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "urn:offline-bundle:bundle:v1"


class _Predicate(Struct, frozen=True):
    content: str
    format: int
    index_size: int
    line: str
    sequence: int


class _Subject(Struct, frozen=True):
    digest: dict[str, str]
    name: str


class _Statement(Struct, frozen=True, rename={"type_": "_type", "predicate_type": "predicateType"}):
    type_: str
    predicate: _Predicate
    predicate_type: str
    subject: tuple[_Subject, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One index, by digest and size; and what it must say of itself."""

    line: str
    sequence: int
    content: Digest
    index: Digest
    index_size: int

    @classmethod
    def of(cls, index: Index) -> "Statement":
        """The statement about `index`."""
        carried = index.content
        return cls(carried.line, carried.sequence, index.content_digest, Digest.of(index.raw), len(index.raw))


def encode(statement: Statement) -> bytes:
    """The payload, canonical."""
    return canonical.encode(
        _Statement(
            type_=_TYPE,
            predicate=_Predicate(
                content=str(statement.content),
                format=FORMAT,
                index_size=statement.index_size,
                line=statement.line,
                sequence=statement.sequence,
            ),
            predicate_type=_PREDICATE,
            subject=(_Subject(digest={"sha256": statement.index.hex}, name="index"),),
        )
    )


def decode(payload: bytes) -> Statement:
    """The statement in `payload`; `FormatError` if it is none of ours."""
    parsed = canonical.decode_as(payload, _Statement, limit=MAXIMUM_SIZE, subject="statement")
    if parsed.type_ != _TYPE or parsed.predicate_type != _PREDICATE or parsed.predicate.format != FORMAT:
        raise UnsupportedFormatError("the statement is of another type or format: bring a newer program")
    statement = Statement(
        line=parsed.predicate.line,
        sequence=parsed.predicate.sequence,
        content=Digest.parse(parsed.predicate.content),
        index=Digest.parse("sha256:" + (parsed.subject[0].digest.get("sha256", "") if parsed.subject else "")),
        index_size=parsed.predicate.index_size,
    )
    if encode(statement) != payload:
        raise FormatError("the statement says more than a statement may")
    return statement
