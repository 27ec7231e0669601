"""The examples in the docstrings run, in the precision that a reader has: float32."""

import doctest
import importlib

import pytest
import torch

MODULES = ["aevb.data", "aevb.divergence", "aevb.own_data"]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    torch.set_default_dtype(torch.float32)  # the fixture of all tests sets it back
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0
