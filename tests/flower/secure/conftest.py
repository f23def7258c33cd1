import pytest

pytest.importorskip("flwr", reason="Flower is an extra")
pytest.importorskip("cryptography", reason="secure aggregation needs the extra 'secure'")
