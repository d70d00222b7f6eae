"""How datasets are stored: prepared by tfds, cached as arrays, streamed from the disk."""
