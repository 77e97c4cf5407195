"""What an environment costs: by hand, and what a price table may hold."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from envprov.domain.cost import Cost, cost
from envprov.domain.errors import ConfigError
from envprov.domain.platform import Prices
from envprov.settings import load_settings

PRICES = Prices(cpu=Decimal("0.03"), memory=Decimal("0.004"), storage=Decimal("0.0001"))


def needs(cpu: str, memory_gib: str, storage_gib: str) -> dict[str, Decimal]:
    gib = Decimal(2**30)
    return {
        "requests.cpu": Decimal(cpu),
        "requests.memory": Decimal(memory_gib) * gib,
        "requests.storage": Decimal(storage_gib) * gib,
        "limits.memory": Decimal(memory_gib) * gib * 4,
        "pods": Decimal(3),
    }


@pytest.mark.parametrize(
    ("needed", "expected", "said"),
    [
        pytest.param({}, "0", "0.00 EUR per hour, 0.00 EUR per month", id="nothing -> nothing"),
        pytest.param(needs("1", "0", "0"), "0.03", "0.0300 EUR per hour, 21.90 EUR per month", id="one core"),
        pytest.param(needs("0", "1", "0"), "0.004", "0.0040 EUR per hour, 2.92 EUR per month", id="one GiB of memory"),
        pytest.param(needs("0", "0", "10"), "0.001", "0.0010 EUR per hour, 0.73 EUR per month", id="ten GiB on disk"),
        pytest.param(needs("2.5", "3", "20"), "0.089", "0.0890 EUR per hour, 64.97 EUR per month", id="all of it"),
        pytest.param(needs("40", "80", "0"), "1.52", "1.52 EUR per hour, 1109.60 EUR per month", id="a large one"),
    ],
)
def test_an_hour_costs_what_is_needed_all_the_time(needed: dict[str, Decimal], expected: str, said: str) -> None:
    found = cost(needed, PRICES)
    assert (found.per_hour, str(found)) == (Decimal(expected), said)


def test_the_parts_are_told_apart() -> None:
    assert cost(needs("2", "3", "4"), PRICES) == Cost(Decimal("0.06"), Decimal("0.012"), Decimal("0.0004"), "EUR")


@settings(deadline=None, max_examples=50)
@given(*[st.integers(0, 10**15)] * 4)
def test_two_environments_cost_the_sum(cpu: int, memory: int, more_cpu: int, more_memory: int) -> None:
    def price(cores: int, size_bytes: int) -> Decimal:
        return cost({"requests.cpu": Decimal(cores), "requests.memory": Decimal(size_bytes)}, PRICES).per_hour

    apart = price(cpu, memory) + price(more_cpu, more_memory)
    assert abs(price(cpu + more_cpu, memory + more_memory) - apart) < Decimal("1e-9")


@pytest.mark.parametrize(
    "wrong",
    [{"cpu": -1}, {"memory": "nan"}, {"storage": "inf"}, {"cpu": 1_000_001}, {"currency": "euro"}, {"gpu": 1}],
    ids=str,
)
def test_a_wrong_price_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Prices.model_validate(wrong)


def test_prices_are_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("platform: {prices: {cpu: 0.03, memory: 0.004, storage: 0.0001, currency: CHF}}")
    assert load_settings(file).platform.prices == PRICES.model_copy(update={"currency": "CHF"})
    assert load_settings(None).platform.prices is None
    monkeypatch.setenv("ENVPROV_PLATFORM__PRICES__CPU", "0.05")
    assert load_settings(None).platform.prices == Prices(cpu=Decimal("0.05"))
    file.write_text("platform: {prices: {cpu: -1}}")
    monkeypatch.delenv("ENVPROV_PLATFORM__PRICES__CPU")
    with pytest.raises(ConfigError, match=r"platform\.prices\.cpu: "):
        load_settings(file)
