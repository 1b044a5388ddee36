"""What libraries of a process that computes read from the environment when they are loaded.

Learner, SFT and servers share the cores and the memory of a small machine."""

from __future__ import annotations

ENVIRONMENT = {
    # Threads that spin at barriers take the cores from the others: everything takes 3 to 10 times as long.
    "OMP_WAIT_POLICY": "PASSIVE",
    # oneDNN keeps what it compiled for 1,024 shapes. Lengths differ from pass to pass: nearly nothing of it is used
    # again, and it lies between activations, so that the heap grows with each pass. A layer needs fewer than these.
    "LRU_CACHE_CAPACITY": "32",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
}
