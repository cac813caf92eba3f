from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright_operator.apply.quantities import is_same_quantity, parse_quantity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1000m", "1"),
        ("0.5", "500m"),
        (1, "1"),
        ("1Gi", "1024Mi"),
        ("1G", "1e9"),
        (0.25, "250m"),
        ("1.5Ki", 1536),
        ("100E", "1e20"),
        ("+1", "1"),
        (".5", "0.5"),
        ("5.", "5"),
    ],
)
def test_same_amount_in_two_spellings(one, other):
    assert is_same_quantity(one, other)


@pytest.mark.parametrize(
    ("one", "other"), [("1", "1m"), ("1Gi", "1G"), ("1", "one"), ("x", "x"), (True, "1")]
)
def test_different_amounts_or_no_amounts(one, other):
    assert not is_same_quantity(one, other)


@pytest.mark.parametrize("value", ["", "1 Gi", "Gi", "1gi", "1.2.3", "--1", "1e", None, True, []])
def test_no_quantity(value):
    assert parse_quantity(value) is None


@given(st.integers(-(10**15), 10**15))
def test_property_milli_spelling_is_exact(thousandths):
    assert parse_quantity(f"{thousandths}m") == Fraction(thousandths, 1000)
