"""End a script with status 1 and one line for faults of a user or a machine, such as a full disk or a damaged file."""

import os
import sys
from collections.abc import Callable

from common.files import DamagedFile
from common.processes import one_line


def report(main: Callable[[], int]) -> int:
    """Run a script's main(), report such faults, and return the exit status."""
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
