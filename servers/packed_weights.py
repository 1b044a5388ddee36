"""An extension of vLLM's worker (`--worker-extension-cls`): after a reload, packed copies of weights follow too.

On a CPU vLLM computes its matrix products with packed copies. `reload_weights` makes them anew for each layer that it
loads; a head tied to the embedding is loaded with the embedding and keeps the copy of its old weights, so that
log-probabilities drift from the published model's with every update (seen with vLLM 0.32; nothing fails). On a GPU
there are no copies. What a reload took and freed is given back, or the server would grow with each of them.
"""

from __future__ import annotations

from typing import Any

from pipeline.runtime import libc


class PackedWeights:
    """Mixed into the worker class; called through /collective_rpc."""

    model_runner: Any

    def refresh_packed_weights(self) -> int:
        """Pack every tied head again from the embedding that it is tied to; returns how many there were."""
        libc.call("malloc_trim", 0)
        from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

        model = self.model_runner.get_model()
        if not getattr(model.config, "tie_word_embeddings", False):
            return 0
        layers = list(model.modules())
        heads = [layer for layer in layers if isinstance(layer, ParallelLMHead)]
        embeddings = [layer for layer in layers if type(layer) is VocabParallelEmbedding]
        if len(embeddings) != 1:
            raise RuntimeError(f"a tied head needs one embedding to be packed from, the model has {len(embeddings)}")
        for head in heads:
            head.weight = embeddings[0].weight
            if hasattr(head, "cpu_linear"):
                dispatch_cpu_unquantized_gemm(head, remove_weight=False)
        return len(heads)
