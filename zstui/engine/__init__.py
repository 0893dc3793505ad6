"""The peer engine. It knows nothing of any user interface and runs headless."""
