"""The file of a classifier: a line with format and checksum, a line of JSON, and raw tensors.

It is no pickle, and no archive of ``torch.export``: loading one evaluates strings as Python
expressions (``sympy.sympify``) and unpickles tensors that need it with ``weights_only=False``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from d3_plugin.errors import DataError

_NAME, _VERSION = b"d3_plugin classifier", 2
_DTYPES = "float32 float64 float16 bfloat16 bool uint8 int8 int16 int32 int64"


def packed(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """A file's content.

    Args:
        values: what JSON can hold.
        tensors: by name.
    """
    kinds = {
        name: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        for name, tensor in tensors.items()
    }
    raw = [
        tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        for tensor in tensors.values()
    ]
    header = json.dumps({**values, "tensors": kinds}).encode()
    body = b"\n".join([header, b"".join(raw)])
    checksum = hashlib.sha256(body).hexdigest().encode()
    return b"%s %d %s\n%s" % (_NAME, _VERSION, checksum, body)


def unpacked(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Values and tensors of :func:`packed`.

    Raises:
        DataError: the file is of a newer version, or damaged.
        Exception: of any kind, if it is something else.
    """
    first, body = content.split(b"\n", 1)
    name, version, checksum = first.rsplit(b" ", 2)
    if name != _NAME or not version.isdigit():
        raise ValueError("another kind of file")
    if int(version) != _VERSION:
        raise DataError(
            f"is in format {int(version)}, and this d3_plugin reads format {_VERSION}: install the "
            "version that wrote it"
        )
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        raise DataError("is damaged: its checksum is another one. Copy or save it again")
    header, raw = body.split(b"\n", 1)
    values = json.loads(header)
    tensors, place = {}, 0
    for key, (kind, shape) in values.pop("tensors").items():
        if kind not in _DTYPES.split():
            raise ValueError(f"tensors of {kind}")
        dtype, count = getattr(torch, kind), math.prod(shape)
        end = place + count * dtype.itemsize
        if count < 0 or end > len(raw):
            raise ValueError("tensors are cut off")
        flat = torch.frombuffer(bytearray(raw[place:end]), dtype=dtype) if count else torch.empty(0)
        tensors[key], place = flat.to(dtype).reshape(shape), end
    if place != len(raw):
        raise ValueError("more than its tensors")
    return values, tensors
