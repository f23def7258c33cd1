"""A communication hook for DDP programs: every compressor, with error feedback."""

from saddlebag.client.ddp.hook import CompressionState, attach, compress

__all__ = ["CompressionState", "attach", "compress"]
