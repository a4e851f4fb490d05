"""AIM's own profile files: a folder as AIM keeps it, a folder of a few files, or one file.

* A folder with `custom/`, `general/` or the AIM's own `ORG/MODEL/` in it is searched as AIM does; of any other folder,
  every file below it counts as the AIM's own.
* AIM passes over a file that breaks its rules and takes another profile. Here that is an error, because the next one
  may be of another model.
* Files are read in the order of their names, never in that of a disk, with bounds on number and size.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from bundler.profiles.selection import Place, Profile
from manifests.errors import ManifestError, MissingExtraError, printable
from manifests.manifest import (
    PROFILE_ENGINES,
    PROFILE_GPU_COUNT,
    PROFILE_GPUS,
    PROFILE_METRICS,
    PROFILE_PRECISIONS,
    PROFILE_TYPES,
)

MAXIMUM_SIZE: Final = 256 << 10
"""Bytes of a profile; AIM's own have a thousand."""
MAXIMUM_FILES: Final = 10_000
"""Profiles below one folder."""
_HINT: Final = "AIM would pass over it and take another profile: mend it, or take it away"
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "engine": PROFILE_ENGINES,
    "gpu": PROFILE_GPUS,
    "precision": PROFILE_PRECISIONS,
    "metric": PROFILE_METRICS,
    "type": PROFILE_TYPES,
}


def read(path: Path, *, aim_id: str | None) -> tuple[Profile, ...]:
    """The profiles that AIM finds for `aim_id` (None: the image that is for any model) below `path`, or in that file.

    Errors: `ManifestError`, naming the file; `MissingExtraError` without PyYAML.
    """
    if not path.exists():
        raise ManifestError(f"{path.name}: there is no such folder or file of profiles")
    found = tuple(_profile(file, path, place) for place, file in _files(path, aim_id))
    if not found:
        raise ManifestError(
            f"{path.name}: no profile is in it for {aim_id or 'an image for any model'}",
            hint="profiles are .yaml files, in custom/, ORG/MODEL/ or general/, or all in one folder",
        )
    return found


def repository(source: str) -> str | None:
    """What AIM calls a source, `ORG/MODEL`: a repository of the hub, or the last two parts of a path in a bucket.

    A text without a scheme stands for itself; None for what AIM does not know.
    """
    scheme, mark, rest = source.rpartition("://")
    if not mark:
        return source
    place = rest.partition("#")[0].rstrip("/")
    if scheme == "hf":
        return place.partition("@")[0]
    return "/".join((place.split("/")[1:] or [place])[-2:]) if scheme == "s3" else None


def _files(path: Path, aim_id: str | None) -> list[tuple[Place, Path]]:
    if path.is_file():
        return [(Place.OWN, path)]
    searched = [(Place.CUSTOM, path / "custom"), (Place.GENERAL, path / "general")]
    own = PurePosixPath(aim_id) if aim_id else None
    if own is not None and len(own.parts) > 1:
        searched.insert(1, (Place.OWN, path / own))
    there = [(place, folder) for place, folder in searched if folder.is_dir()] or [(Place.OWN, path)]
    return [(place, file) for place, folder in there for file in _below(folder)]


def _below(folder: Path) -> list[Path]:
    """Every profile below `folder`. Links to folders are not followed; AIM does not either."""
    files: list[Path] = []
    for file in _walked(folder):
        files.append(file)
        if len(files) > MAXIMUM_FILES:
            raise ManifestError(f"{folder.name}: more than {MAXIMUM_FILES} profiles")
    return sorted(files)


def _walked(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder, onerror=_refuse):
        yield from (Path(place, name) for name in names if name.endswith(".yaml"))


def _refuse(error: OSError) -> None:
    """A folder that cannot be read is not passed over: the profiles in it may be the ones that AIM takes."""
    raise ManifestError(f"{Path(error.filename).name}: {error.strerror}") from error


def _profile(file: Path, top: Path, place: Place) -> Profile:
    shown = Path(top.name, file.relative_to(top)) if file != top else Path(file.parent.name, file.name)
    subject = shown.as_posix()
    document = _document(file, subject)
    metadata = _mapping(document, "metadata", subject)
    for name in ("engine_args", "env_vars"):
        _mapping(document, name, subject)
    words = {name: _word(metadata, name, known, subject) for name, known in _WORDS.items()}
    is_general = "general" in shown.parts[:-1]
    aim_id = None if is_general else _text(document, "aim_id", subject)
    model_id = None if is_general else _text(document, "model_id", subject)
    return Profile(
        engine=words["engine"],
        gpu=words["gpu"],
        precision=words["precision"],
        metric=words["metric"],
        type=words["type"],
        id=_id(file, is_custom="custom" in shown.parts[:-1], is_general=is_general, aim_id=aim_id),
        gpu_count=_count(metadata, subject),
        manual_selection_only=_flag(metadata, "manual_selection_only", subject),
        place=place,
        is_general=is_general,
        aim_id=aim_id,
        model=repository(model_id) if model_id else None,
        source=model_id if model_id and "://" in model_id else None,
        origin=subject,
    )


def _id(file: Path, *, is_custom: bool, is_general: bool, aim_id: str | None) -> str:
    """AIM's own name for a profile: what AIM_PROFILE_ID takes."""
    parts = ["custom"] if is_custom else []
    if is_general:
        parts.append("general")
    elif is_custom:
        parts.append(str(aim_id))
    return "/".join([*parts, file.stem])


def _document(file: Path, subject: str) -> Mapping[Any, Any]:
    try:
        from bundler import yaml_document  # noqa: PLC0415 - profiles in a manifest of TOML or JSON work without PyYAML
    except ModuleNotFoundError as error:
        raise MissingExtraError("PyYAML", "build") from error
    value = yaml_document.parse(_read(file, subject), subject=printable(subject)).value
    if not isinstance(value, Mapping):
        raise ManifestError(f"{subject}: not a profile: it is no mapping", hint=_HINT)
    return value


def _read(file: Path, subject: str) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAXIMUM_SIZE + 1)
    except OSError as error:
        raise ManifestError(f"{subject}: {error.strerror}") from error
    if len(content) > MAXIMUM_SIZE:
        raise ManifestError(f"{subject}: more than {MAXIMUM_SIZE} bytes, which no profile needs")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{subject}: not UTF-8 text", hint=_HINT) from error


def _mapping(document: Mapping[Any, Any], name: str, subject: str) -> Mapping[Any, Any]:
    value = document.get(name)
    if not isinstance(value, Mapping):
        raise ManifestError(f"{subject}: `{name}` is missing, or no mapping", hint=_HINT)
    return value


def _word(metadata: Mapping[Any, Any], name: str, known: tuple[str, ...], subject: str) -> str:
    value = metadata.get(name)
    if value not in known:
        words = "one of " + ", ".join(known)
        raise ManifestError(f"{subject}: `metadata.{name}` is {value!r}", hint=f"{words}. {_HINT}")
    return str(value)


def _text(document: Mapping[Any, Any], name: str, subject: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise ManifestError(f"{subject}: `{name}` is missing, or no text", hint=_HINT)
    return value


def _count(metadata: Mapping[Any, Any], subject: str) -> int:
    value = metadata.get("gpu_count")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= PROFILE_GPU_COUNT:
        raise ManifestError(f"{subject}: `metadata.gpu_count` is {value!r}", hint=f"0 to {PROFILE_GPU_COUNT}. {_HINT}")
    return value


def _flag(metadata: Mapping[Any, Any], name: str, subject: str) -> bool:
    value = metadata.get(name)
    if not isinstance(value, bool):
        raise ManifestError(f"{subject}: `metadata.{name}` is {value!r}, and not true or false", hint=_HINT)
    return value
