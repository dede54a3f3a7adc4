"""Writes files as a whole: at any moment a file has its old or its new contents, never a mixture."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "CheckpointError",
    "expect_own_links",
    "expect_writable",
    "reserve",
    "save_somewhere",
    "shown_path",
    "sync_folder",
    "user_path",
    "write_atomically",
]

_StrPath = str | os.PathLike[str]


class CheckpointError(ValueError):
    """A file cannot be read, written or used. The message is one line that names the file and the reason."""


def user_path(path: _StrPath) -> Path:
    """Returns the path with a leading ~ replaced by the home folder. Raises TypeError or ValueError if it is no file name."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"a file's name expects a str or a Path, got {type(text).__name__}")
    if "\0" in text:
        raise ValueError(f"a file's name expects no NUL character, got {text!r}")
    return Path(os.path.expanduser(text))


def shown_path(path: _StrPath) -> str:
    """Returns the path as text for an error message, at most 200 characters of it."""
    text = str(path)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


# --- what can be written -------------------------------------------------------------------------------------------------


def _cannot_be_written(path: Path, error: OSError) -> CheckpointError:
    if isinstance(error, PermissionError):
        return CheckpointError(f"{shown_path(path)}: no permission to write in {shown_path(path.parent)}")
    return CheckpointError(f"{shown_path(path)}: cannot be written ({error.strerror or error})")


def _status(path: Path) -> os.stat_result | None:
    """The status of the file at a path, links followed; None if there is no file."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_protected(path: Path, status: os.stat_result) -> bool:
    """Whether the file is read-only for everyone, or for this process. Root obeys the mode too."""
    return not status.st_mode & 0o222 or not os.access(path, os.W_OK)


def expect_own_links(path: Path) -> None:
    """Raises CheckpointError if a path is a link that another user laid, who could choose by it which file is written.

    A link may belong to this user, to root, or to the owner of its folder, as Linux has it with fs.protected_symlinks, which
    not every system sets. Links to the folders before the last name are not looked at.
    """
    place = Path(os.path.abspath(path))
    for _ in range(40):  # as many as Linux follows
        try:
            link = os.lstat(place)
            if not stat.S_ISLNK(link.st_mode):
                return
            owners = {os.geteuid(), 0, os.stat(place.parent).st_uid}
            if link.st_uid not in owners:
                raise CheckpointError(f"{shown_path(path)}: is a link of another user; remove it, or choose another name")
            place = place.parent / os.readlink(place)
        except OSError:
            return  # there is no such file; what is wrong comes out when it is written


def _target(path: Path, *, as_a_whole: bool = True) -> tuple[Path, os.stat_result | None]:
    """The file that a path refers to, links followed, and its status (None for a new file).

    Raises CheckpointError if it cannot be written, or, with as_a_whole, cannot be replaced.
    """
    try:
        target = Path(os.path.realpath(path))
        expect_own_links(path)
    except FileNotFoundError:
        raise CheckpointError(f"{shown_path(path)}: the working folder is gone; give a full path") from None
    status = _status(path)
    if status is None:
        parent = target.parent if path.is_symlink() else path.parent
        if not parent.is_dir():
            raise CheckpointError(f"{shown_path(path)}: there is no folder {shown_path(parent)}")
    elif stat.S_ISDIR(status.st_mode):
        raise CheckpointError(f"{shown_path(path)}: is a folder")
    elif as_a_whole and not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{shown_path(path)}: not a file that could be replaced")
    elif _is_protected(path, status):
        raise CheckpointError(f"{shown_path(path)}: no permission to write to it; make it writable, or choose another name")
    return target, status


def expect_writable(path: _StrPath, *, as_a_whole: bool = True) -> None:
    """Check before hours of work that a file can be written there. Raises CheckpointError if not.

    as_a_whole: the file will be replaced. Otherwise it is written in place, and may be a device or a pipe.
    """
    path = user_path(path)
    try:
        target, status = _target(path, as_a_whole=as_a_whole)
        if as_a_whole or status is None:
            with _temporary_file(target):
                pass
    except OSError as error:
        raise _cannot_be_written(path, error) from None


# --- replacing a file ----------------------------------------------------------------------------------------------------


def write_atomically(path: _StrPath, data: bytes) -> None:
    """Replace a file as a whole: at any moment, even in a power cut or with other writers, it is the old one or the new one.

    The data are written under a temporary name in the same folder, synced and renamed; then the folder is synced. Symbolic
    links are followed, and the new file keeps the mode of the old one. Raises CheckpointError if the file cannot be written.
    """
    path = user_path(path)
    try:
        target, status = _target(path)
        with _temporary_file(target) as (descriptor, temporary):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if status is not None:
                with contextlib.suppress(OSError):  # a file system without modes
                    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            os.fsync(descriptor)
            os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise _cannot_be_written(path, error) from None


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that a new name in it survives a power cut. Does nothing where folders cannot be opened or synced."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # as of CIFS and some FUSE file systems
            raise
    finally:
        os.close(descriptor)


def _short(name: str) -> str:
    """The first 64 bytes of a name, so that a longer name made from it is valid on every file system."""
    return os.fsdecode(os.fsencode(name)[:64])


@contextmanager
def _temporary_file(target: Path) -> Iterator[tuple[int, Path]]:
    """The descriptor and the path of a new file beside the target. The file is removed at the end unless it was renamed.

    Its name is unique and the file is locked: if another process finds it unlocked, its writer is dead.
    """
    _sweep(target)
    while True:
        temporary = target.with_name(f".{_short(target.name)}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not temporary.exists():  # another process swept it before it was locked
                continue
            yield descriptor, temporary
            return
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            os.close(descriptor)


def _sweep(target: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote this target."""
    leftover = re.compile(re.escape(f".{_short(target.name)}.") + r"\d+\.[0-9a-f]{8}\.tmp")
    with contextlib.suppress(OSError):  # a folder that can be written but not listed
        for name in os.listdir(target.parent):
            if leftover.fullmatch(name):
                _remove_if_abandoned(target.with_name(name))


def _remove_if_abandoned(path: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(descriptor)


# --- names ---------------------------------------------------------------------------------------------------------------


def _claim(path: Path) -> Path:
    """Create an empty file of that name, or with -2, -3, ... before the suffix. No other process gets the same file."""
    number = 1
    while True:
        free = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            os.close(os.open(free, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
            return free
        except FileExistsError:
            number += 1


def _places() -> Iterator[Path]:
    """The folders to try for a file that has no other place: the current one, the home folder, the temporary folder."""
    yield Path()
    with contextlib.suppress(RuntimeError):  # there is no home folder
        yield Path.home()
    with contextlib.suppress(OSError):  # no temporary folder can be written
        yield Path(tempfile.gettempdir())


def save_somewhere(save: Callable[[Path], None], name: str) -> Path:
    """Save a file in the first folder that works: the current one, the home folder, the temporary folder. Returns its path.

    save: a function that writes a file at a path. name: the file's name; -2, -3, ... is added if it is taken. Raises
    CheckpointError, with the reason of each folder, if all fail.
    """
    reasons = []
    for folder in _places():
        try:
            path = _claim(folder / name)
        except OSError as error:
            reasons.append(str(_cannot_be_written(folder / name, error)))
            continue
        try:
            save(path)
            return path
        except BaseException as error:
            with contextlib.suppress(OSError):
                path.unlink()
            if not isinstance(error, CheckpointError):
                raise
            reasons.append(str(error))
    raise CheckpointError("; ".join(reasons))


@contextmanager
def reserve(path: _StrPath, goes_on: _StrPath | None = None) -> Iterator[None]:
    """A context in which a file is reserved for this run alone.

    goes_on: the file that the run is resumed from; it may be the reserved file itself. Raises CheckpointError if the file
    cannot be written, if it exists and is not goes_on, or if a living run has reserved it, in this process or another one.

    The reservation is a lock on a second file, .NAME.lock. The lock ends with the process, even if it is killed. On a file
    system without locks, other runs are not noticed.
    """
    path = user_path(path)
    expect_writable(path)
    with _lock(path):
        if _is_another(path, None if goes_on is None else user_path(goes_on)):
            raise CheckpointError(
                f"{shown_path(path)}: exists; resume the run that wrote it, choose another name, or remove it"
            )
        yield


def _is_another(path: Path, before: Path | None) -> bool:
    """Whether there is a file at a path, and it is not the one before."""
    try:
        status = _status(path)
        known = None if before is None else _status(before)
    except OSError as error:
        raise _cannot_be_written(path, error) from None
    return status is not None and (known is None or not os.path.samestat(status, known))


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        target, _ = _target(path)
        side_file = target.with_name(f".{_lock_name(target.name)}.lock")
        descriptor = _open_locked(side_file)
    except BlockingIOError:
        raise CheckpointError(
            f"{shown_path(path)}: another run writes it{_owner(side_file)}; stop that one, or choose another name"
        ) from None
    except OSError as error:
        raise _cannot_be_written(path, error) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            side_file.unlink()  # while it is still locked, so that it is no other run's
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child may have the file open too
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _lock_name(name: str) -> str:
    """A part of the lock file's name, different for every name and not too long."""
    if _short(name) == name:
        return name
    import hashlib  # here, because loading OpenSSL takes a fiftieth of the time of importing NumPy

    return f"{_short(name)}.{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


def _open_locked(path: Path) -> int:
    """The descriptor of a locked file that names this process. Raises BlockingIOError if another process has locked it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:  # a file system without locks
                return descriptor
            status = _status(path)
            if status is not None and os.path.samestat(status, os.fstat(descriptor)):  # otherwise its owner just removed it
                if status.st_nlink > 1 or not stat.S_ISREG(status.st_mode):  # a file of another name would be emptied
                    raise OSError(errno.EEXIST, f"{path.name} is there, and is no lock file; remove it")
                with contextlib.suppress(OSError):  # a full disk
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"{os.getpid()} {os.uname().nodename}".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _owner(side_file: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        process, host = side_file.read_text().split(maxsplit=1)
        return f", process {int(process)} on {host}"
    return ""
