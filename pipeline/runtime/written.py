"""What this program wrote into a folder, as a list in that folder: it alone decides what is replaced or removed there.

Invariants: a line is in the list before what it names is written. A file is ours if it is listed; one that is replaced
as a whole has its SHA-256 there, and is nobody's but the user's once it was edited. A folder is ours, with all that is
in it, if it is the very one that was made here, by its inode: no copy, and none of that name that came later. What is
not ours is neither opened for writing nor removed; a name of ours that it occupies is refused before anything is lost.

Several processes may write the list; a kill leaves at most a name in it whose file was never made."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from pipeline.errors import RunFolderError, UserError
from pipeline.runtime import jsonl
from pipeline.runtime.files import write_atomic
from pipeline.types import Record

LIST = "lanpo_files.jsonl"
MAX_NAMED = 5
Recognise = Callable[[Path], bool]


class Line(Record):
    """A file that is listed, by its path within the folder, or a whole folder, by its inode."""

    path: str
    sha256: str | None = None
    inode: int | None = None
    gone: bool = False
    """It was removed: the next folder of that name may get its inode."""


class Written:
    """The list of one folder, which need not exist yet. It is read anew at each question: it is short."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._list = folder / LIST

    @property
    def is_there(self) -> bool:
        """Whether this program has written here. Raises RunFolderError for a list that is none."""
        return bool(self._lines())

    def is_listed(self, name: str) -> bool:
        return any(line.path == name for line in self._lines())

    def owns(self, name: str) -> bool:
        """Whether the file `name` is there, and is what this program wrote."""
        path = self.folder / name
        if path.is_symlink() or not path.is_file():
            return False
        digests = [line.sha256 for line in self._lines() if line.path == name and line.inode is None]
        return bool(digests) and (None in digests or _digest(path.read_bytes()) in digests)

    def in_the_way(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are there, and were not written here."""
        return [name for name in names if _exists(self.folder / name) and not self.owns(name)]

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
        known = {line.path for line in self._lines() if line.sha256 is None and line.inode is None}
        for name in names:
            if name not in known:
                self._add(Line(path=name))

    def write(self, name: str, content: str | bytes, option: str = "") -> None:
        """Replace the file `name` as a whole. Raises RunFolderError when it is somebody else's, DiskError."""
        content = content.encode() if isinstance(content, str) else content
        self.check(name, option=option)
        self._add(Line(path=name, sha256=_digest(content)))
        write_atomic(self.folder / name, content)

    def adopt(self, name: str, is_ours: Recognise, *, replaced: bool = False) -> bool:
        """List a file that a version without a list wrote, if it is what it should be; whether it is. One that is
        `replaced` as a whole is ours as it is now."""
        path = self.folder / name
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
            if path.is_file() and not path.is_symlink() and is_ours(path):
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
                remove_files(self.folder, [name])
        left = [line.model_dump_json(exclude_none=True) + "\n" for line in lines if line.path in kept]
        write_atomic(self._list, "".join(left))

    # Folders

    def make_folder(self, name: str) -> Path:
        """A new folder, which is ours with all that will be in it. Raises FileExistsError."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
        self._add(Line(path=name, inode=path.stat().st_ino))
        return path

    def rename_folder(self, name: str, to: str) -> None:
        """Give a folder of ours another name, which nothing has. Raises OSError."""
        path = self.folder / name
        self._add(Line(path=to, inode=path.stat().st_ino))
        path.rename(self.folder / to)

    def owns_folder(self, name: str) -> bool:
        path = self.folder / name
        if path.is_symlink() or not path.is_dir():
            return False
        lines = [line for line in self._lines() if line.path == name and line.inode is not None]
        return bool(lines) and not lines[-1].gone and lines[-1].inode == path.stat().st_ino

    def remove_folder(self, name: str) -> bool:
        """Remove a folder of ours with all that is in it; whether it was one."""
        if not self.owns_folder(name):
            return False
        inode = (self.folder / name).stat().st_ino
        shutil.rmtree(self.folder / name)
        self._add(Line(path=name, inode=inode, gone=True))
        return True

    def _lines(self) -> list[Line]:
        try:
            lines = [Line.model_validate_json(line) for line in jsonl.whole_lines(self._list)]
        except ValidationError as error:
            raise RunFolderError(
                f"{self._list} is no list of files that lanpo wrote; move it away, or choose another folder"
            ) from error
        # A list that somebody made cannot reach out of the folder.
        return [line for line in lines if not Path(line.path).is_absolute() and ".." not in Path(line.path).parts]

    def _add(self, line: Line) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        jsonl.append(self._list, line.model_dump_json(exclude_none=True))


def remove_files(folder: Path, names: Iterable[str]) -> list[Path]:
    """Remove these files of `folder` in their order, then the folders that are empty. Return what is left in it."""
    parents: set[Path] = set()
    for name in names:
        (folder / name).unlink(missing_ok=True)
        parents.update((folder / name).relative_to(folder).parents)
    for parent in sorted(parents, key=lambda one: len(one.parts), reverse=True):
        if parent.parts:
            with suppress(OSError):
                (folder / parent).rmdir()
    return sorted(folder.iterdir()) if folder.is_dir() else []


def remove_listed_folder(folder: Path, names: Iterable[str]) -> bool:
    """As `remove_files`, and `folder` itself where nothing is left in it; whether it is gone."""
    if remove_files(folder, names):
        return False
    folder.rmdir()
    return True


def listed(names: Iterable[str]) -> str:
    """The first few of `names`, for the user."""
    several = list(names)
    more = f" and {len(several) - MAX_NAMED} more" if len(several) > MAX_NAMED else ""
    return ", ".join(several[:MAX_NAMED]) + more


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
