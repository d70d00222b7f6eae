"""What several commands need: flags, errors, files, child processes, pictures, charts."""
