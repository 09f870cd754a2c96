"""What a scope installs is gone when it ends."""

import pytest
import text_models
import torch

from rbctrl.attention import AFA, find_sites, installed

TAIL = {"style": 4}


@pytest.fixture
def network():
    return text_models.ip_adapter(text_models.unet())


def snapshot(network):
    processors = {name: id(processor) for name, processor in network.attn_processors.items()}
    return processors, {name: (id(value), value.clone()) for name, value in network.named_parameters()}


def same(one, other):
    assert one[0] == other[0] and list(one[1]) == list(other[1])
    return all(
        before[0] == after[0] and torch.equal(before[1], after[1])
        for before, after in zip(one[1].values(), other[1].values())
    )


def test_processors_and_parameters_are_back_after_the_scope_and_after_an_exception(network):
    before = snapshot(network)
    with AFA("style.png").scope(network, TAIL):
        assert snapshot(network)[0] != before[0]
    assert same(before, snapshot(network))
    with pytest.raises(KeyError), AFA("style.png").scope(network, TAIL):
        raise KeyError
    assert same(before, snapshot(network))


def test_processors_are_back_where_installing_fails_half_way(network):
    before = snapshot(network)
    sites = find_sites(network)
    broken = type("Broken", (), {"set_processor": None, "processor": property(lambda self: 1 / 0)})
    with pytest.raises(ZeroDivisionError):
        with installed(network, {sites[0]: print, type(sites[1])("x", broken(), False): print}):
            pass
    assert same(before, snapshot(network))


def test_a_parameter_that_was_written_to_is_named(network):
    name, value = next(iter(network.named_parameters()))
    with pytest.raises(RuntimeError, match=f"parameters changed.*{name}"):
        with installed(network, {}), torch.no_grad():
            value.add_(1.0)


def test_two_scopes_are_left_in_order(network):
    before = snapshot(network)
    with AFA("style.png").scope(network, TAIL):
        inner = snapshot(network)
        with AFA("style.png", rule="paper").scope(network, TAIL):
            assert snapshot(network)[0] != inner[0]
        assert snapshot(network)[0] == inner[0]
    assert same(before, snapshot(network))
