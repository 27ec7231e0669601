"""Records: stored, verified, refused by name when damaged."""

import dataclasses
import errno
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

import aevb
from aevb import arithmetic, experiments, results

RECORD = results.Record(
    "figure-2",
    "mnist-aevb-nz20-seed0",
    {"dataset": "mnist", "latent_dim": 20, "step_size": 0.01, "prior": True, "note": "ε ∼ p(ε)"},
    {"samples": [100, 10_000], "test": [-543.4, 1 / 3], "train_running": [-1e-17, 0.1 + 0.2]},
    {"torch": "2", "commit": None, "wall_seconds": 3.5},
)


def weights(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "a.weight": torch.randn(3, 4, generator=generator),
        "a.bias": torch.randn(3, generator=generator),
    }


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.rglob("*") if file.is_file())


def refused(path: Path, message: str = "") -> str:
    with pytest.raises(results.RecordError) as error:
        results.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert message in str(error.value)
    return str(error.value)


# -- There and back ----------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    stored = results.save(RECORD, tmp_path)

    assert stored.path == tmp_path / "figure-2" / "mnist-aevb-nz20-seed0.json"
    assert stored == RECORD  # floats to the last digit
    assert results.load(stored.path) == RECORD
    assert names(tmp_path) == ["mnist-aevb-nz20-seed0.json"]
    with pytest.raises(results.RecordError, match="no weights were kept"):
        results.load_weights(stored)


def test_weights_come_back_in_half_precision(tmp_path: Path) -> None:
    stored = results.save(RECORD, tmp_path, weights())

    assert names(tmp_path) == ["mnist-aevb-nz20-seed0.json", "mnist-aevb-nz20-seed0.safetensors"]
    found = results.load_weights(results.load(stored.path))
    assert found.keys() == weights().keys()
    for key, value in weights().items():
        assert found[key].dtype == torch.float32
        assert torch.equal(found[key], value.half().float())
        torch.testing.assert_close(found[key].double(), value, rtol=2**-11, atol=2**-24)


def test_a_record_is_a_text_that_a_diff_can_show(tmp_path: Path) -> None:
    text = results.save(RECORD, tmp_path).path.read_text()
    content = json.loads(text)

    assert text.endswith("}\n")
    assert list(content) == sorted(content)
    assert content["schema"] == 1
    assert len(content["digest"]) == 64
    assert "path" not in content


def test_the_same_record_is_the_same_file(tmp_path: Path) -> None:
    first = results.save(RECORD, tmp_path / "a", weights())
    second = results.save(RECORD, tmp_path / "b", weights())
    assert first.path.read_bytes() == second.path.read_bytes()
    for record in (first, second):
        assert record.weights == first.weights


def test_a_later_record_replaces_the_earlier(tmp_path: Path) -> None:
    results.save(RECORD, tmp_path, weights())
    later = dataclasses.replace(RECORD, curves={"samples": [100], "test": [-1.0]})

    stored = results.save(later, tmp_path, weights(1))

    assert results.find("figure-2", tmp_path) == [stored]
    assert torch.equal(results.load_weights(stored)["a.bias"], weights(1)["a.bias"].half().float())

    results.save(later, tmp_path)
    assert names(tmp_path) == ["mnist-aevb-nz20-seed0.json"], (
        "the earlier record's weights are left"
    )


def test_find_is_in_the_order_of_names(tmp_path: Path) -> None:
    names = [f"{n * 7 % 19:02d}" for n in range(19)]
    for name in names:
        results.save(dataclasses.replace(RECORD, name=name), tmp_path)
    results.save(dataclasses.replace(RECORD, figure="figure-9"), tmp_path)

    assert [record.name for record in results.find("figure-2", tmp_path)] == sorted(names)
    assert results.find("figure-3", tmp_path) == []


def test_find_does_not_pass_over_a_damaged_record(tmp_path: Path) -> None:
    stored = results.save(RECORD, tmp_path)
    results.save(dataclasses.replace(RECORD, name="another"), tmp_path)
    stored.path.write_text("{")
    with pytest.raises(results.RecordError, match="mnist-aevb-nz20-seed0"):
        results.find("figure-2", tmp_path)


# -- Where records are -------------------------------------------------------------------------


def test_the_folders_of_the_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AEVB_RESULTS", raising=False)
    root = Path(aevb.__file__).parents[1]
    assert results.folder() == results.folder("paper") == root / "book" / "results"
    assert results.folder("smoke") == root / "_build" / "results" / "smoke"
    assert results.folder("quick") == root / "_build" / "results" / "quick"


def test_the_environment_names_another_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AEVB_RESULTS", str(tmp_path))
    assert results.folder() == tmp_path
    assert results.folder("smoke") == tmp_path / "smoke"
    assert results.save(RECORD).path.parent == tmp_path / "figure-2"
    assert results.find("figure-2") == [RECORD]


def test_a_package_without_its_repository_keeps_to_the_working_folder(tmp_path: Path) -> None:
    """Copied, as an installation does, into another project, which has a commit of its own."""
    shutil.copytree(Path(aevb.__file__).parent, tmp_path / "site-packages" / "aevb")
    work = tmp_path / "work"
    work.mkdir()
    own = ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "theirs", "--allow-empty"]
    for command in (["init", "-q"], own):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    code = """
import json, torch
from aevb import data, results
from aevb.sweep import _environment
places = data.folder(), results.folder(), results.folder("quick")
made = results.provenance(torch.device("cpu"), "")["commit"]
told = [word for word in _environment() if "RESULTS" in word]
print(json.dumps([*map(str, places), made, told]))
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AEVB_")}
    shown = subprocess.check_output(
        [sys.executable, "-c", code],
        cwd=work,
        env=clean | {"PYTHONPATH": str(tmp_path / "site-packages")},
        text=True,
    )
    places = [work / "data", work / "results", work / "results" / "quick"]
    assert json.loads(shown) == [*map(str, places), None, [f"AEVB_RESULTS={work}/results"]]


# -- Damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_a_changed_byte_is_refused_or_means_nothing(tmp_path: Path, flip: int) -> None:
    path = results.save(RECORD, tmp_path, weights()).path
    content, same, messages = path.read_bytes(), 0, []
    expected = results.load(path)
    places = range(0, len(content), 7)
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= flip
        path.write_bytes(damaged)
        try:
            found = results.load(path)
        except results.RecordError as error:
            messages.append(str(error))
        else:
            assert found == expected, place
            same += 1
    assert same < len(places) / 20  # white space, at most
    assert all(text.startswith(f"{path}: ") and "\n" not in text for text in messages)


def test_every_value_is_under_the_digest(tmp_path: Path) -> None:
    path = results.save(RECORD, tmp_path, weights()).path
    content = json.loads(path.read_text())
    changes: list[dict[str, Any]] = [
        {"curves": content["curves"] | {"test": [-543.4, 1 / 3 + 1e-16]}},
        {"configuration": content["configuration"] | {"preset": "paper"}},
        {"provenance": content["provenance"] | {"wall_seconds": 3.6}},
        {"weights": content["weights"] | {"sha256": "0" * 64}},
        {"weights": None},
        {"name": "mnist-aevb-nz20-seed1"},
        {"figure": "figure-4"},
        {"extra": 1},
        {"digest": "0" * 64},
    ]
    for change in changes:
        path.write_text(json.dumps(content | change))
        refused(path, "damaged: expected digest ")
    for field in content:
        path.write_text(json.dumps({key: value for key, value in content.items() if key != field}))
        refused(path)


def test_a_rearranged_record_is_the_same_record(tmp_path: Path) -> None:
    path = results.save(RECORD, tmp_path).path
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items())), indent=4))
    assert results.load(path) == RECORD


def test_a_record_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = results.save(RECORD, tmp_path).path
    content = path.read_bytes()
    for length in range(0, len(content) - 2, 11):
        path.write_bytes(content[:length])
        refused(path, "not a readable record")


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_an_unknown_schema_is_refused(tmp_path: Path, schema: Any) -> None:
    path = results.save(RECORD, tmp_path).path
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": schema}))
    refused(path, f"expected a record of schema 1, found {schema!r}")


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"null", b"{}", b"\xff\xfe\x00", b"[[[["])
def test_what_is_no_record_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "figure-2" / "x.json"
    path.parent.mkdir()
    path.write_bytes(content)
    message = refused(path, "not a readable record")
    assert re.search(
        r"record: (no JSON|expected (an object|the field schema, found none))", message
    )


def sealed(path: Path, content: dict[str, Any]) -> None:
    """Store contents with the digest that they have, as a record that was made by hand could."""
    del content["digest"]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    path.write_text(json.dumps(content | {"digest": hashlib.sha256(text.encode()).hexdigest()}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "the fields: expected"),
        (
            {"figure": "../figure-2"},
            "figure: expected a name without a folder, found '../figure-2'",
        ),
        ({"name": "a/b"}, "name: expected a name without a folder, found 'a/b'"),
        ({"name": ".."}, "name: expected a name without a folder, found '..'"),
        ({"name": ""}, "name: expected a name without a folder, found ''"),
        ({"name": 3}, "name: expected a name without a folder, found '3'"),
        ({"configuration": []}, "configuration: expected an object, found 'list'"),
        ({"curves": None}, "curves: expected an object, found 'NoneType'"),
        ({"provenance": "here"}, "provenance: expected an object, found 'str'"),
        ({"curves": {"test": [1.0]}}, "the curves: expected samples"),
        ({"curves": {"samples": []}}, "the curve samples: expected a number, found 'none'"),
        ({"curves": {"samples": [1], "test": 1.0}}, "the curve test: expected a list of finite"),
        ({"curves": {"samples": [1], "test": ["1"]}}, "the curve test: expected a list of finite"),
        ({"curves": {"samples": [1], "test": [True]}}, "the curve test: expected a list of finite"),
        ({"curves": {"samples": [1], "test": [None]}}, "the curve test: expected a list of finite"),
        ({"curves": {"samples": [1, 2], "test": [1.0]}}, "the curve test: expected 2 numbers"),
        ({"weights": {"file": "../x.safetensors", "sha256": "0" * 64}}, "weights: expected"),
        ({"weights": {"file": "mnist-aevb-nz20-seed0.safetensors", "sha256": "0"}}, "weights: exp"),
        ({"weights": "x.safetensors"}, "weights: expected"),
    ],
    ids=str,
)
def test_what_a_record_cannot_hold_is_refused_whatever_its_digest(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = results.save(RECORD, tmp_path).path
    sealed(path, json.loads(path.read_text()) | change)
    refused(path, f"not a record: {message}")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_refused(tmp_path: Path, number: str) -> None:
    path = results.save(RECORD, tmp_path).path
    path.write_text(path.read_text().replace("-543.4", number))
    refused(path, "not a readable record")


def test_a_record_too_deep_or_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep.json"
    path.write_text('{"a":' * 100_000)
    refused(path, "not a readable record: nested too deep")
    monkeypatch.setattr(results, "MOST_BYTES", 1_000)
    refused(path, "the file: expected at most 1,000 bytes, found '500,000'")


@pytest.mark.parametrize("part", ["figure", "name"])
@pytest.mark.parametrize("value", ["../out", "/out", "a/b", "", "..", ".hidden", "a\nb", "a\0b"])
def test_a_record_cannot_be_stored_outside_its_folder(
    tmp_path: Path, part: str, value: str
) -> None:
    with pytest.raises(results.RecordError, match="expected a name without a folder"):
        results.save(dataclasses.replace(RECORD, **{part: value}), tmp_path / "records")
    assert not list(tmp_path.rglob("*"))


def test_what_could_not_be_loaded_is_not_stored(tmp_path: Path) -> None:
    results.save(RECORD, tmp_path, weights(1))
    uneven = dataclasses.replace(RECORD, curves={"samples": [100, 200], "test": [-1.0]})
    assert "the curve test: expected 2 numbers" in not_written(tmp_path, uneven)
    odd = dataclasses.replace(RECORD, configuration={"a": {1, 2}})
    assert "set is not JSON serializable" in not_written(tmp_path, odd)
    large = weights() | {"a.bias": torch.full((3,), 1e5)}  # beyond what half precision holds
    assert "the weights a.bias: expected finite" in not_written(tmp_path, RECORD, large)


def test_every_stored_record_is_loaded_with_its_weights() -> None:
    """Also those from before a setting was there, from which :data:`results.BEFORE` is."""
    stored = sorted((results.ROOT / "book" / "results").rglob("*.json"))
    records = [results.load(path) for path in stored]
    assert len(records) > 80
    for record in records:
        if record.weights:
            assert results.load_weights(record)
        if record.figure in ("figure-2", "figure-3"):
            experiments.specification(record)
    older = [record for record in records if "precision" not in record.configuration]
    assert older, "a record from before this setting"
    assert all(record.settings["precision"] == "float32" for record in older)


def test_an_absent_record_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "absent.json", "not a readable record")
    (tmp_path / "folder.json").mkdir()
    refused(tmp_path / "folder.json", "not a readable record")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    record = results.save(RECORD, tmp_path, weights())
    path = record.path.with_suffix(".safetensors")
    content = path.read_bytes()

    def refused_weights() -> str:
        with pytest.raises(results.RecordError) as error:
            results.load_weights(record)
        assert str(error.value).startswith(f"{path}: unusable weights: ")
        assert "\n" not in str(error.value)
        return str(error.value)

    for place in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        assert record.weights["sha256"] in refused_weights()
    path.write_bytes(content[:-1])
    assert record.weights["sha256"] in refused_weights()
    path.unlink()
    assert "No such file" in refused_weights()

    assert results.load(record.path) == record  # the curves are still of use


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"a": torch.ones(3)}, "the weights a: expected torch.float16, found 'torch.float32'"),
        ({"a": torch.full((3,), torch.inf).half()}, "the weights a: expected finite numbers"),
    ],
)
def test_other_weights_are_refused_whatever_their_checksum(
    tmp_path: Path, other: dict[str, Tensor], message: str
) -> None:
    record = results.save(RECORD, tmp_path, weights())
    path = record.path.with_suffix(".safetensors")
    path.write_bytes(save_tensors(other))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    content = json.loads(record.path.read_text())
    sealed(record.path, content | {"weights": {"file": path.name, "sha256": sha256}})
    with pytest.raises(results.RecordError, match=f"^{path}: unusable weights: {message}"):
        results.load_weights(results.load(record.path))


# -- What cannot be stored ---------------------------------------------------------------------


def not_written(path: Path, record: results.Record, given: dict[str, Tensor] | None = None) -> str:
    """Whether storing fails in one line, and leaves everything as it was."""
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(results.RecordError) as error:
        results.save(record, path, given)
    assert "the record could not be written" in str(error.value)
    assert f"{record.name}.json" in str(error.value)
    assert "\n" not in str(error.value)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    return str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kept", [None, weights()], ids=["alone", "with weights"])
def test_a_value_that_is_no_number_is_refused(tmp_path: Path, value: float, kept: Any) -> None:
    results.save(RECORD, tmp_path, weights(1))
    wrong = dataclasses.replace(RECORD, curves={"samples": [100], "test": [value]})
    not_written(tmp_path, wrong, kept)


@pytest.mark.parametrize(("call", "at"), [("fsync", 1), ("fsync", 2), ("replace", 1)])
def test_the_old_record_survives_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, at: int
) -> None:
    old = results.save(RECORD, tmp_path, weights())
    calls = []

    def fails(*given: Any) -> None:
        calls.append(given)
        if len(calls) == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    later = dataclasses.replace(RECORD, curves={"samples": [100], "test": [-1.0]})
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        assert "No space left on device" in not_written(tmp_path, later, weights(1))

    assert results.find("figure-2", tmp_path) == [old]
    assert torch.equal(results.load_weights(old)["a.bias"], weights()["a.bias"].half().float())


@pytest.mark.parametrize("limit", [0, 100, 300, 500])
def test_the_old_record_survives_a_write_that_stops_half_way(tmp_path: Path, limit: int) -> None:
    # Not simulated: the kernel lets this process's files grow no further. The weights take some
    # 200 bytes and the record more, so that one limit stops the first and another the second.
    old = results.save(RECORD, tmp_path, weights())
    later = dataclasses.replace(RECORD, curves={"samples": [100] * 100, "test": [-1.0] * 100})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        message = not_written(tmp_path, later, weights(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert "File too large" in message
    assert results.find("figure-2", tmp_path) == [old]
    assert results.load_weights(old).keys() == weights().keys()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "figure-2").write_text("in the way")
    not_written(tmp_path, RECORD)


# -- Where and how -----------------------------------------------------------------------------


def test_the_provenance_can_be_stored_and_says_enough(tmp_path: Path) -> None:
    provenance = results.provenance(torch.device("cpu"), "5" * 64)

    assert provenance["aevb"] == aevb.__version__
    assert provenance["torch"] == torch.__version__
    assert provenance["threads"] == torch.get_num_threads()
    assert provenance["device"] == "cpu"
    assert provenance["data_sha256"] == "5" * 64
    for key in ("python", "numpy", "platform", "date"):
        assert provenance[key]
    assert {"processor", "commit"} <= provenance.keys()
    assert (provenance["products"] == "oneDNN") == arithmetic.onednn_is_quick()
    stored = results.save(dataclasses.replace(RECORD, provenance=provenance), tmp_path)
    assert stored.provenance == provenance


def test_a_record_from_before_it_was_noted_was_multiplied_by_pytorch() -> None:
    assert results.multiplied_by(dataclasses.replace(RECORD, provenance={})) == "PyTorch"
    noted = dataclasses.replace(RECORD, provenance={"products": "a library"})
    assert results.multiplied_by(noted) == "a library"


def test_a_machine_without_git_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert results.provenance(torch.device("cpu"), "")["commit"] is None


def test_the_commit_is_told_and_whether_something_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.delenv("AEVB_COMMIT", raising=False)
    git = ["git", "-C", tmp_path, "-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], ["commit", "-qm", "ours", "--allow-empty"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True)
    assert results.provenance(torch.device("cpu"), "")["commit"] == head[:12]
    (tmp_path / "file").touch()
    subprocess.run([*git, "add", "file"], check=True)
    assert results.provenance(torch.device("cpu"), "")["commit"] == f"{head[:12]}-dirty"
    monkeypatch.setenv("AEVB_COMMIT", "told")
    assert results.provenance(torch.device("cpu"), "")["commit"] == "told"


def test_the_threads_are_those_in_use() -> None:
    torch.set_num_threads(2)
    try:
        assert results.provenance(torch.device("cpu"), "")["threads"] == 2
    finally:
        torch.set_num_threads(1)
