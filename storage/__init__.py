"""The storage of datasets: prepared by tfds, cached as arrays, streamed from the disk."""
