"""Per-token log-probabilities with a group's common prompt computed once.

The rows of a group differ only in their completions. They are packed into one row [prompt, completion 1 … completion
G]: each completion sees the prompt and itself, its positions continue the prompt's, and the last prompt token (whose
hidden state predicts the first token of every completion) is shared as well. The last token of a completion predicts
nothing that is trained, so it is not computed. Padding is dropped before packing. Results equal the unshared
computation up to rounding, gradients included.

Suffixes of shapes: _B rows (rollouts), _C completion positions, _R packed rows (groups), _T packed positions, _N
trained tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.token_logps import token_logps

# Settings by which architectures rescale their logits; TRL's own forward knows them, this one does not.
_LOGIT_SCALES = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


@dataclass(frozen=True)
class PackedGroups:
    """Groups packed into rows, and where their trained tokens are."""

    input_ids_RT: Tensor
    position_ids_RT: Tensor
    segments_RT: Tensor
    """0 for the prompt, then 1 … G for the completions, -1 for padding."""
    sources_N: Tensor
    """Flat index (row * T + position) of the hidden state that predicts each trained token."""
    targets_N: Tensor
    rows_N: Tensor
    columns_N: Tensor
    num_computed_tokens: int
    """Packed tokens without padding."""


def supports_shared_prefix(model: nn.Module) -> bool:
    """Whether `model` is a plain causal decoder: full attention that takes a mask of ours, position ids, unscaled
    logits, a head of its own. Flash attention takes none."""
    config = getattr(model, "config", None)
    if config is None or config.get_text_config() is not config:
        return False
    if getattr(config, "_attn_implementation", None) not in MASKS:
        return False
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        return False
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return False
    if getattr(config, "output_router_logits", None) or any(getattr(config, name, None) for name in _LOGIT_SCALES):
        return False
    backbone = getattr(model, "base_model", None)
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if backbone is None or backbone is model or not isinstance(head, nn.Linear):
        return False
    return {"position_ids", "attention_mask"} <= inspect.signature(backbone.forward).parameters.keys()


def prompt_groups(input_ids_BL: Tensor, attention_mask_BL: Tensor, num_completion: int) -> list[list[int]]:
    """Runs of consecutive rows whose prompts (the columns before the last `num_completion`) are the same tokens."""
    prompts = input_ids_BL[:, :-num_completion].masked_fill(attention_mask_BL[:, :-num_completion] == 0, -1)
    same_as_before = (prompts[1:] == prompts[:-1]).all(dim=1).tolist()
    groups = [[0]]
    for row, same in enumerate(same_as_before, start=1):
        if same:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def pack(input_ids_BL: Tensor, attention_mask_BL: Tensor, num_completion: int, groups: list[list[int]]) -> PackedGroups:
    """Pack `groups` of rows, each with one prompt of at least one token, into one padded batch of rows."""
    device = input_ids_BL.device
    ids, mask = input_ids_BL.cpu(), attention_mask_BL.cpu().bool()
    packed: list[tuple[Tensor, Tensor, Tensor]] = []
    sources: list[tuple[int, Tensor]] = []
    targets, rows, columns = [], [], []
    for index, group in enumerate(groups):
        prompt = ids[group[0], :-num_completion][mask[group[0], :-num_completion]]
        parts, positions, segments = [prompt], [torch.arange(len(prompt))], [torch.zeros(len(prompt), dtype=torch.long)]
        offset = len(prompt)
        for segment, row in enumerate(group, start=1):
            kept = mask[row, -num_completion:].nonzero().squeeze(1)
            completion = ids[row, -num_completion:][kept]
            num_inputs = max(len(completion) - 1, 0)
            parts.append(completion[:num_inputs])
            positions.append(torch.arange(len(prompt), len(prompt) + num_inputs))
            segments.append(torch.full((num_inputs,), segment))
            within = torch.arange(offset - 1, offset - 1 + len(completion))
            within[:1] = len(prompt) - 1
            sources.append((index, within))
            targets.append(completion)
            rows.append(torch.full((len(completion),), row))
            columns.append(kept)
            offset += num_inputs
        packed.append((torch.cat(parts), torch.cat(positions), torch.cat(segments)))
    input_ids_RT, position_ids_RT = (
        nn.utils.rnn.pad_sequence([row[item] for row in packed], batch_first=True) for item in (0, 1)
    )
    segments_RT = nn.utils.rnn.pad_sequence([row[2] for row in packed], batch_first=True, padding_value=-1)
    width = input_ids_RT.shape[1]
    return PackedGroups(
        input_ids_RT=input_ids_RT.to(device),
        position_ids_RT=position_ids_RT.to(device),
        segments_RT=segments_RT.to(device),
        sources_N=torch.cat([index * width + within for index, within in sources]).to(device),
        targets_N=torch.cat(targets).to(device),
        rows_N=torch.cat(rows).to(device),
        columns_N=torch.cat(columns).to(device),
        num_computed_tokens=sum(len(row[0]) for row in packed),
    )


def attention_of(segments_RT: Tensor) -> Tensor:
    """Who sees whom, (R, 1, T, T): segment 0 (the prompt) is seen by all after it, any other by itself only.

    Padding (-1) sees itself, because a row of softmax over nothing is undefined.
    """
    width = segments_RT.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=segments_RT.device).tril()
    query, key = segments_RT[:, :, None], segments_RT[:, None, :]
    visible = causal & ((key == query) | ((key == 0) & (query > 0)))
    return visible.unsqueeze(1)


def added(segments_RT: Tensor) -> Tensor:
    """The same as what eager attention adds to its scores: 0, or next to minus infinity."""
    visible = attention_of(segments_RT)
    return torch.zeros(visible.shape, device=visible.device).masked_fill(~visible, torch.finfo(torch.float32).min)


def in_blocks(segments_RT: Tensor) -> Any:
    """The same as a BlockMask: flex attention skips the blocks in which nobody sees anybody, and a prompt's blocks are
    read once for all its completions."""
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own, other = segments_RT[row, query], segments_RT[row, key]
        return (key <= query) & ((other == own) | ((other == 0) & (own > 0)))

    num_rows, width = segments_RT.shape
    return create_block_mask(sees, num_rows, None, width, width, device=segments_RT.device)


MASKS: dict[str, Callable[[Tensor], Any]] = {"sdpa": attention_of, "eager": added, "flex_attention": in_blocks}
"""Who sees whom, as each attention implementation of transformers takes it."""


def shared_prefix_logps(
    model: nn.Module,
    input_ids_BL: Tensor,
    attention_mask_BL: Tensor,
    num_completion: int,
    groups: list[list[int]],
    *,
    temperature: float,
    compute_entropy: bool,
) -> tuple[Tensor, Tensor | None, int]:
    """Log-probabilities (B, C) and, if asked, entropies (B, C) of the completions; zero where masked. Also the tokens
    computed.

    `input_ids_BL` and `attention_mask_BL` are left-padded prompts followed by right-padded completions, as TRL makes
    them. Entropies carry no gradient on the fast path.
    """
    packed = pack(input_ids_BL, attention_mask_BL, num_completion, groups)
    mask = MASKS[model.config._attn_implementation](packed.segments_RT)
    outputs: Any = model.base_model(
        input_ids=packed.input_ids_RT, attention_mask=mask, position_ids=packed.position_ids_RT, use_cache=False
    )
    hidden_NH = outputs.last_hidden_state.flatten(0, 1)[packed.sources_N]
    head: nn.Linear = model.get_output_embeddings()
    logps_N, entropies_N = token_logps(hidden_NH, head, packed.targets_N, temperature, compute_entropy)
    shape, where = (input_ids_BL.shape[0], num_completion), (packed.rows_N, packed.columns_N)
    logps_BC = logps_N.new_zeros(shape).index_put(where, logps_N)
    entropies_BC = None if entropies_N is None else entropies_N.new_zeros(shape).index_put(where, entropies_N)
    return logps_BC, entropies_BC, packed.num_computed_tokens
