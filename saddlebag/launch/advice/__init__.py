"""What to expect of compressors and links: listing, inspection, measurement, advice."""
