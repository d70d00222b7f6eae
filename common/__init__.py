"""What every command needs: flags, errors, files, the look of pictures."""
