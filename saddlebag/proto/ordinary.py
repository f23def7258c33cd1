"""Files that are read are files: opening a pipe waits for somebody who writes, and a device never ends."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ordinary"]


def ordinary(path: Path) -> Path:
    """The same path, of a file.

    Raises:
        OSError: there is nothing, or something else.

    Example:
        >>> from pathlib import Path
        >>> try:
        ...     ordinary(Path("/dev/null"))
        ... except OSError as error:
        ...     error.strerror
        'a pipe or a device, not a file'
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # of a folder the system itself says what it is
        raise OSError(errno.EINVAL, "a pipe or a device, not a file", str(path))
    return path
