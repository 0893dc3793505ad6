"""Runs WebAssembly modules of strangers in locked-down worker processes, metered and repeatable."""
