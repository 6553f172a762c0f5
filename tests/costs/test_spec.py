import pytest

from jtln_tf.config import InputError
from jtln_tf.costs.metrics import METRICS
from jtln_tf.costs.spec import parse_cost_spec


@pytest.mark.parametrize("metric", [*METRICS, "online"])
def test_a_metric(metric):
    spec = parse_cost_spec(metric)
    assert spec.terms == ((1.0, metric),) and not spec.is_shuffled and spec.text == metric
    assert spec.metrics == (metric,) and spec.files == () and parse_cost_spec(spec) is spec
    looks_at = METRICS[metric].looks_at if metric in METRICS else "network"
    assert spec.looks_through_network == (looks_at == "network") and spec.looks_at_pixels == (looks_at == "pixels")


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("mkmmd/a+b+c.npz", ((1.0, "mkmmd/a+b+c.npz"),)),
        ("mkmmd+text", ((1.0, "mkmmd"), (1.0, "text"))),
        ("2*a+b.csv+mkmmd+.5*c.npz", ((2.0, "a+b.csv"), (1.0, "mkmmd"), (0.5, "c.npz"))),
        ("shuffled:1e-3*uniform+1*text", ((1e-3, "uniform"), (1.0, "text"))),
    ],
)
def test_files_and_combinations(text, terms):
    spec = parse_cost_spec(text)
    assert spec.terms == terms and spec.is_shuffled == text.startswith("shuffled:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(
            (text, "one of auto, class_means, mkmmd, .*online; .* Received: '")
            for text in ("", "MKMMD", "shuffled:", "mkmmd*2", "mkmmd+")
        ),
        *((f"{w}*mkmmd+text", f"weights above 0, .* Received: '{w}' in ") for w in ("0", "nan", "inf", "", "1,5")),
        ("shuffled:2*cost.csv", "have weights only if several are combined. Received: "),
        *((text, "`cost_matrix`=online must stand alone. Received: ") for text in ("online+mkmmd", "shuffled:online")),
    ],
)
def test_what_is_no_specification(text, message):
    with pytest.raises(InputError, match=message):
        parse_cost_spec(text)
