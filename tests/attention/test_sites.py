"""Patterns of names of blocks."""

import pytest

from rbctrl.attention import AFA


@pytest.mark.parametrize("where", [(), None, [3], 3])
def test_patterns_that_name_no_block_are_refused_before_there_is_a_network(where):
    with pytest.raises(ValueError, match="attention.where is a list of patterns"):
        AFA("ref.png", where=where)
