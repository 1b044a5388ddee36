"""Imported by Python itself where this folder is on PYTHONPATH. Does nothing unless a test asked for it
(crash_child)."""

import os

if "LANPO_TEST_CRASH" in os.environ:
    from tests.integration.crash_child import install

    install()
