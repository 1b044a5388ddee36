"""The system calls that untrusted code is refused, as a seccomp program: pure functions from a table to bytes.

Invariants: processes and threads cannot be made at all, so that the limits of one process are those of the sandbox (a
limit on their number does not bind root); memory that no limit counts cannot be had, the kernel's neither (nodes,
links, locks, watches); no socket; nothing that changes namespaces, mounts, other processes or the kernel. An unknown
machine has no filter, and then there is no sandbox. What is not named is allowed: the filter is one layer beside
namespaces and limits, not a proof against a flaw of the kernel.
"""

from __future__ import annotations

import errno
import struct
import tomllib
from functools import cache
from pathlib import Path

# Machine: AUDIT_ARCH_* of linux/audit.h.
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000  # SECCOMP_RET_*
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_RET|K
NUMBER_AT, MACHINE_AT, SECOND_AT = 0, 4, 24  # in struct seccomp_data: the low half of the second argument
FCNTL = {"x86_64": 72, "aarch64": 25}
FCNTL_REFUSED = (6, 7, 37, 38, 1024, 1026, 1031)
"""Commands of `fcntl` that take the kernel's memory: F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW, F_SETLEASE,
F_NOTIFY, F_SETPIPE_SZ."""
X32 = 0x40000000  # on x86_64 the same calls again under other numbers


def refused_calls(machine: str) -> dict[str, int]:
    """The numbers on `machine` of what is refused there, by name."""
    table = Path(__file__).with_name("refused_calls.toml").read_text(encoding="utf-8")
    calls: dict[str, dict[str, int]] = tomllib.loads(table)
    return {name: numbers[machine] for name, numbers in calls.items() if machine in numbers}


@cache
def syscall_filter(machine: str) -> bytes | None:
    """The program for `machine` (as `platform.machine()` names it), an array of struct sock_filter; None if unknown."""
    if machine not in MACHINES:
        return None
    refused = refused_calls(machine)
    numbers = refused.values()
    commands = len(FCNTL_REFUSED)
    length = len(numbers) + commands + 2
    program = [
        (LOAD, 0, 0, MACHINE_AT),
        (EQUAL, 1, 0, MACHINES[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER_AT),
        (AT_LEAST, length + 3, 0, X32),
        # C libraries fall back to clone, and report what that says, only when clone3 is said not to exist.
        (EQUAL, length + 3, 0, refused["clone3"]),
        *((EQUAL, length - index, 0, number) for index, number in enumerate(numbers)),
        (EQUAL, 0, commands + 1, FCNTL[machine]),
        (LOAD, 0, 0, SECOND_AT),
        *((EQUAL, commands - index, 0, command) for index, command in enumerate(FCNTL_REFUSED)),
        # The jumps above lead to one of these; what none of them took falls through to the first.
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, ERRNO | errno.EPERM),
        (RETURN, 0, 0, KILL),
        (RETURN, 0, 0, ERRNO | errno.ENOSYS),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
