"""The examples in the docstrings run, in the precision that a reader has: float32."""

import doctest
import importlib

import pytest
import torch

MODULES = [
    "aevb.auto_encoding",
    "aevb.data",
    "aevb.divergence",
    "aevb.estimators",
    "aevb.hmc",
    "aevb.marginal_likelihood.importance",
    "aevb.marginal_likelihood.quadrature",
    "aevb.marginal_likelihood.reciprocal",
    "aevb.own_data",
    "aevb.reparameterization",
    "aevb.reparameterization.law",
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    torch.set_default_dtype(torch.float32)  # the fixture of all tests sets it back
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0
