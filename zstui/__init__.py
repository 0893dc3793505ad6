"""zstui: lend and rent computing time between your own machines, from a terminal."""

__version__ = "0.1.0"
