r"""Stop and resume, bit for bit.

A checkpoint is one safetensors file: every tensor of the algorithm's state (parameters,
accumulators, generators) and, as JSON, everything else that the next step depends on. It is
written beside its target and renamed, so that a kill at any moment leaves either the old
checkpoint or the new one.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

__all__ = ["CheckpointError", "load", "store", "write_atomically"]


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used."""


def store(path: Path, state: Any, progress: dict[str, Any], identity: str = "") -> None:
    """Write a checkpoint, atomically.

    Args:
        path: The file; its folder is made.
        state: The algorithm's state: a named tuple of modules, optimizers, generators and
            tensors.
        progress: What else is needed to go on; JSON values.
        identity: What run this is, in words.

    Raises:
        OSError: If the file cannot be written. An older checkpoint is then still there.
    """
    tensors, optimizers = {}, {}
    for name, part in _parts(state):
        tensors.update({f"{name}/{key}": value.cpu() for key, value in _tensors(part).items()})
        if isinstance(part, torch.optim.Optimizer):
            optimizers[name] = part.state_dict()["param_groups"]
    text = json.dumps({"identity": identity, "progress": progress, "optimizers": optimizers})
    content = save(tensors, {"state": text, "sha256": _digest(tensors, text)})
    write_atomically(path, content)


def load(path: Path, state: Any, identity: str = "") -> dict[str, Any]:
    """Put a checkpoint's contents into ``state``, in place.

    Args:
        path: A file that :func:`store` wrote.
        state: A state made by the same specification.
        identity: What run ``state`` belongs to; must be the one stored.

    Returns:
        The ``progress`` that was stored with it.

    Raises:
        CheckpointError: If the file is damaged or belongs to another run. ``state`` is then
            untouched.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        if _digest(tensors, metadata["state"]) != metadata["sha256"]:
            raise ValueError("the contents do not match their digest")
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint: {error}") from error
    text = json.loads(metadata["state"])
    if text["identity"] != identity:
        raise CheckpointError(
            f"{path}: a checkpoint of another run: expected {identity}, found {text['identity']}"
        )
    for name, part in _parts(state):
        own = {key: tensors[f"{name}/{key}"] for key in _tensors(part)}
        _restore(part, own, text["optimizers"].get(name))
    return text["progress"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place, make sure it is on the disk, and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _parts(state: Any) -> Iterator[tuple[str, Any]]:
    return zip(state._fields, state, strict=True)


def _tensors(part: Any) -> dict[str, Tensor]:
    if isinstance(part, nn.Module):
        return part.state_dict()
    if isinstance(part, torch.optim.Optimizer):
        slots = part.state_dict()["state"]
        return {f"{slot}/{key}": value for slot in slots for key, value in slots[slot].items()}
    if isinstance(part, torch.Generator):
        return {"state": part.get_state()}
    if isinstance(part, Tensor):
        return {"value": part}
    raise TypeError(f"a state holds a {type(part).__name__}: no rule to store it")


def _restore(part: Any, tensors: dict[str, Tensor], groups: list[dict[str, Any]] | None) -> None:
    if isinstance(part, nn.Module):
        part.load_state_dict(tensors)
    elif isinstance(part, torch.optim.Optimizer):
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            slot, key = name.split("/")
            slots.setdefault(int(slot), {})[key] = value
        part.load_state_dict({"state": slots, "param_groups": groups})
    elif isinstance(part, torch.Generator):
        part.set_state(tensors["state"])
    else:
        part.copy_(tensors["value"])


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
