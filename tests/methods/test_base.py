import pytest

from jtln_tf.config import InputError
from jtln_tf.methods import METHODS, find_method
from jtln_tf.methods.consecutive import Consecutive

TRAINED = [name for name, method in METHODS.items() if method().stages(2)]


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("steps", [2, 7, 500])
def test_every_method_takes_the_same_number_of_steps(name, steps):
    stages = METHODS[name]().stages(steps)
    assert sum(stage.steps for stage in stages) == steps and stages[0].first_step == 0
    assert all(one.last_step == other.first_step for one, other in zip(stages, stages[1:], strict=False))
    assert "target" in stages[-1].domains
    assert Consecutive().stages(7)[0].domains == ("source",)


def test_an_unknown_method_is_refused_with_those_that_there_are():
    with pytest.raises(InputError, match="`method` must be one of nearest_mean, .*jtln. Received: 'jtl'"):
        find_method("jtl")
