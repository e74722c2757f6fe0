"""What a user or a machine can cause ends a script with status 1 and one line: a full disk, a damaged file."""

import os
import sys
from collections.abc import Callable

from files import DamagedFile
from processes import one_line


def told(main: Callable[[], int]) -> int:
    """The exit status of a script."""
    try:
        return main()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        said = f"{where}{error.strerror or error}"
    except MemoryError:
        said = "out of memory"
    except DamagedFile as error:
        said = str(error)
    name = os.path.basename(sys.argv[0]).removesuffix(".py")
    print(one_line(f"{name}: {said}"), file=sys.stderr)
    return 1
