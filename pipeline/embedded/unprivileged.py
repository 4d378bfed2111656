"""Run a command as another user: ``python -I -S unprivileged.py UID GID COMMAND…``.

PostgreSQL refuses to run as root. Debian's ``setpriv`` would do, but not every system has it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    """Give up root for good, and become the command."""
    uid, gid, *command = arguments
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
