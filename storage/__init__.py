"""How datasets are stored: prepared by tfds, kept decoded, streamed from the disk."""
