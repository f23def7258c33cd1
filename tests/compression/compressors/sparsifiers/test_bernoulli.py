from __future__ import annotations

import numpy as np
import pytest

from saddlebag.compression import Bernoulli, Draws
from saddlebag.compression.compressors.sparsifiers.bernoulli import bernoulli_at
from saddlebag.errors import ConfigError, NotFiniteError


@pytest.mark.parametrize("probability", [0.125, 0.5, 1.0])
def test_unbiased_with_omega_attained(probability: float) -> None:
    x_D = np.array([1.0, -2.0, 0.0, 8.0])
    sent, silent = bernoulli_at(x_D, 0.0, probability).dense(), bernoulli_at(x_D, probability, probability).dense()
    assert not silent.any()
    assert np.array_equal(probability * sent + (1 - probability) * silent, x_D)
    error2 = probability * ((sent - x_D) ** 2).sum() + (1 - probability) * ((silent - x_D) ** 2).sum()
    assert error2 == Bernoulli(probability=probability).omega(4) * (x_D @ x_D)


def test_silence_is_a_message_without_coordinates() -> None:
    payload = bernoulli_at(np.ones(5), 0.9, 0.5)
    assert payload.dimension == 5
    assert len(payload.index_K) == 0


@pytest.mark.parametrize("coin", ["own", "common"])
def test_the_coin_is_ones_own_or_shared(coin: str) -> None:
    compressor = Bernoulli(probability=0.5, coin=coin)
    sent_RM = np.array(
        [[compressor.encode(np.ones(1), Draws(0, round_, m)).dense()[0] > 0 for m in (0, 1)] for round_ in range(200)]
    )
    assert abs(sent_RM.mean() - 0.5) < 6 * 0.5 / np.sqrt(200)
    assert (sent_RM[:, 0] == sent_RM[:, 1]).all() == (coin == "common")
    assert compressor.common_draws == (coin == "common")


def test_faults_are_named() -> None:
    with pytest.raises(ConfigError, match=r"bernoulli.probability must lie in \(0, 1\], got 0"):
        Bernoulli(probability=0)
    with pytest.raises(ConfigError, match=r"bernoulli.coin must be 'own' or 'common', got 'fair'"):
        Bernoulli(probability=0.5, coin="fair")  # type: ignore[arg-type]
    for round_ in range(20):  # whether or not it would be sent
        with pytest.raises(NotFiniteError):
            Bernoulli(probability=0.5).encode(np.array([np.nan]), Draws(0, round_, 0))
