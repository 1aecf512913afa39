"""What a worker process may not do, set once at its start and kept by the system: whatever a file makes it run.

Memory, processor time and the size of files are bounded, there are no core dumps, and there is no network. Where the
system does not know a limit, it is left out: the parent bounds time and output all the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import struct
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h, as the next two
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2  # linux/seccomp.h

# Machine: its number in a system call (AUDIT_ARCH_*, linux/audit.h) and the number of `socket`.
_MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
_IO_URING_SETUP = 425  # the same on both
_X32_CALLS = 0x40000000  # another numbering of the same calls, on x86_64
_AF_UNIX = 1

# Classic BPF (linux/bpf_common.h): load a word, jump if equal, jump if at least, return.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOWED, _DENIED = 0x7FFF0000, 0x00050000 | 13  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EACCES
_NUMBER_AT, _MACHINE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16  # in struct seccomp_data


def confine(memory_bytes: int, output_bytes: int, parent: int) -> None:
    """Bound this process for good, and have it end with `parent`, its parent's process id."""
    _die_with(parent)
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_AS", memory_bytes)
    _limit("RLIMIT_FSIZE", output_bytes)
    _shut_network_off()


def limit_cpu(seconds: float) -> None:
    """End this process after so much more processor time, with SIGXCPU."""
    try:
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    except (ImportError, ValueError, OSError):
        return


def _die_with(parent: int) -> None:
    """Ask Linux to end this process when its parent is killed; elsewhere the closed socket does, after the call."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)  # it was killed before it could be asked


def _limit(name: str, value: int) -> None:
    """Set a resource limit where the system has it and allows it."""
    try:
        import resource
    except ImportError:
        return
    try:
        resource.setrlimit(getattr(resource, name), (value, value))
    except (AttributeError, ValueError, OSError):
        return


def _shut_network_off() -> None:
    """Have Linux refuse all sockets but those between processes of this machine, here and in whatever is started.

    No library used here reaches out by itself; this holds for those that a damaged file takes over, too.
    """
    known = _MACHINES.get(platform.machine()) if sys.platform == "linux" else None
    if known is None:
        return
    machine, socket_call = known
    steps = (
        (_LOAD, 0, 0, _MACHINE_AT),
        (_IF_EQUAL, 0, 6, machine),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_IF_AT_LEAST, 4, 0, _X32_CALLS),
        (_IF_EQUAL, 3, 0, _IO_URING_SETUP),
        (_IF_EQUAL, 0, 3, socket_call),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_IF_EQUAL, 1, 0, _AF_UNIX),
        (_RETURN, 0, 0, _DENIED),
        (_RETURN, 0, 0, _ALLOWED),
    )
    program = b"".join(struct.pack("=HBBI", *step) for step in steps)

    class Filter(ctypes.Structure):
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    with contextlib.suppress(OSError, AttributeError):
        prctl = ctypes.CDLL(None).prctl
        if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
            prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(Filter(len(steps), program)), 0, 0)
