"""Bytes of a policy file: two parts in a folder or a zip, written whole or not at all, read with every size checked.

Zips are read in memory and never unpacked, so that a member cannot be written anywhere.
"""

from __future__ import annotations

import difflib
import io
import os
import shutil
import stat
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from policykd.agents.files.manifest import MAX_PARAMETERS
from policykd.errors import OutputError, PolicyFileError
from policykd.storage import ZIP_DAMAGE, write_bytes

WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"
MAX_MANIFEST_BYTES = 1_000_000
MAX_WEIGHTS_BYTES = 4 * MAX_PARAMETERS + 1_000_000


def read_parts(path: Path) -> tuple[bytes, bytes]:
    """Return the bytes of the manifest and of the weights.

    Args:
        path: a policy folder, a ``.zip`` of one, or a run folder that holds one named ``policy``.

    Raises:
        PolicyFileError: for a path that is missing (with close matches), foreign, too large, or unsafe.
    """
    if path.is_dir() and not (path / MANIFEST).exists() and (path / "policy").is_dir():
        path = path / "policy"
    if path.is_file():
        return _zip_contents(path)
    return _folder_contents(path)


def _hint(path: Path) -> str:
    """Return a hint at files next to a missing one that have a similar name."""
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    names = [name for name in siblings if name[0] != "."]
    close = [f"{path.name}.zip"] if f"{path.name}.zip" in names else difflib.get_close_matches(path.name, names, 3, 0.5)
    return f"; did you mean {' or '.join(str(path.with_name(name)) for name in close)}?" if close else ""


def _folder_contents(path: Path) -> tuple[bytes, bytes]:
    """Return both parts of the same policy, even while :func:`_write_folder` replaces it or after it was killed."""
    for _ in range(20):
        place = path if path.is_dir() else _previous(path)
        before = _identity(place)
        if before is None:  # missing, or renamed after the line above
            continue
        try:
            contents = _read(place / MANIFEST, MAX_MANIFEST_BYTES), _read(place / WEIGHTS, MAX_WEIGHTS_BYTES)
        except (PolicyFileError, FileNotFoundError):
            if _identity(place) == before:
                raise
        else:
            if _identity(place) == before:
                return contents
    if path.exists():
        raise PolicyFileError("it is neither a folder nor a regular file")
    raise PolicyFileError(f"there is no such policy file{_hint(path)}")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the identity and state of the folder at a path; None if there is none."""
    try:
        info = path.stat()
    except FileNotFoundError:
        return None
    return info.st_ino, info.st_ctime_ns  # an inode alone may be that of an earlier folder


def _read(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes."""
    try:
        info = path.lstat()
    except FileNotFoundError:
        raise PolicyFileError(f"it has no {path.name}, so it is not a policy file") from None
    if not stat.S_ISREG(info.st_mode):
        raise PolicyFileError(f"its {path.name} is a link or not a regular file")
    if info.st_size > limit:
        raise PolicyFileError(f"its {path.name} has {info.st_size:,} bytes; at most {limit:,} are allowed")
    return path.read_bytes()


def _zip_contents(path: Path) -> tuple[bytes, bytes]:
    if path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise PolicyFileError(f"it has {path.stat().st_size:,} bytes; at most {MAX_WEIGHTS_BYTES:,} are allowed")
    try:
        with zipfile.ZipFile(path) as archive:
            members = _checked_members(archive.infolist())
            return tuple(_inflate(archive, members[name]) for name in (MANIFEST, WEIGHTS))  # type: ignore[return-value]
    except ZIP_DAMAGE as error:
        raise PolicyFileError(f"it is neither a policy folder nor a readable zip of one ({error})") from None


def _checked_members(members: Sequence[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the two members of a zipped policy by name; they may be in one common folder."""
    for member in members:
        name = member.filename
        if name.startswith(("/", "\\")) or "\\" in name or ":" in name or ".." in PurePosixPath(name).parts:
            raise PolicyFileError(f"its member {name!r} points out of the archive")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise PolicyFileError(f"its member {name!r} is a link")
    files = [member for member in members if not member.is_dir()]
    names = [PurePosixPath(member.filename) for member in files]
    if any(name.suffix in (".pkl", ".pth", ".pt") for name in names):
        raise PolicyFileError("it is a model of another library (stable-baselines3 or PyTorch), not a policy file")
    if sorted(name.name for name in names) != [MANIFEST, WEIGHTS] or len({name.parent for name in names}) != 1:
        found = ", ".join(str(name) for name in names[:5])
        raise PolicyFileError(f"it must hold {MANIFEST} and {WEIGHTS} and nothing else; found {found or 'nothing'}")
    for member in files:
        limit = MAX_MANIFEST_BYTES if member.filename.endswith(MANIFEST) else MAX_WEIGHTS_BYTES
        if member.file_size > limit:
            raise PolicyFileError(f"its {member.filename} unpacks to {member.file_size:,} bytes; {limit:,} are allowed")
    return {PurePosixPath(member.filename).name: member for member in files}


def _inflate(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:  # reads at most the declared size, which was checked, and verifies the CRC
        return file.read(member.file_size + 1)


def write_parts(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write a policy file atomically.

    Args:
        path: a folder, or a ``.zip``. Parents are created.
        contents: file name to content.

    Raises:
        OutputError: if the place cannot be written, or holds anything but a policy.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".zip":
            write_bytes(path, _zipped(contents))
        else:
            _write_folder(path.resolve() if path.is_symlink() else path, contents)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write the policy {path}: {error.strerror or error}") from None


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # a fixed date: equal policies give equal files
    return buffer.getvalue()


def _previous(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")


def _write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write a folder next to ``path`` and rename it to ``path``.

    A folder cannot replace a full one by renaming, so the old one is renamed first. After a kill between the two,
    ``path`` is missing and the old policy is at ``_previous(path)``, where :func:`load_policy` finds it.
    """
    temporary, previous = path.with_name(f".{path.name}.saving"), _previous(path)
    if path.exists() and not (path.is_dir() and {entry.name for entry in path.iterdir()} <= contents.keys()):
        raise OutputError(f"{path} is not a policy and is kept; save to another place, such as {path / 'policy'}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for name, content in contents.items():
        write_bytes(temporary / name, content)
    _sync_folder(temporary)
    if path.exists():
        shutil.rmtree(previous, ignore_errors=True)
        path.rename(previous)
    temporary.rename(path)
    _sync_folder(path.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
