"""The far end of places.py: an object where a side runs, whose methods are called over standard input.

sides.BOOTSTRAP sends it there with all modules that it imports, so a host needs only Python. It ends, with everything
that it started, when its standard input ends or its time is over.
"""

import contextlib
import fcntl
import glob
import importlib
import json
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from typing import Any, NoReturn

from common import environment

FOLDER_PREFIX = "io_models_agent_"
FRESH_S = 60.0  # a process may not have locked a younger folder yet
KNOWN_ERRORS = (OSError, ValueError)


def remove_leftovers(prefix: str, own_folder: str) -> None:
    """Remove folders of processes that were killed, so that nobody holds their lock."""
    for folder in glob.glob(os.path.join(tempfile.gettempdir(), f"{prefix}*")):
        with contextlib.suppress(OSError):
            status = os.lstat(folder)
            is_fresh = time.time() - status.st_mtime < FRESH_S
            if folder == own_folder or status.st_uid != os.getuid() or is_fresh:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)


def describe_error(error: Exception) -> dict[str, Any]:
    """Describe an error by its class and arguments; an unexpected one by the last place in its traceback."""
    module, name = type(error).__module__, type(error).__name__
    if module == "builtins":
        text = str(error)
        if not isinstance(error, KNOWN_ERRORS):
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{name} in {os.path.basename(place.filename)}:{place.lineno}: {error}"
        return {"module": module, "class": "OSError", "arguments": [text]}
    # The other end turns errors of other modules into OSError with these arguments.
    return {"module": module, "class": name, "arguments": [str(one) for one in error.args]}


def read_requests(requests: "queue.SimpleQueue[bytes]") -> None:
    """Pass lines on; at the end of standard input, end the process so that nothing is left behind."""
    for line in sys.stdin.buffer:
        requests.put(line)
    os.kill(os.getpid(), signal.SIGTERM)


def _exit(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


def serve(folder: str, message: dict[str, Any]) -> None:
    """Answer requests, a JSON line each, until standard input ends. folder: of the modules; removed at the end."""
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    sys.dont_write_bytecode = True
    environment.clean()
    # The folders of ip and others, which ssh leaves out for users.
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    os.environ.update(message["environment"])
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, _exit)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this
    signal.alarm(message["lifetime_s"])
    # Output of modules must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    side = None
    try:
        module = importlib.import_module(message["module"])
        side = getattr(module, message["class"])()
        requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=read_requests, args=[requests], daemon=True).start()
        print(json.dumps({"ready": True}), file=answers, flush=True)
        remove_leftovers(FOLDER_PREFIX, folder)
        while True:
            request = json.loads(requests.get())
            try:
                method = getattr(side, request["method"])
                answer = {"result": method(*request["arguments"], **request["options"])}
            except Exception as error:
                answer = {"error": describe_error(error)}
            print(json.dumps(answer), file=answers, flush=True)
    except Exception as error:
        print(*describe_error(error)["arguments"], file=sys.stderr, flush=True)
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)  # a second one would cut this short
        with contextlib.suppress(Exception):
            if side is not None:
                side.close()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)  # the thread still waits for input
