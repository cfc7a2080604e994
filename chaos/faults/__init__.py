"""What breaks things, by what it breaks."""
