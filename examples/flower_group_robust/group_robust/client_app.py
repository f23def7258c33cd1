"""A client: it takes part in whatever recipe the server sends, with its own share of the rows."""

from __future__ import annotations

from saddlebag.flower import method_app

app = method_app()
