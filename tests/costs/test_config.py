import numpy as np
import pytest

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.costs.config import CostConfig, check_cost_files
from jtln_tf.costs.matrix import CostMatrix


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"matrix": "euclidean"},
            "`cost_matrix` must be a .npz or .csv file or one of auto, class_means, mkmmd, .*Received: 'euclidean'",
        ),
        ({"matrix": "text", "refresh_steps": 10}, "`cost_refresh_steps` needs .* Received: cost_matrix='text'"),
        ({"matrix": "online"}, "`cost_matrix`=online needs `cost_refresh_steps` above 0. Received: 0"),
        ({"images_per_class": 10**18}, "`cost_images_per_class` must be at most 100000. Received: 10{18}"),
        ({"matrix": "mkmmd+taxonomy"}, "`cost_matrix`=taxonomy needs `cost_taxonomy`. Received: nothing"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(InputError, match=message):
        CostConfig(**options)


def test_files_are_checked(tmp_path):
    path = tmp_path / "cost.npz"
    with pytest.raises(MissingInputError, match="`cost_matrix` must name an existing file"):
        check_cost_files(CostConfig(matrix=f"mkmmd+{path}"))
    path.write_text("damaged")
    with pytest.raises(InputError, match="`cost_matrix` must be a cost matrix file"):
        check_cost_files(CostConfig(matrix=str(path)))
    CostMatrix(np.eye(2), ("a", "b"), ("c", "d")).save(path)
    check_cost_files(CostConfig(matrix=str(path), taxonomy="columns:kind"))
    for name, value in (("class_table", "no.csv"), ("taxonomy", "wordnet:no"), ("text", "no.vec")):
        with pytest.raises(MissingInputError, match=f"`cost_{name}` must name an existing file or folder. .*'no"):
            check_cost_files(CostConfig(**{name: value}))
