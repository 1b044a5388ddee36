"""The weights of the reference model, read from its file when they are needed and in memory only then.

They are needed once a step, before the first gradient is computed. Mapped, they come from the kernel's cache of the
file, and are given back before the memory of a step is at its peak. Nobody writes to them."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import torch
from torch import nn

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


class MappedWeights:
    """Puts the weights of `model` into mappings of the safetensors in `folder`, where these hold them as they are.

    For models in the memory of a CPU: what is elsewhere, or of another type there, stays as it is."""

    def __init__(self, model: nn.Module, folder: Path) -> None:
        self._maps: list[mmap.mmap] = []
        parameters = dict(model.named_parameters())
        for file in sorted(folder.glob("*.safetensors")):
            mapped = _mapped(file)
            size = int.from_bytes(mapped[:8], "little")
            for name, entry in json.loads(mapped[8 : 8 + size]).items():
                weight = parameters.get(name)
                if weight is None or weight.device.type != "cpu" or weight.dtype != DTYPES.get(entry["dtype"]):
                    continue
                if list(weight.shape) == entry["shape"]:
                    first = 8 + size + entry["data_offsets"][0]
                    weight.requires_grad_(False)
                    weight.data = torch.frombuffer(
                        mapped, dtype=weight.dtype, count=weight.numel(), offset=first
                    ).view_as(weight)
            self._maps.append(mapped)

    def release(self) -> None:
        """Give the memory back; the next access reads it again."""
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)


def _mapped(file: Path) -> mmap.mmap:
    """A private view: writing to it would change neither the file nor anything after `release`."""
    with file.open("rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
