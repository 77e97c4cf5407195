"""Quantities against a slow and simple reading of their definition."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envprov.domain.quantity import amount, same, written

UNITS = {
    "": Fraction(1),
    "m": Fraction(1, 1000),
    "k": Fraction(10) ** 3,
    "M": Fraction(10) ** 6,
    "G": Fraction(10) ** 9,
    "T": Fraction(10) ** 12,
    "P": Fraction(10) ** 15,
    "E": Fraction(10) ** 18,
    "Ki": Fraction(2) ** 10,
    "Mi": Fraction(2) ** 20,
    "Gi": Fraction(2) ** 30,
    "Ti": Fraction(2) ** 40,
    "Pi": Fraction(2) ** 50,
    "Ei": Fraction(2) ** 60,
}

numbers = st.builds(
    lambda whole, part: f"{whole}.{part}" if part else str(whole),
    st.integers(0, 10**15 - 1),
    st.text(alphabet="0123456789", max_size=9),
)
quantities = st.tuples(numbers, st.sampled_from(sorted(UNITS)))


def exactly(number: str, unit: str) -> Fraction:
    return Fraction(number) * UNITS[unit]


@settings(deadline=None)
@given(quantities)
def test_a_quantity_is_read_exactly(parts: tuple[str, str]) -> None:
    assert Fraction(amount("".join(parts))) == exactly(*parts)


@settings(deadline=None)
@given(quantities, quantities)
def test_two_quantities_are_the_same_when_their_values_are(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert same("".join(one), "".join(other)) == (exactly(*one) == exactly(*other))


@settings(deadline=None)
@given(quantities, st.sampled_from(["1", "1m", "1Mi", "1Gi", "1G"]))
def test_what_is_written_reads_the_same_or_is_rounded_up(parts: tuple[str, str], like: str) -> None:
    value = exactly(*parts)
    back = Fraction(amount(written(amount("".join(parts)), like=like)))
    step = Fraction(1) if like.endswith("i") else Fraction(1, 1000)
    assert value <= back < value + step
    if value % step == 0:
        assert back == value


@pytest.mark.parametrize(
    ("value", "like", "expected"),
    [
        pytest.param("0", "1Gi", "0", id="nothing"),
        pytest.param("3221225472", "1Gi", "3Gi", id="whole gibibytes"),
        pytest.param("1610612736", "1Gi", "1536Mi", id="half a gibibyte more"),
        pytest.param("1025", "1Ki", "1025", id="no whole kibibyte"),
        pytest.param("1.5", "1Gi", "2", id="half a byte is a byte"),
        pytest.param("2", "500m", "2", id="whole cores"),
        pytest.param("1.5", "1", "1500m", id="half a core"),
        pytest.param("0.0001", "1", "1m", id="less than milli is milli"),
        pytest.param("20", "1", "20", id="no exponent"),
        pytest.param("20000000000000000000000000000000", "1", "20000000000000000000000000000000", id="very many"),
    ],
)
def test_written(value: str, like: str, expected: str) -> None:
    assert written(Decimal(value), like=like) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("129e6", Decimal(129000000), id="exponent"),
        pytest.param("1E3", Decimal(1000), id="capital exponent"),
        pytest.param("1E", Decimal(10) ** 18, id="exa"),
        pytest.param("1e+3", Decimal(1000), id="signed exponent"),
        pytest.param("1e-3", Decimal("0.001"), id="negative exponent"),
        pytest.param("100u", Decimal("0.0001"), id="micro"),
        pytest.param("100n", Decimal("0.0000001"), id="nano"),
        pytest.param(".5", Decimal("0.5"), id="no whole part"),
        pytest.param("5.", Decimal(5), id="no fraction"),
    ],
)
def test_what_the_api_server_may_also_write(text: str, value: Decimal) -> None:
    assert amount(text) == value


@pytest.mark.parametrize("text", ["", ".", "1.2.3", "1..2", "Gi", "1 Gi", "1gi", "1KI", "-1", "1\n", "four", "٣", "1e"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        amount(text)
    assert same(text, text)
    assert not same(text, "1")
