"""What all tests share without asking for it."""

import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def _what_is_there_is_no_garbage():
    """A collection passes over what earlier files have left: half a million objects of imported packages, for the most part."""
    gc.collect()
    gc.freeze()
