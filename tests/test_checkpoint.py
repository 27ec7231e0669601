"""Stop and resume, bit for bit; and what happens to a checkpoint that is damaged."""

import errno
import json
import os
import random
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from aevb import adagrad, auto_encoding, checkpoint, models


class State(NamedTuple):
    """One of each kind of thing that a state may hold."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    position: Tensor


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adagrad": lambda parameters: adagrad.Adagrad(parameters, 0.1, prior_weight=0.02, warm_up=5),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.01),
    "SGD with momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
}
PROGRESS = {"samples": 300, "history": {"test": [-1.5, 0.1 + 0.2]}, "running": 1 / 3}


def make(optimizer: str = "Adagrad", seed: int = 0, hidden: int = 5) -> State:
    generator = torch.Generator().manual_seed(seed)
    model = models.bernoulli_vae(7, hidden, 2, generator, std=0.5)
    position = torch.randn(4, 2, generator=generator)
    return State(model, OPTIMIZERS[optimizer](model.parameters()), generator, position)


def advance(state: State, steps: int) -> None:
    algorithm = auto_encoding.init(*state[:3])
    for _ in range(steps):
        x = torch.rand(10, 7, generator=state.generator)
        auto_encoding.step(algorithm, x)
    state.position.add_(torch.randn(4, 2, generator=state.generator))


def contents(state: State) -> list[Tensor]:
    slots = state.optimizer.state_dict()["state"].values()
    return [
        *(parameter.detach().clone() for parameter in state.model.parameters()),
        *(slot[key].clone() for slot in slots for key in sorted(slot)),
        state.generator.get_state(),
        state.position.clone(),
    ]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    state = make()
    advance(state, 8)
    path = tmp_path / "run.checkpoint.safetensors"
    checkpoint.store(path, state, PROGRESS, "run A")
    return path


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("steps", [3, 8], ids=["in the warm-up", "after it"])
def test_a_state_goes_on_where_it_stopped(tmp_path: Path, optimizer: str, steps: int) -> None:
    straight = make(optimizer)
    advance(straight, steps)
    checkpoint.store(tmp_path / "c", straight, PROGRESS, "run A")

    resumed = make(optimizer, seed=9)
    progress = checkpoint.load(tmp_path / "c", resumed, "run A")

    assert progress == PROGRESS  # floats too: JSON keeps every digit
    assert same(contents(resumed), contents(straight))
    assert resumed.optimizer.param_groups[0]["lr"] == straight.optimizer.param_groups[0]["lr"]
    for state in (straight, resumed):
        advance(state, 8)
    assert same(contents(resumed), contents(straight))


def test_a_state_before_its_first_step_can_be_stored(tmp_path: Path) -> None:
    for optimizer in OPTIMIZERS:
        before, after = make(optimizer), make(optimizer, seed=9)
        checkpoint.store(tmp_path / "c", before, {}, "")
        checkpoint.load(tmp_path / "c", after, "")
        assert same(contents(after), contents(before)), optimizer


def test_a_tensor_of_any_layout_can_be_stored(tmp_path: Path) -> None:
    before, after = make(), make(seed=9)
    for transposed in (before, after):
        transposed.position.data = torch.randn(2, 4).T
    checkpoint.store(tmp_path / "c", before, {})
    checkpoint.load(tmp_path / "c", after)
    assert torch.equal(after.position, before.position)


def test_storing_changes_nothing(tmp_path: Path) -> None:
    state = make()
    before = contents(state)
    checkpoint.store(tmp_path / "c", state, PROGRESS)
    assert same(contents(state), before)


def test_the_folder_is_made_and_nothing_else_is_left_in_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "run.checkpoint.safetensors"
    for _ in range(3):
        checkpoint.store(path, make(), PROGRESS)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def refused(path: Path, identity: str = "run A", message: str = "") -> str:
    """Whether loading is refused by name, in one line, and the state is left as it was."""
    state = make(seed=9)
    before = contents(state)
    with pytest.raises(checkpoint.CheckpointError) as error:
        checkpoint.load(path, state, identity)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert message in str(error.value)
    assert same(contents(state), before)
    return str(error.value)


def test_a_flipped_bit_anywhere_is_refused(stored: Path) -> None:
    content, generator = stored.read_bytes(), random.Random(0)
    header = 8 + int.from_bytes(content[:8], "little")
    places = [generator.randrange(header) for _ in range(100)]
    places += [generator.randrange(header, len(content)) for _ in range(100)]
    for place in [0, 7, 8, header - 1, header, len(content) - 1, *places]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << generator.randrange(8)
        stored.write_bytes(damaged)
        refused(stored, message="damaged checkpoint")


def test_a_file_cut_anywhere_is_refused(stored: Path) -> None:
    content, generator = stored.read_bytes(), random.Random(0)
    for length in [0, 1, 7, 8, 9, len(content) - 1, *generator.sample(range(len(content)), 60)]:
        stored.write_bytes(content[:length])
        refused(stored, message="damaged checkpoint")
    stored.write_bytes(content + b"\0")
    refused(stored, message="damaged checkpoint")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\0" * 1000], ids=repr)
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c").write_bytes(content[:1000])
    refused(tmp_path / "c", message="damaged checkpoint")


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(3)}, tmp_path / "c")
    refused(tmp_path / "c", message="damaged checkpoint")


def test_an_absent_checkpoint_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "absent", message="damaged checkpoint")


def test_another_runs_checkpoint_is_refused(stored: Path) -> None:
    refused(stored, "run B", "a checkpoint of another run: expected run B, found run A")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "null",
        "{",
        '{"identity": "run A", "progress": {}}',
        '{"identity": "run A", "progress": [], "optimizers": {}}',
        '{"identity": 1, "progress": {}, "optimizers": {}}',
    ],
)
def test_a_text_that_does_not_say_enough_is_refused_whatever_its_digest(
    stored: Path, text: str
) -> None:
    with safe_open(stored, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    save_file(tensors, stored, {"state": text, "sha256": checkpoint._digest(tensors, text)})
    refused(stored, message="damaged checkpoint")


def retyped(path: Path, old: str, new: str) -> None:
    """Change the type of a tensor in the header; what the digest covers stays the same."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].replace(old.encode(), new.encode(), 1)
    path.write_bytes(content[:8] + header + content[8 + size :])


def test_a_tensor_of_another_type_is_refused(stored: Path) -> None:
    retyped(stored, '"F64"', '"I64"')
    refused(stored, message="does not fit this run's state: ")


@pytest.mark.parametrize("hidden", [4, 6])
def test_a_state_of_another_shape_is_refused(tmp_path: Path, hidden: int) -> None:
    checkpoint.store(tmp_path / "c", make(hidden=hidden), PROGRESS, "run A")
    message = refused(tmp_path / "c", message="does not fit this run's state: ")
    assert "model/recognition_model.hidden.weight" in message
    assert "position" not in message  # it fits


def test_a_state_with_other_parts_is_refused(tmp_path: Path) -> None:
    class Fewer(NamedTuple):
        model: nn.Module
        generator: torch.Generator

    state = make()
    checkpoint.store(tmp_path / "c", Fewer(state.model, state.generator), PROGRESS, "run A")
    refused(tmp_path / "c", message="position/value")

    checkpoint.store(tmp_path / "c", state, PROGRESS, "run A")
    with pytest.raises(checkpoint.CheckpointError, match="position/value"):
        checkpoint.load(tmp_path / "c", Fewer(state.model, state.generator), "run A")


def test_what_has_no_rule_to_be_stored_is_refused(tmp_path: Path) -> None:
    class Odd(NamedTuple):
        count: int

    with pytest.raises(TypeError, match=r"^a state holds a int: no rule to store it$"):
        checkpoint.store(tmp_path / "c", Odd(3), {})
    assert not list(tmp_path.iterdir())


# -- A disk that refuses -----------------------------------------------------------------------


def fails(*arguments: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_the_old_checkpoint_survives_a_failing_write(
    stored: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before, state = stored.read_bytes(), make(seed=3)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(OSError, match="No space left on device"):
            checkpoint.store(stored, state, PROGRESS, "run A")

    assert stored.read_bytes() == before
    assert [file.name for file in stored.parent.iterdir()] == [stored.name]
    checkpoint.load(stored, state, "run A")


def test_the_old_checkpoint_survives_a_write_that_stops_half_way(stored: Path) -> None:
    # Not simulated: the kernel lets this process's files grow to half of the checkpoint.
    before = stored.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OSError, match=f"File too large: '{stored}'"):
            checkpoint.store(stored, make(seed=3), PROGRESS, "run A")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert stored.read_bytes() == before
    assert [file.name for file in stored.parent.iterdir()] == [stored.name]


def test_several_files_are_replaced_all_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    checkpoint.write_atomically({first: b"old", second: b"old"})
    flushed = []

    def only_once(descriptor: int) -> None:
        flushed.append(descriptor)
        if len(flushed) > 1:
            fails()

    monkeypatch.setattr(os, "fsync", only_once)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write_atomically({first: b"new", second: b"new"})

    assert (first.read_bytes(), second.read_bytes()) == (b"old", b"old")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["first", "second"]


def test_the_contents_are_on_the_disk_before_the_name_is_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, fsync, replace = [], os.fsync, os.replace

    def sync(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        seen.append("the folder" if folder else "the file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", lambda *given: (seen.append("replace"), replace(*given)))
    checkpoint.store(tmp_path / "c", make(), PROGRESS)
    assert seen == ["the file", "replace", "the folder"]


def test_a_file_system_that_cannot_sync_a_folder_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    checkpoint.store(tmp_path / "c", make(), PROGRESS)
    checkpoint.load(tmp_path / "c", make())


def test_a_checkpoint_can_be_looked_into(stored: Path) -> None:
    with safe_open(stored, framework="pt") as file:
        assert json.loads(file.metadata()["state"])["progress"] == PROGRESS
        assert "generator/state" in file.keys()  # noqa: SIM118 - not a mapping


def test_a_checkpoint_of_some_run_is_not_that_of_none(stored: Path) -> None:
    refused(stored, "", "a checkpoint of another run")
