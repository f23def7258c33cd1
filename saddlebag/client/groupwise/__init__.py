"""The client of the prediction service, and its shards."""

from saddlebag.client.groupwise.client import GroupwiseClient, Predicted, PredictionStream
from saddlebag.client.groupwise.shards import JoinedPrediction, ShardedClient

__all__ = ["GroupwiseClient", "JoinedPrediction", "Predicted", "PredictionStream", "ShardedClient"]
