"""Which image files a folder holds: one walk, no ``stat`` a file, the same order everywhere."""

import os
from dataclasses import dataclass
from pathlib import Path

from mammi.data.reading import DICOM_SUFFIXES, IMAGE_SUFFIXES, is_dicom
from mammi.errors import ImageError

__all__ = ["FolderListing", "bare_names", "list_images", "stem_ids"]


@dataclass(frozen=True)
class FolderListing:
    """The files below a folder.

    Attributes:
        root: the folder.
        images: image files relative to ``root``, with ``/``, sorted.
        ignored: every other file, likewise.
    """

    root: Path
    images: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def dicom_only(self) -> bool:
        """Whether every image is DICOM, by its suffix or for want of one."""
        return bool(self.images) and all(_suffix(name) in DICOM_SUFFIXES | {""} for name in self.images)


def list_images(folder: Path) -> FolderListing:
    """List the image files below ``folder``, at any depth, links followed.

    An image is a file with one of the suffixes of PNG, JPEG, TIFF and DICOM, in any case, or without a suffix and
    with the mark ``DICM`` at byte 128. Hidden files (a dot first) are ignored. Nothing is decoded.

    Raises:
        ImageError: if there is no such folder or it holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ImageError(f"Image folder {str(folder)!r} {what}: give a folder of PNG, JPEG, TIFF or DICOM files")
    images: list[str] = []
    ignored: list[str] = []
    try:
        _walk(str(folder), "", images, ignored, set())
    except OSError as error:
        raise ImageError(
            f"Image folder {str(folder)!r} cannot be listed: {error.strerror} ({error.filename})"
        ) from error
    if not images:
        raise ImageError(
            f"Image folder {str(folder)!r} holds no image among {len(ignored)} files: expected "
            f"{' '.join(sorted(IMAGE_SUFFIXES))} or DICOM without a suffix"
        )
    return FolderListing(folder, tuple(sorted(images)), tuple(sorted(ignored)))


def _walk(folder: str, prefix: str, images: list[str], ignored: list[str], seen: set[tuple[int, int]]) -> None:
    status = os.stat(folder)  # noqa: PTH116 - one call a folder; Path objects double the time of the walk
    if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
        return
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir():
                if not entry.name.startswith("."):
                    _walk(entry.path, name + "/", images, ignored, seen)
            elif not entry.name.startswith(".") and _is_image(entry.path, entry.name):
                images.append(name)
            else:
                ignored.append(name)


def _is_image(path: str, name: str) -> bool:
    suffix = _suffix(name)
    if suffix:
        return suffix in IMAGE_SUFFIXES
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            return is_dicom(file.read(132))
    except OSError:
        return False


def _suffix(name: str) -> str:
    """Return the lower-case suffix; DICOM files named by a UID ("1.2.840.113") have none, not ".113"."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - as above
    return "" if suffix[1:].isdigit() else suffix


def bare_names(names: tuple[str, ...]) -> list[str]:
    """Return each relative path without its suffix, if it has one."""
    return [name[: -len(_suffix(name))] if _suffix(name) else name for name in names]


def stem_ids(names: tuple[str, ...]) -> list[str]:
    """Name films after their files: the stem, or the whole relative path without suffix if any two stems are equal.

    Example:
        >>> stem_ids(("a/one.png", "b/two.png"))
        ['one', 'two']
        >>> stem_ids(("p1/view.png", "p2/view.png"))
        ['p1/view', 'p2/view']
    """
    paths = bare_names(names)
    stems = [path.rpartition("/")[2] for path in paths]
    return stems if len(set(stems)) == len(stems) else paths
