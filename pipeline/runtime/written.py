"""What this program wrote into a folder, as a list in that folder: it alone decides what is replaced or removed there.

Invariants: a line is in the list before what it names is written. A file is ours if it is listed; one that is replaced
as a whole has its SHA-256 there, and is nobody's but the user's once it was edited. A folder is ours, with all that is
in it, if it is the very one that was made here, by device and inode: no copy, and none of that name that came later.
Where its manifest is listed, only what the manifest names is, and is as it says: that holds for a copy of the list and
the folder too. What was removed is listed as gone: what comes by its name later is the user's. No name leads out of the
folder of the list: none with "..", none by way of a link. What is not ours is neither opened for writing nor removed; a
name of ours that it occupies is refused before anything is lost.

Several processes may write the list; a kill leaves at most a name in it whose file was never made."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import RunFolderError, UserError
from pipeline.runtime import jsonl
from pipeline.runtime.files import write_atomic
from pipeline.types import Record

LIST = "lanpo_files.jsonl"
MAX_NAMED = 5
SMALL_FILE_BYTES = 1 << 20
Recognise = Callable[[Path], bool]


class Line(Record):
    """A file that is listed, by its path within the folder, or a whole folder, by its inode; `by` the command that may
    write there."""

    path: str
    sha256: str | None = None
    inode: int | None = None
    device: int | None = None
    gone: bool = False
    """It was removed: the next folder of that name may get its inode."""
    by: str | None = None


class Fingerprint(Record):
    """What a manifest says of a file; nothing, where it is None."""

    size: int | None = None
    sha256: str | None = None


class Written:
    """The list of one folder, which need not exist yet. It is read anew at each question: it is short.

    Where `by` is given, the folder is that command's alone, and every question raises RunFolderError for one of another
    command, or for a list that is none."""

    def __init__(self, folder: Path, by: str | None = None) -> None:
        self.folder = folder
        self._list = folder / LIST
        self._by = by

    @property
    def is_there(self) -> bool:
        """Whether this program has written here."""
        return bool(self._lines())

    def is_listed(self, name: str) -> bool:
        return bool(self._lines_of(name))

    def owns(self, name: str) -> bool:
        """Whether the file `name` is there, and is what this program wrote."""
        path, digests = self._inside(name), [line.sha256 for line in self._lines_of(name) if line.inode is None]
        if path is None or not path.is_file():
            return False
        return bool(digests) and (None in digests or _digest(path.read_bytes()) in digests)

    def in_the_way(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are there, and were not written here, or that a link leads elsewhere."""
        return [
            name
            for name in names
            if not self.owns(name) and (self._inside(name) is None or os.path.lexists(self.folder / name))
        ]

    def check(self, *names: str, option: str = "") -> None:
        """Raise RunFolderError when one of `names` is somebody else's; nothing is written."""
        if found := self.in_the_way(names):
            raise RunFolderError(
                f"{option or self.folder}: {listed(found)} in {self.folder} was written, or changed, by somebody else, "
                f"and would be replaced; move it away, or choose another folder"
            )

    def claim(self, *names: str, option: str = "") -> None:
        """List files that are about to be written, and that only this program writes. Raises RunFolderError when one of
        them is somebody else's, DiskError."""
        self.check(*names, option=option)
        known = {line.path for line in self._lines() if line.sha256 is None and line.inode is None and not line.gone}
        for name in names:
            if name not in known:
                self._add(Line(path=name))

    def write(self, name: str, content: str | bytes, option: str = "") -> None:
        """Replace the file `name` as a whole. Raises RunFolderError when it is somebody else's, DiskError."""
        self.check(name, option=option)
        self.expect(name, content)
        write_atomic(self.folder / name, content)

    def expect(self, name: str, content: str | bytes) -> None:
        """List a file that is going to be there with this content, but is not written by its name. Raises DiskError."""
        self._add(Line(path=name, sha256=_digest(content.encode() if isinstance(content, str) else content)))

    def adopt(self, name: str, is_ours: Recognise, *, replaced: bool = False) -> bool:
        """List a file that a version without a list wrote, if it is what it should be; whether it is. One that is
        `replaced` as a whole is ours as it is now."""
        path = self._inside(name)
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
            if path is not None and path.is_file() and is_ours(path):
                self._add(Line(path=name, sha256=_digest(path.read_bytes()) if replaced else None))
                return True
        return False

    def remove_all(self, keep: Iterable[str] = ()) -> None:
        """Remove every file and folder that is ours, but `keep`, and folders that are empty then. They are listed no
        longer: a file of such a name is somebody else's from now on."""
        kept, lines = set(keep), self._lines()
        for name in dict.fromkeys(line.path for line in lines):
            if name in kept:
                continue
            self.remove_folder(name)
            if self.owns(name):
                self._remove_files([name])
        left = [line.model_dump_json(exclude_none=True) + "\n" for line in lines if line.path in kept]
        write_atomic(self._list, "".join(left))

    # Folders

    def make_folder(self, name: str) -> Path:
        """A new folder, which is ours with all that will be in it. Raises FileExistsError, DiskError."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
        try:
            self._add(_folder_line(name, path))
        except Exception:
            path.rmdir()
            raise
        return path

    def rename_folder(self, name: str, to: str) -> None:
        """Give a folder of ours another name, which nothing has. Raises OSError."""
        path = self.folder / name
        self._add(_folder_line(to, path))
        path.rename(self.folder / to)

    def owns_folder(self, name: str) -> bool:
        path = self._inside(name)
        lines = [line for line in self._lines_of(name) if line.inode is not None]
        if path is None or not path.is_dir() or not lines:
            return False
        found = path.stat()
        return (lines[-1].inode, lines[-1].device or found.st_dev) == (found.st_ino, found.st_dev)

    def was_written(self, name: str, manifest: str, content: Callable[[], str]) -> bool:
        """Whether nobody but this program wrote in the folder `name`, which has no manifest: it was never to have any
        since it was made, or the one with this `content`."""
        digests: list[str | None] = []
        for line in self._lines():
            if line.path == name and line.inode is not None:
                digests = []
            elif line.path == f"{name}/{manifest}":
                digests = [] if line.gone else [*digests, line.sha256]
        return not digests or _digest(content().encode()) in digests

    def remove_folder(self, name: str) -> bool:
        """Remove a folder of ours with all that is in it; whether it was one."""
        if not self.owns_folder(name):
            return False
        shutil.rmtree(self.folder / name)
        self._add(Line(path=name, gone=True))
        return True

    def remove_manifested(self, name: str, manifest: str, read: Callable[[Any], Mapping[str, Fingerprint]]) -> bool:
        """Remove what the `manifest` of the folder `name` names, as far as both are as they were written; whether the
        folder is gone then. The manifest goes last: what is left by a kill is not whole. `read` gets its JSON."""
        file = f"{name}/{manifest}"
        if not self.owns(file):
            return False
        files = read(json.loads((self.folder / file).read_text(encoding="utf-8")))
        # First: what is left in the folder, it too, is the user's once the manifest is gone.
        self._add(Line(path=name, gone=True))
        self._remove_files([f"{name}/{one}" for one, said in files.items() if self._is(f"{name}/{one}", said)])
        self._remove_files([file])
        self._add(Line(path=file, gone=True))
        return not os.path.lexists(self.folder / name)

    def _is(self, name: str, said: Fingerprint) -> bool:
        """Whether a file is as a manifest says: by its size, and by its content where that is small or its size is not
        known."""
        path = self._inside(name)
        if path is None or not path.is_file():
            return False
        size = path.stat().st_size
        if said.size is not None and (said.size != size or size > SMALL_FILE_BYTES):
            return said.size == size
        with path.open("rb") as file:
            return said.sha256 == hashlib.file_digest(file, "sha256").hexdigest()

    def _remove_files(self, names: Iterable[str]) -> None:
        """Remove these files, then the folders that are empty."""
        parents: set[Path] = set()
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
            parents.update(Path(name).parents)
        for parent in sorted(parents, key=lambda one: len(one.parts), reverse=True):
            if parent.parts:
                with suppress(OSError):
                    (self.folder / parent).rmdir()

    def _inside(self, name: str) -> Path | None:
        """The path of `name`, or None where it leads out of the folder."""
        path, parts = self.folder, Path(name).parts
        if not parts or Path(name).is_absolute() or ".." in parts:
            return None
        for part in parts:
            path /= part
            if path.is_symlink():
                return None
        return path

    def _lines(self) -> list[Line]:
        lines, torn = [], False
        is_odd = self._list.is_symlink() or (self._list.exists() and not self._list.is_file())
        for line in () if is_odd else jsonl.whole_lines(self._list):
            try:
                lines.append(Line.model_validate_json(line))
            except ValidationError:  # a full disk took a part of it, and what it was to name was not written
                torn = True
        if (torn and not lines) or is_odd:
            raise RunFolderError(
                f"{self._list} is no list of files that lanpo wrote; move it away, or choose another folder"
            )
        for by in {line.by for line in lines} - {None, self._by}:
            if self._by:
                raise RunFolderError(
                    f"{self.folder} is the folder of a command `{by}`, and `{self._by}` has files of the same names; "
                    "choose another folder, a new one or an empty one"
                )
        # A list that somebody made cannot reach out of the folder.
        return [line for line in lines if not Path(line.path).is_absolute() and ".." not in Path(line.path).parts]

    def _lines_of(self, name: str) -> list[Line]:
        """Those since it was removed last."""
        found: list[Line] = []
        for line in self._lines():
            if line.path == name:
                found = [] if line.gone else [*found, line]
        return found

    def _add(self, line: Line) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        line = line.model_copy(update={"by": self._by})
        jsonl.append(self._list, ("" if self._ends_whole() else "\n") + line.model_dump_json(exclude_none=True))

    def _ends_whole(self) -> bool:
        """Whether there is no part of a line at the end, which a full disk leaves."""
        if not self._list.exists() or not self._list.stat().st_size:
            return True
        with self._list.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"


def make_folder(folder: Path, option: str) -> None:
    """Make `folder`, which may be there. Raises RunFolderError where it cannot be one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"{option} {folder}: the folder cannot be made ({error.strerror}); choose another one"
        ) from error


def listed(names: Iterable[str]) -> str:
    """The first few of `names`, for the user."""
    several = list(names)
    more = f" and {len(several) - MAX_NAMED} more" if len(several) > MAX_NAMED else ""
    return ", ".join(several[:MAX_NAMED]) + more


def _folder_line(name: str, path: Path) -> Line:
    found = path.stat()
    return Line(path=name, inode=found.st_ino, device=found.st_dev)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
