import pytest

from jtln_tf.config import DomainSpec, InputError, parse_domain_spec


def test_a_specification_without_options():
    spec = parse_domain_spec("folder:C:/data/Office 31?")
    assert spec == DomainSpec("folder:C:/data/Office 31?", "folder", "C:/data/Office 31")
    assert parse_domain_spec(spec) is spec


def test_every_option():
    text = (
        "folder:grocery?classes=Apple*,Pear&exclude=Apple_*&per_class=3&test_fraction=0.25&validation_fraction=0"
        "&crop_bottom=20&class_depth=2&family=Fruit,Vegetables&name=A"
    )
    lists = {"classes": ("Apple*", "Pear"), "exclude": ("Apple_*",)}
    numbers = {"per_class": 3, "test_fraction": 0.25, "validation_fraction": 0.0, "crop_bottom": 20, "class_depth": 2}
    # A column may be called like an attribute.
    filters = (("family", ("Fruit", "Vegetables")), ("name", ("A",)))
    assert parse_domain_spec(text) == DomainSpec(text, "folder", "grocery", **lists, **numbers, filters=filters)
    # Only a folder has a depth of classes.
    assert parse_domain_spec("records:d?class_depth=2").filters == (("class_depth", ("2",)),)


def test_names_are_percent_decoded_and_of_one_unicode_form():
    spec = parse_domain_spec("folder:d?classes=Salt%2C+Pepper,A%26B,Caf%C3%A9,50%25&origin%20country=C%C3%B4te")
    assert spec.classes == ("Salt,+Pepper", "A&B", "Café", "50%")
    assert spec.filters == (("origin country", ("Côte",)),)
    # As a Mac writes it: an e and an accent. A path stays as it is.
    spec = parse_domain_spec("folder:Cafe\u0301?classes=Cafe%CC%81")
    assert (spec.classes, spec.name) == (("Caf\u00e9",), "Cafe\u0301")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "KIND:NAME, KIND one of builtin, folder.*''"),
        ("Folder:x", "KIND:NAME, KIND one of builtin, folder.*'Folder:x'"),
        ("folder:?per_class=3", "needs a name after 'folder:'"),
        ("folder:d?classes", "name=value.*'classes'"),
        ("folder:d?classes=,", "name=value.*'classes=,'"),
        ("folder:d?fam%69ly=a&family=b", "given once.*'family' twice"),
        ("folder:d?per_class=0", "`per_class` must be a whole number of at least 1.*'0'"),
        ("folder:d?per_class=2.5", "`per_class` must be a whole number of at least 1.*'2.5'"),
        ("folder:d?validation_fraction=nan", r"`validation_fraction` must be in \[0, 1\).*'nan'"),
        ("folder:d?crop_bottom=-1", "`crop_bottom` must be a whole number of at least 0.*'-1'"),
        ("folder:d?class_depth=21", "`class_depth` must be a whole number of at least 1 and at most 20.*'21'"),
        (f"folder:d?crop_bottom={10**30}", r"at most 100,000. Received: '10{19}'\.\.\. \(31 characters\)"),
        (f"folder:d?per_class={'9' * 5000}", r"at most 1,000,000,000.*\(5000 characters\)"),
        ("builtin:mnist5k?crop_bottom=2", "one of classes, exclude, per_class, .*fraction. Received: 'crop_bottom'"),
    ],
)
def test_what_is_no_specification(text, message):
    with pytest.raises(InputError, match=message):
        parse_domain_spec(text)
