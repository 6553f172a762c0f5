import pytest

from jtln_tf.config import COST_METRICS, InputError, parse_cost_spec


@pytest.mark.parametrize("metric", [*COST_METRICS, "online"])
def test_a_metric(metric):
    spec = parse_cost_spec(metric)
    assert spec.terms == ((1.0, metric),) and not spec.is_shuffled and spec.text == metric
    assert spec.metrics == (metric,) and spec.files == ()


@pytest.mark.parametrize("path", ["cost.csv", "/a b/cost.npz", "a+b.csv", "mkmmd/a+b+c.npz", "../0.5.csv", "a:b.npz"])
def test_a_file(path):
    spec = parse_cost_spec(path)
    assert spec.terms == ((1.0, path),) and spec.metrics == () and spec.files == (path,)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("mkmmd+text", ((1.0, "mkmmd"), (1.0, "text"))),
        ("0.7*mkmmd+0.3*text", ((0.7, "mkmmd"), (0.3, "text"))),
        ("2*a+b.csv+mkmmd+.5*c.npz", ((2.0, "a+b.csv"), (1.0, "mkmmd"), (0.5, "c.npz"))),
        ("1e-3*uniform+1*text", ((1e-3, "uniform"), (1.0, "text"))),
    ],
)
def test_a_combination(text, terms):
    assert parse_cost_spec(text).terms == terms


def test_a_shuffled_control():
    spec = parse_cost_spec("shuffled:0.5*mkmmd+a.csv")
    assert spec.is_shuffled and spec.terms == ((0.5, "mkmmd"), (1.0, "a.csv"))


@pytest.mark.parametrize(
    "text",
    ["", "+", "mkmmd+", "+mkmmd", "mkmmd++text", "mkmd", "cost.txt", "mkmmd text", "MKMMD", "shuffled:", "mkmmd*2"],
)
def test_what_is_neither_metric_nor_file(text):
    with pytest.raises(InputError, match="must be a .npz or .csv file or one of mkmmd, .*online; .* Received: '"):
        parse_cost_spec(text)


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "half", "", "1,5"])
def test_weights_are_positive_numbers(weight):
    with pytest.raises(InputError, match=f"must have weights above 0, .* Received: '{weight}' in "):
        parse_cost_spec(f"{weight}*mkmmd+text")


@pytest.mark.parametrize("text", ["0.5*mkmmd", "shuffled:2*cost.csv"])
def test_a_weight_alone_is_refused(text):
    with pytest.raises(InputError, match="weights only where several are combined. Received: "):
        parse_cost_spec(text)


@pytest.mark.parametrize("text", ["online+mkmmd", "0.5*online+0.5*text", "shuffled:online"])
def test_online_stands_alone(text):
    with pytest.raises(InputError, match="`cost_matrix`=online must stand alone. Received: "):
        parse_cost_spec(text)
