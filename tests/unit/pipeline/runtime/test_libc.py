"""Functions of the C library."""

from __future__ import annotations

import ctypes

from pipeline.runtime import libc

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG = 1, 2


def test_a_function_is_called_where_the_library_has_it() -> None:
    before, after = ctypes.c_int(), ctypes.c_int()
    get = ctypes.CDLL(None).prctl
    get(PR_GET_PDEATHSIG, ctypes.byref(before), 0, 0, 0)
    libc.call("prctl", PR_SET_PDEATHSIG, 10, 0, 0, 0)
    get(PR_GET_PDEATHSIG, ctypes.byref(after), 0, 0, 0)
    libc.call("prctl", PR_SET_PDEATHSIG, before.value, 0, 0, 0)
    assert after.value == 10
    libc.call("a_function_of_no_library", 1)
