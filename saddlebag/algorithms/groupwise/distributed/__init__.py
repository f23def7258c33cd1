"""Groups over machines: shards, blocks, federations, and experts that are clients."""
