"""What a run shows, writes and keeps."""
