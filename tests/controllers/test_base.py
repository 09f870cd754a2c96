"""What a controller says about itself is what it does."""

from dataclasses import replace

import pytest
from controllers.cases import EXACT, PIXEL
from controllers.test_all import both

from rbctrl.controllers.base import check_eps
from rbctrl.costs import Cost
from rbctrl.sampling import sample


class Counted(Cost):
    """A cost that counts how often it is asked."""

    def __init__(self, cost):
        super().__init__()
        self.cost, self.asked = cost, 0

    def forward(self, image, obs):
        self.asked += 1
        return self.cost(image, obs)


@pytest.mark.parametrize("name", [*PIXEL, *EXACT])
def test_uses_cost_says_whether_a_step_asks_the_objective(name):
    """A controller that fails here descends the cost and needs `uses_cost: ClassVar[bool] = True` (or the reverse)."""
    run, controller = both(name)
    cost = Counted(run.objective.cost)
    sample(replace(run, objective=replace(run.objective, cost=cost)), controller)
    assert controller.uses_cost == (cost.asked > 0)


def test_eps_is_one_of_two_words():
    check_eps("frozen")
    check_eps("recomputed")
    with pytest.raises(ValueError, match="'frozen' or 'recomputed', got 'held'"):
        check_eps("held")
