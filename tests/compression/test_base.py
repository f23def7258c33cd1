from __future__ import annotations

from saddlebag.compression import Identity, Natural, RandK, TopK, UnscaledRandK, errors_average, kind_of


def test_kind_names_the_declared_constants() -> None:
    assert kind_of(RandK(k=1)) == kind_of(Natural()) == "unbiased"
    assert kind_of(TopK(k=1)) == kind_of(UnscaledRandK(k=1)) == "contractive"
    assert kind_of(Identity()) == "unbiased and contractive"


def test_errors_average_unless_the_draws_are_common() -> None:
    assert errors_average(RandK(k=1))
    assert errors_average(Natural())
    assert not errors_average(RandK(k=1, support="common"))
