"""The program that runs inside the sandbox, in one of its roles: the program under test (untrusted), its tests, a
program that reads and prints, or a checker of what it printed.

`pipeline.rewards.code.bundle` makes it one file with the modules of its role; the sandbox holds nothing else of the
project. It imports little: a start costs what it imports."""

from __future__ import annotations

import builtins
import os
import resource
import sys

from pipeline.rewards.code.channel import Channel, loads

PACKAGES = "/packages"


def limit(memory_bytes: int, file_bytes: int, num_files: int, cpu_s: int) -> None:
    """Give up, for good, all resources above these."""
    for name, most in {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_NOFILE: num_files,
        resource.RLIMIT_NPROC: 1,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: 64,
    }.items():
        _, hard = resource.getrlimit(name)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (most, most))


def leaks() -> list[str]:
    """What this process can do that nothing in a sandbox should."""
    found = []
    if os.getpid() > 2:
        found.append("it shares process ids")
    if set(os.environ) - {"PYTHONHASHSEED", "PWD", "LC_CTYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}:
        found.append("it has an environment")
    if os.path.exists("/proc") or os.path.exists("/etc/passwd"):  # noqa: PTH110 - pathlib is slow to import
        found.append("it sees the system's files")
    try:
        if os.fork() == 0:
            os._exit(0)
        found.append("it can start processes")
    except OSError:
        pass
    return found


def probed(modules: list[str]) -> dict[str, object]:
    """What a sandbox lets out, and of each module the seconds that its import took, or why there is none."""
    import time

    took: dict[str, object] = {}
    for name in modules:
        begin_s = time.perf_counter()
        try:
            __import__(name)
            took[name] = time.perf_counter() - begin_s
        except Exception as error:  # noqa: BLE001 - whatever a package does
            took[name] = f"{type(error).__name__}: {error}"
    return {"leaks": leaks(), "imports": took}


def main(role: str, limits: str) -> None:
    settings = loads(limits.encode())
    modules = settings.pop("modules")
    limit(**settings)
    if os.path.isdir(PACKAGES):  # noqa: PTH112
        sys.path.append(PACKAGES)
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # as `site` does, which costs a start its time
    channel = Channel()
    if role == "probe":
        channel.send(probed(modules))
        return
    channel.send({})
    if role == "candidate":
        from pipeline.rewards.code.candidate import Program

        Program(channel).serve()
    elif role == "judge":
        from pipeline.rewards.code.judge import Tests

        Tests(channel).serve()
    elif role == "printer":
        from pipeline.rewards.code.printer import Printer

        Printer(channel).serve()
    elif role == "checker":
        from pipeline.rewards.code.checker import Checker

        Checker(channel).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
