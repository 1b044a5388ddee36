"""TRL without vLLM: it imports vLLM where it finds it, for generation of its own, which the learner replaces.

That costs a learner's start five seconds of computing and 160 MB (docs/lab-notebook.md). The learner's own transfer to
vLLM's servers (`trainer.nccl`) is not concerned."""

from __future__ import annotations


def leave_vllm_out() -> None:
    """Tell TRL that there is no vLLM. Before any of its trainers is imported; it asks when its modules load."""
    from trl import import_utils

    def is_vllm_available(min_version: str | None = None) -> bool:
        return False

    import_utils.is_vllm_available = is_vllm_available
