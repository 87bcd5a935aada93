"""Suspends single threads of another process, as a debugger does, to provoke a hang."""

import contextlib
import ctypes
import os

from attacks.suite import Skip

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
# Waits for threads of other processes, too.
WALL = 0x40000000


@contextlib.contextmanager
def suspended_thread(pid, name):
    """Suspends the threads whose names begin with `name`. Yields their number."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    threads = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/comm", encoding="ascii") as file:
            if file.read().startswith(name):
                threads.append(int(thread))
    for thread in threads:
        if libc.ptrace(PTRACE_SEIZE, thread, None, None) != 0:
            raise Skip(f"ptrace: {os.strerror(ctypes.get_errno())}")
        libc.ptrace(PTRACE_INTERRUPT, thread, None, None)
        os.waitpid(thread, WALL)
    try:
        yield len(threads)
    finally:
        for thread in threads:
            libc.ptrace(PTRACE_DETACH, thread, None, None)
