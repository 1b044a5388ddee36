"""The system calls that untrusted code is refused, as a seccomp program: pure functions from a table to bytes.

Invariants: processes and threads cannot be made at all, so that the limits of one process are those of the sandbox (a limit
on their number does not bind root); memory that no limit counts cannot be had; no socket; nothing that changes
namespaces, mounts, other processes or the kernel. An unknown machine has no filter, and then there is no sandbox. What
is not named is allowed: the filter is one layer beside namespaces and limits, not a proof against a flaw of the kernel.
"""

from __future__ import annotations

import errno
import struct

# Name: number on x86_64, number on aarch64; None where the machine has no such call.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # processes and threads
    "fork": (57, None),
    "vfork": (58, None),
    "clone": (56, 220),
    "clone3": (435, 435),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    # memory that the limit of the address space does not count
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_setup": (206, 0),
    # network
    "socket": (41, 198),
    # the kernel
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "personality": (135, 92),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "fanotify_init": (300, 262),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "vhangup": (153, 58),
    "setpriority": (141, 140),
    "sched_setaffinity": (203, 122),
}
# Machine: column in the table, AUDIT_ARCH_* of linux/audit.h.
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000  # SECCOMP_RET_*
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_RET|K
NUMBER_AT, MACHINE_AT = 0, 4  # in struct seccomp_data
X32 = 0x40000000  # on x86_64 the same calls again under other numbers


def syscall_filter(machine: str) -> bytes | None:
    """The program for `machine` (as `platform.machine()` names it), an array of struct sock_filter; None if unknown."""
    if machine not in MACHINES:
        return None
    column, code = MACHINES[machine]
    numbers = [number for row in REFUSED.values() if (number := row[column]) is not None]
    length = len(numbers)
    program = [
        (LOAD, 0, 0, MACHINE_AT),
        (EQUAL, 1, 0, code),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER_AT),
        (AT_LEAST, length + 3, 0, X32),
        # C libraries fall back to clone, and report what that says, only when clone3 is said not to exist.
        (EQUAL, length + 3, 0, REFUSED["clone3"][column]),
        *((EQUAL, length - index, 0, number) for index, number in enumerate(numbers)),
        # The jumps above lead to one of these; what none of them took falls through to the first.
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, ERRNO | errno.EPERM),
        (RETURN, 0, 0, KILL),
        (RETURN, 0, 0, ERRNO | errno.ENOSYS),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
