import pytest

pytest.importorskip("cryptography", reason="secure aggregation needs the extra 'secure'")
