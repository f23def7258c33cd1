from __future__ import annotations

import numpy as np
import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.rehearsal.links import Links, Spread, links_from_dict


def test_a_file_is_read_in_the_units_that_people_write() -> None:
    links = links_from_dict(
        {
            "link": {
                "up": "8M",
                "down": {"median": "12.5MB/s", "spread": 2},
                "latency": "20ms",
                "loss": 0.01,
                "resend": "0.5s",
            },
            "server": {"bandwidth": "1G"},
            "step": {"time": {"median": "50ms"}, "stragglers": 0.1, "factor": 5},
            "failures": {"hours": 24, "away": "60s"},
        }
    )
    assert links == Links(
        up=Spread(1e6),
        down=Spread(1.25e7, 2.0),
        latency=Spread(0.02),
        loss=0.01,
        resend_s=0.5,
        server=1.25e8,
        step=Spread(0.05),
        stragglers=0.1,
        factor=5.0,
        hours=24.0,
        away=Spread(60.0),
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"link": {"upp": "8M"}}, "link.upp.*did you mean 'link.up'"),
        ({"links": {"up": "8M"}}, "links.up"),
        ({"link": 3}, "link must be a table"),
        ({"link": {"up": 8}}, "link.up must be a rate"),
        ({"link": {"up": {"spread": 2}}}, "link.up needs a median"),
        ({"link": {"up": {"median": "8M", "spread": 0.5}}}, r"link.up.spread must be a number from 1 to 100, got 0.5"),
        ({"link": {"loss": 0.9}}, "link.loss must be a number from 0 to 0.5"),
        ({"link": {"latency": {"median": "1ms", "wide": 3}}}, "link.latency has no key 'wide'"),
        ({"failures": {"hours": True}}, "failures.hours must be a number"),
    ],
)
def test_what_is_wrong_is_named(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        links_from_dict(table)


def test_a_spread_is_a_factor_around_the_median() -> None:
    """68.3 % of a log-normal lie within a factor: 6 sigma of 20,000 draws are 2 points."""
    drawn = Spread(10.0, 2.0).draw(np.random.default_rng(0), 20_000)
    assert abs(np.mean((drawn > 5) & (drawn < 20)) - 0.683) < 0.02
    assert abs(np.mean(drawn > 10) - 0.5) < 0.021
    assert (Spread(10.0).draw(np.random.default_rng(0), 5) == 10.0).all()
