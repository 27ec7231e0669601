r"""Stop and resume, bit for bit.

A checkpoint is one safetensors file: every tensor of the algorithm's state (parameters,
accumulators, generators) and, as JSON, everything else that the next step depends on. It is
written beside its target and renamed, so that a kill at any moment leaves either the old
checkpoint or the new one.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from aevb._files import write_atomically

__all__ = ["CheckpointError", "identity_of", "load", "store", "write_atomically"]


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used."""


_UNREADABLE = (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError)
"""What safetensors, torch and json raise where a file is not what :func:`store` wrote."""


def store(path: Path, state: Any, progress: dict[str, Any], identity: str = "") -> None:
    """Write a checkpoint, atomically.

    Args:
        path: The file; its folder is made.
        state: The algorithm's state: a named tuple of modules, optimizers, generators and
            tensors.
        progress: What else is needed to go on; JSON values.
        identity: What run this is, in words, or its settings as an object in JSON.

    Raises:
        OSError: If the file cannot be written. An older checkpoint is then still there.
    """
    tensors = {key: value.cpu().contiguous() for key, value in _flat(state).items()}
    optimizers = {
        name: part.state_dict()["param_groups"]
        for name, part in _parts(state)
        if isinstance(part, torch.optim.Optimizer)
    }
    text = json.dumps({"identity": identity, "progress": progress, "optimizers": optimizers})
    content = save(tensors, {"state": text, "sha256": _digest(tensors, text)})
    write_atomically({path: content})


def load(path: Path, state: Any, identity: str = "") -> dict[str, Any]:
    """Put a checkpoint's contents into ``state``, in place.

    Args:
        path: A file that :func:`store` wrote.
        state: A state made by the same specification.
        identity: What run ``state`` belongs to; must be the one stored.

    Returns:
        The ``progress`` that was stored with it.

    Raises:
        CheckpointError: If the file is damaged, belongs to another run, or does not fit
            ``state``, which is then untouched.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        if _digest(tensors, metadata["state"]) != metadata["sha256"]:
            raise ValueError("the contents do not match their digest")
        text = json.loads(metadata["state"])
        kinds = {key: type(text[key]) for key in ("identity", "progress", "optimizers")}
        if kinds != {"identity": str, "progress": dict, "optimizers": dict}:
            raise ValueError(f"expected identity, progress and optimizers, found {sorted(text)}")
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: damaged checkpoint: {reason}") from error
    if text["identity"] != identity:
        raise CheckpointError(
            f"{path}: a checkpoint of another run: {_difference(identity, text['identity'])}; "
            "the earlier command finishes it, deleting the file starts anew"
        )
    # An optimizer that makes its tensors at its first step has none to compare with yet.
    lazy = tuple(
        f"{name}/"
        for name, part in _parts(state)
        if isinstance(part, torch.optim.Optimizer) and not part.state
    )
    expected = {key: (value.dtype, value.shape) for key, value in _flat(state).items()}
    found = {k: (v.dtype, v.shape) for k, v in tensors.items() if not k.startswith(lazy)}
    if found != expected:
        misfits = sorted(k for k in expected | found if expected.get(k) != found.get(k))
        raise CheckpointError(f"{path}: does not fit this run's state: {', '.join(misfits)}")
    for name, part in _parts(state):
        start = f"{name}/"
        own = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        _restore(part, own, text["optimizers"].get(name))
    return text["progress"]


def identity_of(path: Path) -> str | None:
    """What run a checkpoint is of, as it was given to :func:`store`; ``None`` if it cannot be read.

    Only the beginning of the file is read: whether the rest is sound is for :func:`load`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["state"])["identity"]
    except _UNREADABLE:
        return None


def _difference(expected: str, found: str) -> str:
    """What two identities differ in: which settings, where they are objects of these in JSON."""
    try:
        one, other = dict(json.loads(expected)), dict(json.loads(found))
    except (ValueError, TypeError):
        return f"expected {expected}, found {found}"
    return ", ".join(
        f"{name}: expected {one.get(name)}, found {other.get(name)}"
        for name in one | other
        if one.get(name) != other.get(name)
    )


def _parts(state: Any) -> Iterator[tuple[str, Any]]:
    return zip(state._fields, state, strict=True)


def _flat(state: Any) -> dict[str, Tensor]:
    return {f"{n}/{k}": value for n, part in _parts(state) for k, value in _tensors(part).items()}


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
