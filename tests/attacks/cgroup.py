"""Memory cgroups, version 1 and 2, so that a server has the memory of its pod and no more."""

import itertools
import os

_NUMBERS = itertools.count()
ROOT_V1 = "/sys/fs/cgroup/memory"
ROOT_V2 = "/sys/fs/cgroup"


class MemoryCgroup:
    """A cgroup with a memory limit. `create` returns `None` where this user cannot make one."""

    def __init__(self, folder, version):
        self.folder = folder
        self.version = version

    @classmethod
    def create(cls, limit_bytes):
        version = 2 if os.path.exists(os.path.join(ROOT_V2, "cgroup.controllers")) else 1
        name = f"embedd-attacks-{os.getpid()}-{next(_NUMBERS)}"
        group = cls(os.path.join(ROOT_V2 if version == 2 else ROOT_V1, name), version)
        try:
            os.mkdir(group.folder)
        except OSError:
            return None
        try:
            group._write("memory.max" if version == 2 else "memory.limit_in_bytes", limit_bytes)
        except OSError:
            group.remove()
            return None
        try:  # Otherwise pages would be swapped out, where there is swap space, instead of the process killed.
            group._write("memory.swap.max" if version == 2 else "memory.swappiness", 0)
        except OSError:
            pass
        return group

    def enter(self):
        """Moves the calling process into the cgroup."""
        self._write("cgroup.procs", os.getpid())

    def peak_mib(self):
        """Since the cgroup was made. Includes files that the process read first, which the kernel drops when needed."""
        name = "memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"
        try:
            with open(os.path.join(self.folder, name), encoding="ascii") as file:
                return int(file.read()) / 2**20
        except OSError:  # memory.peak is missing before Linux 5.19.
            return None

    def remove(self):
        try:
            os.rmdir(self.folder)
        except OSError:
            pass

    def _write(self, name, value):
        with open(os.path.join(self.folder, name), "w", encoding="ascii") as file:
            file.write(str(value))
